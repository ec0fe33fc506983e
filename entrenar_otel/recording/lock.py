"""Lock: which process owns which files, told by `flock`."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Descriptors of this process's own locks.
_held: set[int] = set()


class ProcessLock:
    """`PROCESS.lock` in the live folder: held as long as the process records, free when it is dead."""

    def __init__(self, folder: Path, process: str) -> None:
        self.path = folder / f"{process}.lock"
        self._fd = create_locked(self.path)

    def describe(self, data: Mapping[str, Any]) -> None:
        """Say what recovery must know: the lake, the run and its record there, and how it ended.

        In one write, over all that was said before.
        """
        if self._fd >= 0:
            text = json.dumps(data).encode()
            os.pwrite(self._fd, text.ljust(os.fstat(self._fd).st_size), 0)
            os.fsync(self._fd)

    def release(self, *, unlink: bool = True) -> None:
        """Give the lock back. With `unlink=False` the file stays: recovery, or the parent, needs it."""
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
    """A descriptor that holds the lock of a dead owner's file, or None: it lives, or is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
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
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
