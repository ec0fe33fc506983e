"""Journal: the notes of a segment as rows of the tables `events` and `spans`.

Notes are user input. A field that is missing or invalid gets a default here: a row that cannot be
written would keep its whole segment out of the lake forever.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from entrenar_otel.lake.tables.schema import EVENTS, SPANS, Owner
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED, Note

Document = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """The notes of a segment, by kind."""

    events: list[Document]
    ended: list[Document]
    #: Started in (or before) this segment and not ended in it.
    open: list[Document]
    last_ns: int

    @classmethod
    def of(cls, notes: Iterable[Note]) -> Journal:
        events, ended, started, last = [], [], {}, 0
        for note in notes:
            document = note.document
            last = max(last, *(_whole(document.get(key)) or 0 for key in ("start_ns", "end_ns", "time_ns")))
            if note.kind == EVENT:
                events.append(document)
            elif note.kind == SPAN_STARTED:
                started[span_key(document)] = document
            elif note.kind == SPAN_ENDED:
                ended.append(document)
                started.pop(span_key(document), None)
        return cls(events, ended, list(started.values()), last)


def span_key(document: Document) -> tuple[str, str]:
    """What identifies a span in all its notes and rows."""
    return _text(document.get("trace_id")) or "", _text(document.get("span_id")) or ""


def close_span(document: Document, at_ns: int, reason: str) -> Document:
    """The end that a dead process could not write."""
    end = max(at_ns, _whole(document.get("start_ns")) or 0)
    given = document.get("attributes")
    attributes = {**(given if isinstance(given, dict) else {}), "error.type": "_OTHER"}
    end_fields = {"status": "ERROR", "status_message": reason, "attributes": attributes, "events": []}
    return {**document, "end_ns": end, **end_fields}


def event_rows(documents: Iterable[Document], owner: Owner) -> pa.Table:
    """Events as rows of `events`, in the order of their times."""
    rows = [
        {
            "timestamp": _time(event.get("time_ns")),
            **_owner(owner),
            "name": _text(event.get("name")) or "",
            "severity": _text(event.get("severity")) or "INFO",
            "body": _text(event.get("body")),
            "epoch": _whole(event.get("epoch"), 31),
            "batch": _whole(event.get("batch"), 31),
            "step": _whole(event.get("step")),
            "trace_id": _text(event.get("trace_id")),
            "span_id": _text(event.get("span_id")),
            "attributes": _attributes(event),
        }
        for event in documents
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["timestamp"]), schema=EVENTS)


def span_rows(documents: Iterable[Document], owner: Owner) -> pa.Table:
    """Started or ended spans as rows of `spans`, in the order of their starts."""
    rows = []
    for span in documents:
        start, end = _whole(span.get("start_ns")) or 0, _whole(span.get("end_ns"))
        trace_id, span_id = span_key(span)
        rows.append(
            {
                "start_time": _time(start),
                "end_time": None if end is None else _time(end),
                "duration_seconds": None if end is None else (end - start) / 1e9,
                **_owner(owner),
                "name": _text(span.get("name")) or "",
                "kind": _text(span.get("kind")) or "INTERNAL",
                "trace_id": trace_id,
                "span_id": span_id,
                "parent_span_id": _text(span.get("parent_span_id")),
                "status": _text(span.get("status")) or "UNSET",
                "status_message": _text(span.get("status_message")),
                "scope": _text(span.get("scope")) or "",
                "attributes": _attributes(span),
                "events": [
                    {
                        "timestamp": _time(event.get("time_ns")),
                        "name": _text(event.get("name")) or "",
                        "attributes": _attributes(event),
                    }
                    for event in _documents(span.get("events"))
                ],
                "links": [
                    dict(zip(("trace_id", "span_id"), span_key(link), strict=True))
                    | {"attributes": _attributes(link)}
                    for link in _documents(span.get("links"))
                ],
            }
        )
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["start_time"]), schema=SPANS)


def _owner(owner: Owner) -> dict[str, Any]:
    return {"run_id": owner.run_id, "attempt": owner.attempt, "rank": owner.rank}


def _whole(value: Any, bits: int = 63) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << bits
    return value if fits else None


def _time(value: Any) -> int:
    """Nanoseconds as the column's microseconds."""
    return (_whole(value) or 0) // 1000


def _text(value: Any) -> str | None:
    """Text as it is, anything else as JSON text; UTF-8 in any case."""
    if value is None:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value.encode("utf-8", "backslashreplace").decode()  # type: ignore[no-any-return]


def _attributes(document: Document) -> list[tuple[str, str]]:
    given = document.get("attributes")
    if not isinstance(given, dict):
        return []
    pairs = {_text(key) or "": _text(value) for key, value in given.items()}
    return [(key, "null" if value is None else value) for key, value in pairs.items()]


def _documents(value: Any) -> Iterator[Document]:
    return (
        (document for document in value if isinstance(document, dict))
        if isinstance(value, list)
        else iter(())
    )
