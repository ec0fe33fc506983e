"""Recall: what a process has stored already, read from the lake's own rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from entrenar_otel.lake.store.catalog import DataFile, list_folder, list_pruned, run_folder
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.journal import Document, event_rows
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.sink.known.bitmaps import Bitmaps
from entrenar_otel.sink.known.database import Database, KnownProcess, Recall
from entrenar_otel.sink.known.intervals import Intervals

_ALL = (0, (1 << 62) + 1)
_NO_ONE = Owner("", 0, 0)


def recall(storage: Storage, database: Database, known: KnownProcess, number: int) -> None:
    """Read what files before this number hold of a process. Raises OSError, LakeError."""
    _recall_samples(storage, database, known, number)
    events: set[bytes] = set()
    for _, table in _tables(storage, "events", known, number, ["timestamp", "name", "body", "attributes"]):
        events.update(map(content_of_row, table.to_pylist()))
    spans = []
    for file, table in _tables(storage, "spans", known, number, ["trace_id", "span_id", "end_time"]):
        for row in table.cast(_SPAN_TIMES).to_pylist():
            spans.append(
                (span_digest(row["trace_id"], row["span_id"]), (row["end_time"] or 0) * 1000, file.last)
            )
    known.recall = Recall.DONE
    database.put(known)
    database.add_events(known.id, events)
    database.add_spans(known.id, spans)


_SPAN_TIMES = pa.schema([("trace_id", pa.string()), ("span_id", pa.string()), ("end_time", pa.int64())])


def _recall_samples(storage: Storage, database: Database, known: KnownProcess, number: int) -> None:
    run_id = known.process.run_id
    if any(file.process == known.stem for file in list_pruned(storage, known.day, run_id)):
        known.seqs = Intervals([_ALL])  # it is over; nothing tells what was pruned
        return
    for _, table in _tables(storage, "metrics", known, number, ["seq", "tags"]):
        seq = table.column("seq").to_numpy()
        known.seqs.add_numbers(seq)
        rows: dict[str, list[int] | slice] = {}
        tags = table.column("tags").combine_chunks()
        offsets = (tags if isinstance(tags, pa.MapArray) else tags.chunk(0)).offsets.to_numpy()
        if offsets[-1] == offsets[0]:  # by far the most
            rows[part_of(())] = slice(None)
        else:
            by_part: dict[str, list[int]] = {}
            for row, pairs in enumerate(tags.to_pylist()):
                by_part.setdefault(part_of(pairs), []).append(row)
            rows.update(by_part)
        for part, of_part in rows.items():
            bitmaps = bitmaps_of(database, known, part)
            bitmaps.add_numbers(seq[of_part])
            database.put_chunks(known.id, part, bitmaps.changed())


def is_pruned(known: KnownProcess) -> bool:
    """Whether all numbers count as stored, since nobody knows which were."""
    return list(known.seqs) == [_ALL]


def bitmaps_of(database: Database, known: KnownProcess, part: str) -> Bitmaps:
    """The numbers of a process's wide events with one set of tags."""
    return Bitmaps(lambda chunk: database.chunk(known.id, part, chunk))


def part_of(tags: Iterable[tuple[str, str]]) -> str:
    """The name of the part of a process's samples with these tags: of wide events, one comes for each."""
    return json.dumps(sorted(tags))


def _tables(
    storage: Storage, table: str, known: KnownProcess, number: int, columns: list[str]
) -> Iterator[tuple[DataFile, pa.Table]]:
    """The rows of a process's files, one after the other, but for those of this file of the log on."""
    for file in list_folder(storage, run_folder(table, known.day, known.process.run_id)):
        if file.process != known.stem or file.first >= number:
            continue
        where, filesystem = storage.location(file.name), getattr(storage, "filesystem", None)
        try:
            with pq.ParquetFile(where, filesystem=filesystem) as opened:
                for group in range(opened.num_row_groups):
                    yield file, opened.read_row_group(group, columns=columns)
        except (pa.ArrowInvalid, KeyError) as error:  # damaged: what it holds cannot be known
            name_skipped(where, f"{where} cannot be read, so its rows may come twice: {error}")


def span_digest(trace_id: str, span_id: str) -> bytes:
    """What a span is known by."""
    return hashlib.blake2b(f"{trace_id}:{span_id}".encode(), digest_size=16).digest()


def event_digest(identity: str) -> bytes:
    """What an event is known by that has an identity of its own."""
    return hashlib.blake2b(identity.encode(), digest_size=16).digest()


def contents_of(documents: list[Document]) -> list[bytes]:
    """What events are known by that have none, or whose rows were read from the lake."""
    numbered = ({**document, "epoch": number} for number, document in enumerate(documents))
    rows = event_rows(numbered, _NO_ONE).to_pylist()  # in the order of their times
    return [content_of_row(row) for row in sorted(rows, key=lambda row: row["epoch"])]


def content_of_row(row: dict[str, Any]) -> bytes:
    """The same of its row."""
    time = np.datetime64(row["timestamp"].replace(tzinfo=None), "us").astype(int)
    content = [int(time), row["name"], row["body"], sorted(row["attributes"])]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).digest()
