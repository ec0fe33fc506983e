"""Hand-over: a segment becomes Parquet files of the lake."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from entrenar_otel.lake.catalog import run_folder
from entrenar_otel.lake.journal import TABLES, Journal, event_rows, span_rows
from entrenar_otel.lake.rows import metric_tables
from entrenar_otel.lake.schema import METRICS, Owner
from entrenar_otel.lake.storage import Storage
from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.segment import HEADER_BYTES, Segment


def data_name(table: str, day: str, run_id: str, process: str, number: int) -> str:
    """The name of the file of a table that a segment becomes."""
    return f"{run_folder(table, day, run_id)}/{process}-{number:06d}.parquet"


def hand_over(storage: Storage, segment: Segment, day: str, owner: Owner) -> int:
    """Write the owner's own sealed segment into the lake; returns its number of rows.

    The caller then unlinks it. An empty segment writes nothing.
    """
    layouts: dict[int, Layout] = {}
    decoded = decode(
        segment.words(),
        layouts,
        start=HEADER_BYTES,
        end=segment.seal(),
        first_seq=segment.first_seq,
        clock_ns=int(segment.header["clock_ns"]),
        verify=False,
    )
    process, number = segment.header["process"], int(segment.header["number"])

    def write(table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        storage.write(data_name(table, day, owner.run_id, process, number), schema, batches)

    journal = Journal.of(decoded.notes)
    if journal.events:
        write("events", TABLES["events"], event_rows(journal.events, owner).to_batches())
    if journal.ended:  # those still open are in the next segment
        write("spans", TABLES["spans"], span_rows(journal.ended, owner).to_batches())
    if len(decoded.samples):
        write("metrics", METRICS, metric_tables(decoded.samples, owner))
    return decoded.samples.n_values
