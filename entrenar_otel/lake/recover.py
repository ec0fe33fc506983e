"""Recovery: what dead processes left on this host is brought into the lake, and their runs are closed.

It is the hand-over (hand_over.py) of segments whose owner is gone: a file that is there already is left
as it is, unless spans are ended here that the owner could not end.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.lake.hand_over import file_name, tables_of
from entrenar_otel.lake.incident import bring_in
from entrenar_otel.lake.records import pulse
from entrenar_otel.lake.records.dead import Dead
from entrenar_otel.lake.records.pulse import life_of, remove_beat
from entrenar_otel.lake.records.runs import (
    CRASHED,
    RUNNING,
    RunRecord,
    find_records,
    new_record,
    read_record,
    record_from,
    record_name,
    write_record,
)
from entrenar_otel.lake.records.statement import ended_as_said, record_said
from entrenar_otel.lake.records.writer import claim_on_the_spot
from entrenar_otel.lake.sql.live import LiveSegment, decode_snapshot, read_segment, segment_paths
from entrenar_otel.lake.store.catalog import list_folder, list_pruned, run_folder
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.journal import Document, close_span
from entrenar_otel.recording.header import NewerFormat, SegmentError
from entrenar_otel.recording.plain_file import is_plain, temporaries_of
from entrenar_otel.recording.process.life import Hold, Life, LockFile, lock_of
from entrenar_otel.recording.process.lock import try_lock
from entrenar_otel.recording.process.origin import is_local
from entrenar_otel.recording.segment import Snapshot
from entrenar_otel.recording.unsent import keep_unsent

#: Why a dead process's run and spans ended.
_REASON = "the process ended without closing its run"


@dataclass(frozen=True)
class Recovered:
    """What recovery did with one segment of a dead process."""

    path: Path
    run_id: str
    attempt: int
    rank: int
    rows: int
    damage: str | None
    #: Spans that were open when the process died, as documents with the end given to them here.
    spans: tuple[Document, ...] = ()


def recover(storage: Storage, live: Path, *, force: bool = False) -> Iterator[Recovered]:
    """Bring the segments of dead processes into their lake, and close their runs as `crashed`.

    What may belong to a living process is left alone, and said; `force` takes a process for dead that was
    neither seen nor heard of. So is what a later version wrote. A file that is not a segment is renamed to
    `*.damaged`, never deleted; what is no file is left where it is.
    """
    dead = Dead(storage, force=force)
    for path in list(live.glob(".*.new")):
        if (fd := try_lock(path)) is not None:  # a successor that was never used
            if is_local(path):  # else its owner may hold it where locks do not reach
                path.unlink(missing_ok=True)
            os.close(fd)
    ended: dict[str, datetime] = {}
    records: dict[str, str] = {}
    left: set[str] = set()  # processes of which a segment stays
    for path in segment_paths(live):
        process = path.stem.rpartition("-")[0]
        if (fd := try_lock(path)) is None:
            if path.exists() and not is_plain(path):
                name_skipped(path, f"{path} is not a file: it is left alone")
            continue
        try:
            result = _recover_one(storage, path, dead)
        except NewerFormat as error:
            left.add(process)
            name_skipped(path, error)
            continue
        except SegmentError as error:
            _set_aside(path, error)
            continue
        finally:
            os.close(fd)
        if result is not None:
            done, last, name = result
            ended[process] = max(last, ended.get(process, last))
            records[process] = name
            yield done
    # while the locks still prove who is dead
    bring_in(storage, live, dead, lambda document: _goes_to(storage, document))
    _close_dead(storage, live, ended, dead, left)
    for process, name in records.items():  # where the lock was gone before
        record = None if process in left else read_record(storage, name)
        if record is not None and record.process == process:
            _close(storage, record, ended, {})
    dead.say_left()


def _goes_to(storage: Storage, where: Mapping[str, Any]) -> bool:
    """Whether a segment, or what a process said of itself, is for this lake.

    A run that the lake has never answered could not ask what the lake's own name is.
    """
    lake = str(where.get("lake", ""))
    if lake == storage.url:
        return True
    is_unanswered = where.get("attempt") == 0 or ("run" in where and "record" not in where)
    return is_unanswered and storage.is_local and os.path.realpath(lake) == storage.url


def _claimed(storage: Storage, snapshot: Snapshot) -> int:
    """The attempt of a process that died before it had one."""
    header, run = snapshot.header, record_from(LockFile.see(lock_of(snapshot.path)).about.get("run"))
    if run is None or run.process != snapshot.process:
        run = replace(
            new_record(
                run_id=header["run_id"],
                rank=int(header["rank"]),
                world_size=int(header["rank"]) + 1,
                day=header["day"],
                config=None,
                model_id=None,
                version=None,
                process=snapshot.process,
                live=str(snapshot.path.parent),
            ),
            started_at=datetime.fromtimestamp(snapshot.path.stat().st_mtime, UTC),
            argv=[],
            pid=int(header.get("pid", 0)),
            git_commit=None,
        )
    return claim_on_the_spot(storage, run).attempt


def _set_aside(path: Path, error: SegmentError) -> None:
    """Keep a file that is no segment under a name by which nobody takes it for one."""
    kept = path.with_suffix(".damaged")
    try:
        path.rename(kept)
    except OSError as why:  # something of this name is there that no file can replace
        name_skipped(path, error, f"it could not be renamed to {kept}: {why.strerror}")
    else:
        logger.warning("%s; kept as %s", error, kept)


def _recover_one(storage: Storage, path: Path, dead: Dead) -> tuple[Recovered, datetime, str] | None:
    def is_wanted(header: Mapping[str, Any]) -> bool:
        return _goes_to(storage, header) and dead.has_written(path, dict(header))

    snapshot = read_segment(path, is_wanted)
    if snapshot is None:
        return None
    if snapshot.header["attempt"] == 0:
        snapshot.header["attempt"] = _claimed(storage, snapshot)
    segment = decode_snapshot(snapshot)
    header, owner, journal = snapshot.header, segment.owner, segment.journal
    closed: list[Document] = []
    if journal.open and _is_last(storage, snapshot):
        closed = [close_span(span, _last_ns(segment), _REASON) for span in journal.open]
    journal = replace(journal, ended=[*journal.ended, *closed])
    for table, schema, batches in tables_of(journal, segment.samples, owner):
        folder = run_folder(table, header["day"], owner.run_id)
        files = list_folder(storage, folder)
        if table == "metrics":
            files += list_pruned(storage, header["day"], owner.run_id)
        there = [f for f in files if f.holds(snapshot.process, snapshot.number)]
        # A file of spans may be of its owner's own hand-over, which knows of no spans closed here
        is_stale = table == "spans" and closed and there and there[0].first == there[0].last
        if not there or is_stale:
            name = file_name(table, header["day"], owner.run_id, snapshot.process, snapshot.number)
            storage.write(name, schema, batches)
    if segment.damage_note:
        logger.warning("%s", segment.damage_note)
        keep_unsent(path, header, copy=True)
        _keep_evidence(path)
    elif not keep_unsent(path, header):
        path.unlink(missing_ok=True)
    done = Recovered(
        path,
        owner.run_id,
        owner.attempt,
        owner.rank,
        segment.samples.n_values,
        segment.damage_note,
        tuple(closed),
    )
    name = record_name(header["day"], owner.run_id, owner.attempt, owner.rank)
    return done, datetime.fromtimestamp(_last_ns(segment) / 1e9, UTC), name


def _keep_evidence(path: Path) -> None:
    """Keep a damaged segment under another name: perhaps more can be read from it."""
    kept = path.with_suffix(".damaged")
    try:
        path.replace(kept)
    except OSError as error:
        logger.warning("%s could not be kept as %s: %s", path, kept, error.strerror)
        path.unlink(missing_ok=True)


def _last_ns(segment: LiveSegment) -> int:
    """The latest time in a segment, in nanoseconds since 1970."""
    return max([segment.journal.last_ns, *(int(block.time_ns.max()) for block in segment.samples.blocks)])


def _is_last(storage: Storage, snapshot: Snapshot) -> bool:
    """Whether the process wrote no later segment: not in the live folder, nor in the lake since.

    In this order: another process may recover the later one meanwhile. Then spans open here have
    their ends in its file; it left no file only if it had none.
    """
    process, number = snapshot.process, snapshot.number
    for path in segment_paths(snapshot.path.parent):
        name, _, other = path.stem.rpartition("-")
        if name == process and other.isdecimal() and int(other) > number:
            return False
    header = snapshot.header
    return not any(
        file.process == process and file.last > number
        for table in ("spans", "events", "metrics")
        for file in list_folder(storage, run_folder(table, header["day"], header["run_id"]))
    )


def _close_dead(storage: Storage, live: Path, ended: dict[str, datetime], dead: Dead, left: set[str]) -> None:
    """Close the records of dead processes, and remove their locks, but of those in `left`."""
    for path in live.glob("*.lock"):
        if path.stem in left or (fd := try_lock(path)) is None:
            continue
        try:
            lock = LockFile.read(path, fd, Hold.FREE)
            about = lock.about
            if ("lake" in about and not _goes_to(storage, about)) or not dead.has_locked(lock):
                continue
            name = about.get("record")
            if isinstance(name, str):
                record = read_record(storage, name)
                if record is None and path.stem in ended and not storage.size_bytes(name):
                    record = record_said(about)  # somebody has removed it: these rows would be of no run
            elif (run := record_from(about.get("run"))) is not None:  # the lake had not answered yet
                record = claim_on_the_spot(storage, run) if run.process == path.stem else None
            else:  # it died before it could say so: without its lock, nothing would prove that
                record = next(
                    (candidate for candidate in find_records(storage) if candidate.process == path.stem), None
                )
            if record is not None and record.process == path.stem:
                _close(storage, record, ended, about)
            for suffix in (".control", ".paused", ".lock"):  # commands to it, and what it said of itself
                with contextlib.suppress(OSError):  # such as a folder of that name
                    path.with_suffix(suffix).unlink(missing_ok=True)
            for begun in temporaries_of(live, f"{glob.escape(path.stem)}-*.incident"):
                begun.unlink(missing_ok=True)
        finally:
            os.close(fd)


def close_all_dead(storage: Storage, *, force: bool = False) -> None:
    """Close every run record of the lake whose process is gone; slow in a large lake.

    `force` also takes for gone what was neither seen nor heard of.
    """
    gone = (Life.DEAD, Life.UNKNOWN) if force else (Life.DEAD,)
    for record in find_records(storage):
        if record.state == RUNNING and life_of(storage, record) in gone:
            _close(storage, record, {}, pulse.lock_of(record).about)


def _close(storage: Storage, record: RunRecord, ended: dict[str, datetime], about: dict[str, Any]) -> None:
    """Close a record: as its process said that the run ended, else as crashed."""
    if record.state == RUNNING:
        at = max(ended.get(record.process, record.started_at), record.started_at)
        write_record(storage, ended_as_said(record, about) or record.ended(CRASHED, at, _REASON))
    remove_beat(storage, record)
