"""Live folder: where samples lie until they are Parquet, and what waits there of processes that are dead."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrenar_processors.counts import counted

from entrenar_otel.doctor.check import Check, note, problem
from entrenar_otel.doctor.file_system import Abilities, existing, is_writable, probe
from entrenar_otel.doctor.surroundings import Surroundings
from entrenar_otel.lake.sql.limits import size_text
from entrenar_otel.recording.file_systems import largest_file
from entrenar_otel.recording.header import SegmentError
from entrenar_otel.recording.live_folder import default_live
from entrenar_otel.recording.process.life import Life, life_of_segment
from entrenar_otel.recording.process.lock import is_held
from entrenar_otel.recording.segment import SEGMENT_BYTES, Snapshot
from entrenar_otel.redact import without_credentials

_NAME = "live folder"
#: Two segments of a process are there at a time.
_PROCESS_BYTES = 2 * SEGMENT_BYTES
#: Of how many other lakes the names are told.
_MAX_LAKES = 3
_OTHER = "set ENTRENAR_LIVE to a folder on a local disk"


@dataclass
class Waiting:
    """What lies in a live folder, in files; bytes of what waits for somebody to act."""

    recording: int = 0
    unknown: int = 0
    unreadable: int = 0
    damaged: int = 0
    unsent_bytes: int = 0
    #: Segments of dead processes, by the lake that they are for.
    orphans: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, live: Path) -> Waiting:
        """Look at every segment's head, and take hold of none. Raises OSError."""
        found = cls()
        for name in sorted(os.listdir(live)):
            path = live / name
            if name.endswith(".seg"):
                found._look_at(path)
            elif name.endswith(".unsent"):
                found.unsent_bytes += _size(path)
            found.damaged += name.endswith(".damaged")
        return found

    def _look_at(self, path: Path) -> None:
        try:
            header = _header(path)
            if is_held(path):
                self.recording += 1
            elif life_of_segment(path, header) is Life.DEAD:
                self.orphans[without_credentials(str(header.get("lake", "")))] += 1
            else:
                self.unknown += 1
        except FileNotFoundError:  # it went into the lake just now
            return
        except (OSError, SegmentError, ValueError):
            self.unreadable += 1


def checks(around: Surroundings) -> Iterator[Check]:
    """Where it is, what its file system can do, and what waits. Raises OSError."""
    folder = default_live()
    if folder is None:
        yield note(
            _NAME,
            "there is no home folder: one in the temporary folder is used",
            "set ENTRENAR_LIVE",
            source=None,
        )
        return
    source = _source(around)
    facts: dict[str, Any] = {"location": str(folder), "source": source}
    there = existing(folder)
    if not is_writable(there):
        what = "is not writable" if there.is_dir() else "is not a folder"
        yield _instead(f"{folder} ({source}) cannot be used: {there} {what}", facts)
        return
    try:
        able = probe(there)
    except OSError as error:
        text = f"{folder} ({source}) cannot hold files: {error.strerror}"
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        yield problem(_NAME, text, f"make room, or {_OTHER}", **facts) if is_full else _instead(text, facts)
        return
    facts |= {"file_system": able.kind, "free_bytes": able.free_bytes, "may_be_mapped": able.maps}
    is_new = "" if there == folder else ": the first run makes it"
    yield _place(f"{folder} ({source}){is_new}; {able.room}", able, facts)
    yield _abilities(able)
    if there == folder:
        yield from _waiting(Waiting.of(folder), around)


def _instead(text: str, facts: dict[str, Any]) -> Check:
    """A run goes on all the same."""
    return note(_NAME, f"{text}; a private one in the temporary folder is used", _OTHER, **facts)


def _source(around: Surroundings) -> str:
    names = ("ENTRENAR_LIVE", "XDG_STATE_HOME")
    return next((name for name in names if around.environ.get(name)), "the default")


def _place(text: str, able: Abilities, facts: dict[str, Any]) -> Check:
    if able.free_files == 0 or able.free_bytes < _PROCESS_BYTES:
        return problem(
            _NAME,
            f"{text}: no room for {size_text(_PROCESS_BYTES)} per process",
            f"make room, or {_OTHER}",
            **facts,
        )
    limit = largest_file()
    if limit is not None and limit < SEGMENT_BYTES:
        return note(
            _NAME,
            f"{text}; files may have {size_text(limit)} at most (ulimit -f)",
            f"allow {size_text(SEGMENT_BYTES)}: smaller segments become more files",
            **facts,
        )
    return Check(_NAME, text, facts=facts)


def _abilities(able: Abilities) -> Check:
    facts = {"tried": list(able.tried), "failed": able.failed}
    if able.failed:
        told = ", ".join(f"no {name} ({why})" for name, why in able.failed.items())
        return problem("its abilities", told, _OTHER, **facts)
    if not able.maps:
        return note(
            "its abilities",
            f"{able.able}; segments are written, not mapped: {able.kind or 'it'} moves what is written",
            f"a call of log costs a system call more; {_OTHER} (ext4, xfs, tmpfs)",
            **facts,
        )
    return Check("its abilities", f"{able.able}; segments are mapped", facts=facts)


def _waiting(found: Waiting, around: Surroundings) -> Iterator[Check]:
    facts = {"recording": found.recording, "unknown": found.unknown}
    living = f"{counted(found.recording, 'segment')} of processes that record"
    if not (found.orphans or found.unknown or found.unreadable):
        yield Check("segments", living if found.recording else "none waits", facts=facts)
    yield from _orphans(found.orphans, around)
    if found.unknown:
        yield note(
            "segments",
            f"{counted(found.unknown, 'segment')} of processes of which nothing tells whether they live",
            "where you know that they are dead: entrenar-otel recover --force",
            **facts,
        )
    if found.unreadable:
        yield note(
            "segments",
            f"{counted(found.unreadable, 'file')} cannot be read as a segment",
            "entrenar-otel recover names them, and keeps them as *.damaged",
        )
    if found.damaged:
        yield note(
            "damaged",
            f"{counted(found.damaged, 'file')} that recovery found damaged",
            "what could be read of them is in the lake; remove *.damaged there when you need them no more",
        )
    if found.unsent_bytes:
        yield note(
            "unsent",
            f"{size_text(found.unsent_bytes)} wait to be sent by OTLP",
            "a run sends them when its endpoint answers; or now: entrenar-otel recover --send",
            unsent_bytes=found.unsent_bytes,
        )


def _orphans(orphans: Counter[str], around: Surroundings) -> Iterator[Check]:
    """What dead processes have left: for the lake that is looked at, and for all others together."""
    lake = around.lake[0]
    url = without_credentials(lake) if "://" in lake else os.path.realpath(lake)
    mine, others = orphans[url], {name: count for name, count in orphans.items() if name != url}
    if mine:
        yield note(
            "left behind",
            f"{counted(mine, 'segment')} of dead processes, for this lake",
            "its next run brings them in; or now: entrenar-otel recover",
            segments=mine,
        )
    if others:
        names = sorted(others)[:_MAX_LAKES]
        more = f" and {len(others) - len(names)} more" if len(others) > len(names) else ""
        yield note(
            "left behind",
            f"{counted(sum(others.values()), 'segment')} of dead processes, for {', '.join(names)}{more}",
            f"the next run there brings them in; or now: entrenar-otel recover --lake {names[0]}",
            segments=others,
        )


def _header(path: Path) -> dict[str, Any]:
    """What a segment says of itself, without reading it. Raises OSError, SegmentError."""
    heads: list[dict[str, Any]] = []

    def refuse(header: dict[str, Any]) -> bool:
        heads.append(header)
        return False

    Snapshot.read(path, refuse)
    return heads[0]


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
