"""Life: whether the process that left files here is alive, dead, or whether nothing here can tell.

Only a proof makes it dead, since what is dead is taken away from under it:

- its process is gone, seen in its own PID namespace and boot;
- its lock is free: the very file that it locked, on a file system of this machine's own, in the same boot;
- the machine has booted since, and its files lie on a file system of this machine's own.

A lock that cannot be found or opened proves nothing, nor does a free one where locks do not reach: another
machine's kernel may hold it.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from entrenar_otel.recording.plain_file import open_plain
from entrenar_otel.recording.process.origin import Origin, is_local

_MAX_BYTES = 1 << 20


class Life(StrEnum):
    """What is known of a process."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Hold(StrEnum):
    """What is seen of a lock."""

    HELD = "held"
    FREE = "free"
    MISSING = "missing"
    #: There is something that cannot be opened, or asked.
    CLOSED = "closed"


@dataclass(frozen=True)
class LockFile:
    """`PROCESS.lock` as others see it: whether it is held, and what its process said of itself."""

    path: Path
    hold: Hold
    about: dict[str, Any] = field(default_factory=dict)
    #: Whether it is the file that its process locked, and no copy of it.
    is_own: bool = False

    @classmethod
    def see(cls, path: Path) -> LockFile:
        """Look at a lock, without waiting for anything."""
        try:
            fd = open_plain(path)
        except FileNotFoundError:
            return cls(path, Hold.MISSING)
        except OSError:
            return cls(path, Hold.CLOSED)
        try:
            return cls.read(path, fd, _hold(fd))
        finally:
            os.close(fd)

    @classmethod
    def read(cls, path: Path, fd: int, hold: Hold) -> LockFile:
        """What is written in it; nothing if its process, or the machine, died before that."""
        try:
            about = json.loads(os.pread(fd, _MAX_BYTES, 0))
            status = os.fstat(fd)
        except (OSError, ValueError, RecursionError):
            about, status = None, None
        if not isinstance(about, dict):
            about = {}
        is_own = status is not None and about.get("file") == [status.st_dev, status.st_ino]
        return cls(path, hold, about, is_own)

    @property
    def process(self) -> str:
        return self.path.stem

    def life(self, origin: Origin | None = None, segment: Path | None = None) -> Life:
        """Whether its process lives. `origin` is what is known of that elsewhere, a segment's header say.

        `segment` is a file of that process which is seen beside the lock, and not held.
        """
        if self.hold is Hold.HELD:
            return Life.ALIVE
        origin = Origin.parse(self.about.get("origin")) or origin
        if origin is None:
            return self._life_without_origin(segment)
        running, here = origin.is_running(), Origin.here()
        if running is False:
            return Life.DEAD
        if origin.shares_boot(here):
            if self.hold is Hold.FREE and self.is_own and is_local(self.path):
                return Life.DEAD
            return Life.ALIVE if running else Life.UNKNOWN
        is_same_machine = bool(here.boot and origin.boot and here.machine) and here.machine == origin.machine
        seen = self.path if self.hold is Hold.FREE else segment
        if is_same_machine and seen is not None and is_local(seen):
            return Life.DEAD
        return Life.UNKNOWN

    def _life_without_origin(self, segment: Path | None) -> Life:
        """Of a version that did not say where it runs, or killed before: neither file is held here."""
        seen = self.path if self.hold is Hold.FREE else segment
        if seen is not None and self.hold is not Hold.CLOSED and is_local(seen):
            return Life.DEAD
        return Life.UNKNOWN


def _hold(fd: int) -> Hold:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Hold.HELD
    except OSError:  # no locks on this file system
        return Hold.CLOSED
    return Hold.FREE


def lock_of(segment: Path) -> Path:
    """The lock of the process that a segment is named after."""
    return segment.with_name(f"{segment.stem.rpartition('-')[0]}.lock")


def life_of_segment(segment: Path, header: dict[str, Any]) -> Life:
    """Whether the process that wrote a segment lives, where the segment itself is not held."""
    lock = LockFile.see(lock_of(segment))
    return lock.life(Origin.parse(header.get("origin")), segment)
