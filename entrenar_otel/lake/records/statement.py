"""Statement: what a process says of itself in its lock's file, for whoever finds it dead.

Which lake it records into and as what (`record`, once the lake has said which attempt it is, and always the
whole `run`, for a lake that has not said so or has lost its record), and, once it has come to that, how the
run ended (`end`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from entrenar_otel.lake.records.runs import (
    COMPLETED,
    CRASHED,
    STOPPED,
    RunRecord,
    attempt_in,
    document_of,
    record_from,
)


def statement_of(lake: str, record: RunRecord, end: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the process of this record says; `end` is of `end_of`."""
    claimed = {"record": record.name} if record.is_claimed else {}
    ended = {} if end is None else {"end": end}
    return {"lake": lake, **claimed, "run": document_of(record), **ended}


def record_said(statement: dict[str, Any]) -> RunRecord | None:
    """The record as its process wrote it into its lake; None where it had not come to that."""
    run, name = record_from(statement.get("run")), statement.get("record")
    if run is None or not isinstance(name, str):
        return None
    claimed = replace(run, attempt=attempt_in(name))
    return claimed if claimed.name == name else None


def end_of(state: str, reason: str | None, at: datetime, dropped: int) -> dict[str, Any]:
    """How a run ended, as its process says it before the lake is asked to take it."""
    return {"state": state, "reason": reason, "at": at.isoformat(), "dropped": dropped}


def ended_as_said(record: RunRecord, statement: dict[str, Any]) -> RunRecord | None:
    """The record as the process said that its run ended; None where it did not come to that."""
    end: Any = statement.get("end")
    try:
        if end["state"] not in (COMPLETED, STOPPED, CRASHED):
            return None
        reason = None if end["reason"] is None else str(end["reason"])
        at, dropped = datetime.fromisoformat(end["at"]), int(end["dropped"])
    except (KeyError, TypeError, ValueError):
        return None
    return record.ended(end["state"], at, reason, dropped)
