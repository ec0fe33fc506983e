"""Lock: which process owns which files, told by `flock`."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from entrenar_otel.recording.plain_file import open_plain

#: Descriptors of this process's own locks.
_held: set[int] = set()


class ProcessLock:
    """`PROCESS.lock` in the live folder: held as long as the process records, free when it is dead."""

    def __init__(self, folder: Path, process: str) -> None:
        self.path = folder / f"{process}.lock"
        self._fd = create_locked(self.path)

    def describe(self, data: dict[str, str]) -> None:
        """Say what recovery must know: the lake, and the name of the run's record in it."""
        os.pwrite(self._fd, json.dumps(data).encode(), 0)

    def release(self, *, unlink: bool = True) -> None:
        """Give the lock back; a forked child closes its copy only (`unlink=False`)."""
        if unlink:
            self.path.unlink(missing_ok=True)
        if self._fd >= 0:
            let_go(self._fd)
            self._fd = -1


def create_locked(path: Path) -> int:
    """A descriptor of a new file that holds its lock."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            _held.add(fd)
            return fd
        os.close(fd)  # between open and lock, somebody's recovery took it for a dead process's


def let_go(fd: int) -> None:
    """Close a descriptor, and with it give its lock back."""
    _held.discard(fd)
    os.close(fd)


def let_go_after_fork() -> None:
    """In a forked child, close also what another thread of the parent held at that moment."""
    for fd in tuple(_held):
        let_go(fd)


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a dead owner's file, or None: it lives, is gone, or is none."""
    try:
        fd = open_plain(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:  # handed over between open and lock
        os.close(fd)
        return None
    return fd


def owner_is_alive(path: Path) -> bool:
    """Whether some process holds the lock of this segment."""
    try:
        fd = open_plain(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
