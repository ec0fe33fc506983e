"""Hand-over: a segment becomes Parquet files of the lake, which are named after it.

One file per table: events, spans, and metrics last, so that a file of metrics says that all of its segment
is in the lake. Each is written under a temporary name, synced and renamed; only then is the segment
unlinked. Killed anywhere in between, the same steps lead to the same files again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
from entrenar_processors import Samples
from entrenar_processors.stats.arrays import give_way

from entrenar_otel.clock import Era
from entrenar_otel.lake.store.catalog import run_folder
from entrenar_otel.lake.store.storage import Rows, Storage
from entrenar_otel.lake.tables.journal import Journal, event_rows, span_rows
from entrenar_otel.lake.tables.rows import metric_tables
from entrenar_otel.lake.tables.schema import EVENTS, METRICS, SPANS, Owner
from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.segment import HEADER_BYTES, Segment, eras_of


def file_name(table: str, day: str, run_id: str, process: str, number: int) -> str:
    """The name of the file that a segment becomes in a table."""
    return f"{run_folder(table, day, run_id)}/{process}-{number:06d}.parquet"


def tables_of(
    journal: Journal, samples: Samples, owner: Owner
) -> Iterator[tuple[str, pa.Schema, Iterable[Rows]]]:
    """The tables that a segment has rows for, in the order in which they must be written."""
    if journal.events:
        yield "events", EVENTS, event_rows(journal.events, owner).to_batches()
    if journal.ended:  # those still open are in the next segment
        yield "spans", SPANS, span_rows(journal.ended, owner).to_batches()
    if len(samples):
        yield "metrics", METRICS, metric_tables(samples, owner)


def hand_over(
    storage: Storage, segment: Segment, day: str, owner: Owner, eras: Sequence[Era] | None = None
) -> int:
    """Write the owner's own sealed segment into the lake; returns its number of metric rows.

    The caller then unlinks it. An empty segment writes nothing, nor does one that lay parked and is gone:
    somebody took this process for dead, and has brought it in. `eras` of the owner's clock: it may have
    found in a later segment that the machine's clock was set in this one.
    """
    try:
        words = segment.words()
    except FileNotFoundError:
        return 0
    eras = eras_of(segment.header) if eras is None else eras
    layouts: dict[int, Layout] = {}
    decoded = decode(
        words,
        layouts,
        start=HEADER_BYTES,
        end=segment.seal(),
        first_seq=segment.first_seq,
        eras=eras,
        verify=False,
    )
    process, number = segment.header["process"], int(segment.header["number"])
    for table, schema, batches in tables_of(Journal.of(decoded.notes), decoded.samples, owner):
        give_way(len(decoded.samples))
        storage.write(file_name(table, day, owner.run_id, process, number), schema, batches)
    return decoded.samples.n_values
