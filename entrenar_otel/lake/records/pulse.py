"""Pulse: whether a run that says `running` still does, as far as this host can tell.

A running process rewrites a small file in the lake from time to time, its beat, so that it is seen to live
from hosts and containers that cannot see its lock. Only its silence proves nothing: it may be suspended, or
cut off from the lake.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from entrenar_otel.lake.records.runs import CRASHED, RUNNING, UNKNOWN, RunRecord, read_record
from entrenar_otel.lake.records.statement import ended_as_said
from entrenar_otel.lake.store.catalog import run_folder
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.recording.header import SegmentError
from entrenar_otel.recording.process.life import Hold, Life, LockFile
from entrenar_otel.recording.process.origin import Origin
from entrenar_otel.recording.segment import Snapshot

#: How often a process writes its beat, and for how long one is believed.
BEAT_SECONDS = 60.0
BELIEVED_SECONDS = 600.0
_MAX_BYTES = 4096
_SILENT = "nothing proves that its process is dead, and none was heard of lately; see `recover --force`"


def beat_name(day: str, run_id: str, process: str) -> str:
    """The file of a process's beat in the lake."""
    return f"{run_folder('beats', day, run_id)}/{process}.json"


def _beat_name(record: RunRecord) -> str:
    return beat_name(record.day, record.run_id, record.process)


def write_beat(storage: Storage, record: RunRecord) -> None:
    """Let others see that this process lives; not for the hot path, since a lake may hang."""
    document = {"at": time.time(), "origin": Origin.here().document()}
    storage.write_bytes(_beat_name(record), json.dumps(document).encode())


def remove_beat(storage: Storage, record: RunRecord) -> None:
    """The process lives no more: its record says how it ended."""
    storage.remove(_beat_name(record))


def _read_beat(storage: Storage, record: RunRecord) -> tuple[float, Origin | None]:
    """When a process was last heard of, in seconds since 1970, and where it runs."""
    at, origin = record.started_at.timestamp(), None
    try:
        document = json.loads(storage.read_bytes(_beat_name(record), _MAX_BYTES))
        origin = Origin.parse(document["origin"])
        at = max(at, float(document["at"]))
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass  # none yet, or of a version that wrote none
    return at, origin


def last_heard(storage: Storage, record: RunRecord) -> datetime:
    """When a process that has not closed its record was last heard of, by its own clock."""
    at = max(record.started_at.timestamp(), _read_beat(storage, record)[0])
    return datetime.fromtimestamp(at, UTC)


def lock_of(record: RunRecord) -> LockFile:
    """The lock of a record's process, as it is seen from here."""
    return LockFile.see(Path(record.live) / f"{record.process}.lock")


def life_of(storage: Storage, record: RunRecord) -> Life:
    """Whether the process of a record that says `running` lives."""
    lock = lock_of(record)
    if lock.hold is Hold.HELD:
        return Life.ALIVE
    at, origin = _read_beat(storage, record)
    life = lock.life(origin or _origin_in_segment(record))
    if life is Life.ALIVE:
        return life
    # A process closes its record before it releases its lock: it may have done both since.
    now = read_record(storage, record.name)
    if now is not None and now.state != RUNNING:
        return Life.ALIVE
    if life is Life.UNKNOWN and abs(time.time() - at) < BELIEVED_SECONDS:
        return Life.ALIVE
    return life


def _origin_in_segment(record: RunRecord) -> Origin | None:
    """Where a process says in its segments that it runs."""
    origins: list[Origin | None] = []

    def look(header: dict[str, object]) -> bool:
        origins.append(Origin.parse(header.get("origin")))
        return False

    try:
        for path in Path(record.live).glob(f"{record.process}-*.seg"):
            Snapshot.read(path, look)
            break
    except (OSError, SegmentError, ValueError):
        return None
    return origins[0] if origins else None


def is_dead(storage: Storage, record: RunRecord) -> bool:
    """Whether a run that says `running` has no process any more: whether that is proven."""
    return record.state == RUNNING and life_of(storage, record) is Life.DEAD


def as_seen(storage: Storage, record: RunRecord) -> RunRecord:
    """A record as it is shown: one that says `running` may be `crashed`, or `unknown`."""
    if record.state != RUNNING:
        return record
    life = life_of(storage, record)
    if life is Life.DEAD:
        gone = replace(record, state=CRASHED, reason="the process is gone; not recovered yet")
        return ended_as_said(record, lock_of(record).about) or gone
    return replace(record, state=UNKNOWN, reason=_SILENT) if life is Life.UNKNOWN else record
