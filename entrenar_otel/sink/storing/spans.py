"""Spans: each is stored once; one that comes again and ends later takes the place of its row."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from entrenar_otel.lake.store.catalog import DataFile, list_folder, run_folder
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.journal import Document, span_key, span_rows
from entrenar_otel.lake.tables.schema import SPANS, Owner, conform
from entrenar_otel.sink.known.database import KnownProcess


def replace_spans(
    storage: Storage, known: KnownProcess, owner: Owner, later: Iterable[tuple[int, Document]]
) -> None:
    """Put these in the place of the rows that have their ids, each in the file of this number.

    Done again after a kill, it makes the same files. Raises OSError, LakeError.
    """
    by_file: dict[DataFile, list[Document]] = {}
    documents_of = list(later)
    files = list_folder(storage, run_folder("spans", known.day, owner.run_id)) if documents_of else []
    for number, document in documents_of:
        for file in files:
            if file.holds(known.stem, number):
                by_file.setdefault(file, []).append(document)
    for file, documents in by_file.items():
        where, filesystem = storage.location(file.name), getattr(storage, "filesystem", None)
        try:
            rows = conform(pq.read_table(where, filesystem=filesystem, partitioning=None), SPANS)
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            name_skipped(
                where, f"{where} cannot be read, so spans in it keep the end that they have: {error}"
            )
            continue
        gone = {span_key(document) for document in documents}
        ids = zip(rows.column("trace_id").to_pylist(), rows.column("span_id").to_pylist(), strict=True)
        kept = rows.filter(pa.array([key not in gone for key in ids], pa.bool_())).cast(SPANS)
        whole = pa.concat_tables([kept, span_rows(documents, owner)]).sort_by("start_time")
        storage.write(file.name, SPANS, whole.combine_chunks().to_batches())
