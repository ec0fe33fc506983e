"""Records: what the sink knows of a run, as the run's record in the lake."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from entrenar_otel.lake.records.runs import (
    COMPLETED,
    CRASHED,
    ELSEWHERE,
    RUNNING,
    STOPPED,
    RunRecord,
    claim,
    write_record,
)
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.otel.otlp import names
from entrenar_otel.sink.decoding.arrived import FromProcess
from entrenar_otel.sink.decoding.sender import MAX_ID, Process, time_of
from entrenar_otel.sink.decoding.values import text, whole

#: Instead of a configuration and a command line that did not leave their host.
WITHHELD = "withheld"
#: A process that says it has a later attempt than this gets the next free number.
_MAX_ATTEMPT = 1_000_000
_MAX_32 = (1 << 31) - 1
_MAX_ARGUMENTS = 1024
_SILENT = "nothing heard for "


def stems_of(process: Process) -> tuple[str, str]:
    """What a process is called in the names of files: as it calls itself, or, where another of its run is
    called that, with a hash."""
    digest = hashlib.sha256(repr(tuple(process)).encode()).hexdigest()[:12]
    return process.process, f"{process.process}.{digest}"


def own_record(there: Iterable[RunRecord], process: Process) -> RunRecord | None:
    """Of the records of a run, the one of this process."""
    stems = stems_of(process)
    return next(
        (
            record
            for record in there
            if record.run_id == process.run_id and record.rank == process.rank and record.process in stems
        ),
        None,
    )


def claim_record(storage: Storage, come: FromProcess, stem: str, there: Iterable[RunRecord]) -> RunRecord:
    """Give a process an attempt: the one that it says, where no other of its run and rank has that.

    `there` are the records of its run.
    """
    record = _first_record(come, stem)
    wanted = come.sender.attempt
    if 0 < wanted <= _MAX_ATTEMPT:
        taken = {other.attempt for other in there if other.rank == record.rank}
        if wanted not in taken:
            try:
                write_record(storage, chosen := replace(record, attempt=wanted), exclusive=True)
                return chosen
            except FileExistsError:  # something odd of that name
                pass
    return claim(storage, record)


def _first_record(come: FromProcess, stem: str) -> RunRecord:
    """What is known of a run by its resource, and by how it started where it has told that already."""
    created = come.sender.created or moment(come.first_ns)
    return with_facts(
        RunRecord(
            run_id=come.process.run_id,
            attempt=0,
            rank=come.process.rank,
            world_size=come.process.rank + 1,
            started_at=created,
            day=created.strftime("%Y-%m-%d")
            if created.year >= 1970
            else moment(come.first_ns).strftime("%Y-%m-%d"),
            config=json.dumps(WITHHELD),
            config_hash="",
            process=stem,
            live=ELSEWHERE,
            argv=[WITHHELD],
        ),
        {**come.sender.resource, **(come.started or {})},
    )


def with_facts(record: RunRecord, attributes: Mapping[str, Any]) -> RunRecord:
    """The record with what `training.run.started`, or a resource, says of the run."""
    given: dict[str, Any] = {
        "started_at": time_of(attributes.get(names.STARTED_AT)),
        "world_size": whole(attributes.get(names.WORLD_SIZE), _MAX_32),
        "config_hash": text(attributes.get(names.CONFIG_HASH), MAX_ID),
        "model_id": text(attributes.get(names.MODEL_ID), MAX_ID),
        "version": text(attributes.get(names.MODEL_VERSION), MAX_ID),
        "git_commit": text(attributes.get(names.GIT_COMMIT), MAX_ID),
        "python": text(attributes.get(names.PYTHON), MAX_ID),
        "host": text(attributes.get(names.HOST), MAX_ID),
        "pid": whole(attributes.get(names.PID), _MAX_32),
        "config": _json(attributes.get(names.CONFIG)),
        "argv": _arguments(attributes.get(names.ARGV)),
    }
    return replace(record, **{name: value for name, value in given.items() if value})


def _json(value: Any) -> str:
    try:
        json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return ""
    return str(value)


def _arguments(value: Any) -> list[str]:
    return (
        [item for item in value[:_MAX_ARGUMENTS] if isinstance(item, str)] if isinstance(value, list) else []
    )


def ended(record: RunRecord, attributes: Mapping[str, Any]) -> RunRecord:
    """The record as `training.run.ended` says that the run ended."""
    state = attributes.get(names.STATE)
    at = time_of(attributes.get(names.ENDED_AT)) or moment(whole(attributes.get("time_ns")) or 0)
    reason = text(attributes.get(names.REASON), 1 << 16) or None
    return record.ended(
        state if state in (COMPLETED, STOPPED, CRASHED) else CRASHED,
        max(at, record.started_at),
        reason,
        whole(attributes.get(names.DROPPED)) or 0,
    )


def silent(record: RunRecord, heard_ns: int, seconds: float) -> RunRecord:
    """The record of a run that has said nothing for so long."""
    at = max(moment(heard_ns), record.started_at)
    return record.ended(CRASHED, at, f"{_SILENT}{seconds:,.0f} s")


def is_silent(record: RunRecord) -> bool:
    """Whether it is over only because nothing was heard of it."""
    return record.state == CRASHED and (record.reason or "").startswith(_SILENT)


def speaking(record: RunRecord) -> RunRecord:
    """The record of a run that was silent and speaks again."""
    return replace(record, state=RUNNING, reason=None, ended_at=None)


def moment(time_ns: int) -> datetime:
    """A time in nanoseconds since 1970 as a date, to the microsecond."""
    seconds, rest = divmod(min(time_ns, 1 << 62), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def samples_of(attributes: Mapping[str, Any]) -> str:
    """How a run's samples leave: `blocks`, `events` or `off`; empty where it does not say."""
    value = attributes.get(names.SAMPLES)
    return value if value in ("blocks", "events", "off") else ""
