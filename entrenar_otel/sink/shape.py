"""Shape: what is seen of a request without decoding its samples, so that its sender is told at once.

A block that passes here may still be invalid; the roll finds that out, and says so in the sink's output.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from entrenar_otel.otel.otlp.blocks import EVENT_NAME, SCOPE, VERSION
from entrenar_otel.otel.otlp.names import PROCESS_ID, WIDE_EVENT
from entrenar_otel.sink.decoding.foreign import MAX_SERIES
from entrenar_otel.sink.pieces import REQUESTS, TooLarge, pieces
from entrenar_otel.sink.refusal import Refusal, Why
from entrenar_otel.sink.request_log import Signal

#: Events and spans of runs in one request, which become rows all at once.
MAX_NOTES = 100_000
#: What a record other than a sample takes while it becomes a row.
NOTE_BYTES = 1024
#: A point takes at least that, of a series of its own.
_SERIES_BYTES = 8
_IDENTITY = ("training.run.id", "training.process.rank", PROCESS_ID)
#: Of each part of an identity, to count by.
_ENOUGH = 256
#: Callers take turns, since what is parsed takes many times its size.
parsing = threading.Lock()


@dataclass
class Look:
    """What was seen."""

    #: Invalid blocks; points beyond the series that a client may have; and what is wrong with the first.
    refused_blocks: int = 0
    refused_points: int = 0
    why: str = ""
    #: Run id, rank and name of the processes that sent it.
    processes: set[tuple[bytes, ...]] = field(default_factory=set)
    #: Records other than samples; of runs, and of all.
    run_notes: int = 0
    notes: int = 0


def look_at(signal: Signal, data: bytes) -> Look:
    """Look at a request and at its blocks. Raises Refusal where it is invalid."""
    look = Look()
    try:
        with parsing:
            if signal is Signal.METRICS:
                _look_at_metrics(look, data)
            else:
                _look_at_notes(look, signal, data)
    except TooLarge as error:
        raise Refusal(Why.TOO_LARGE, str(error)) from None
    except (DecodeError, RecursionError) as error:
        name = REQUESTS[signal].__name__
        raise Refusal(Why.INVALID, f"expected an {name} in protobuf: {error}") from None
    return look


def _look_at_notes(look: Look, signal: Signal, data: bytes) -> None:
    for resource, scopes in pieces(signal, data):
        process = _process_of(resource) if signal is Signal.LOGS else None
        if process is not None:
            look.processes.add(process)
        is_run = process is not None or (signal is Signal.TRACES and _is_run(resource))
        for scope, records in scopes:
            _look_at_records(look, signal, scope, records, is_run=is_run)


def _look_at_records(look: Look, signal: Signal, scope: Any, records: Any, *, is_run: bool) -> None:
    if signal is Signal.LOGS and scope.name == SCOPE:
        notes = 0
        for record in records:
            name = record.event_name
            if name != EVENT_NAME:
                notes += name != WIDE_EVENT
            elif problem := _problem_of(record):
                look.refused_blocks += 1
                look.why = look.why or problem
    else:
        notes = len(records)
    look.notes += notes
    look.run_notes += notes if is_run else 0
    if look.run_notes > MAX_NOTES:
        raise TooLarge(f"more than {MAX_NOTES:,} events or spans of runs: send smaller requests")


def _look_at_metrics(look: Look, data: bytes) -> None:
    """Count the points of clients that have more series than are stored of one.

    To tell series apart takes long: only those of clients with as many points are looked at.
    """
    crowded, may_be_crowded = set(), len(data) > MAX_SERIES * _SERIES_BYTES
    for number, (_, scopes) in enumerate(pieces(Signal.METRICS, data)):
        points = 0
        for _, metrics in scopes:
            look.notes += len(metrics)
            points += sum(map(len, map(_points_of, metrics))) if may_be_crowded else 0
        if points > MAX_SERIES:
            crowded.add(number)
    for number, (_, scopes) in enumerate(pieces(Signal.METRICS, data) if crowded else ()):
        if number not in crowded:
            continue
        series: set[int] = set()
        for metric in (metric for _, metrics in scopes for metric in metrics):
            for point in _points_of(metric):
                key = hash((metric.name, *(item.SerializeToString() for item in point.attributes)))
                if key not in series and len(series) >= MAX_SERIES:
                    look.refused_points += 1
                    look.why = f"more than {MAX_SERIES:,} series of one client"
                else:
                    series.add(key)


def _points_of(metric: Any) -> Sequence[Any]:
    kind = metric.WhichOneof("data")
    points: Sequence[Any] = getattr(metric, kind).data_points if kind is not None else ()
    return points


def _is_run(resource: Any) -> bool:
    return any(item.key == _IDENTITY[0] for item in resource.attributes)


def _process_of(resource: Any) -> tuple[bytes, ...] | None:
    """Who it is, if it is a process that records a run."""
    known = {item.key: item.value for item in resource.attributes if item.key in _IDENTITY}
    if _IDENTITY[0] not in known:
        return None
    return tuple(known[key].SerializeToString()[:_ENOUGH] if key in known else b"" for key in _IDENTITY)


def _problem_of(record: Any) -> str:
    if record.body.WhichOneof("value") != "bytes_value":
        return f"a block's body is bytes, this one's is {record.body.WhichOneof('value') or 'missing'}"
    size = len(record.body.bytes_value)
    if not size or size % 8:
        return f"a block is made of 8-byte words, this one has {size:,} bytes"
    numbers = {
        item.key: item.value.int_value
        for item in record.attributes
        if item.value.WhichOneof("value") == "int_value"
    }
    if missing := {"first_seq", "count", "clock_ns", "version"} - numbers.keys():
        return f"a block's attributes {', '.join(sorted(missing))} are missing, or no integers"
    if numbers["version"] != VERSION:
        return f"expected a block of version {VERSION}, got {numbers['version']}: a later sink reads it"
    if not (numbers["first_seq"] >= 0 and 0 < numbers["count"] <= size // 8):
        return f"first_seq {numbers['first_seq']} and count {numbers['count']} fit no block of {size:,} bytes"
    return ""
