"""Lock: which process owns which files, told by `flock`."""

from __future__ import annotations

import fcntl
import io
import json
import os
import threading
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_otel.recording.plain_file import open_plain
from entrenar_otel.recording.process.origin import Origin


class OwnedFile(io.FileIO):
    """A new file for its owner alone.

    Opened in one C call, and closed where it is dropped: an exception that comes out of a signal handler
    between two lines leaves no descriptor open.
    """

    #: Lives as long as somebody has the file, or is making it.
    token: object = None


#: This process's own locks, by descriptor.
_held_files: dict[int, weakref.ref[OwnedFile]] = {}
#: Files that are to go where nobody has them any more, by name. Not by a finalizer: what a signal handler
#: raised within it, Python would swallow.
_passing: dict[Path, weakref.ref[set[None]]] = {}
#: Held while a file is opened and noted: a fork in between would let a child hold its lock unknowingly.
_opening = threading.RLock()
_FORK_SECONDS = 1.0  # a file system may hang


class ProcessLock:
    """`PROCESS.lock` in the live folder: held as long as the process records, free when it is dead."""

    def __init__(self, folder: Path, process: str) -> None:
        self.path = folder / f"{process}.lock"
        self._file = create_locked(self.path)
        self._data: Mapping[str, Any] = {}
        self.describe({})

    def describe(self, data: Mapping[str, Any]) -> None:
        """Say what recovery must know: the lake, the run and its record there, and how it ended.

        And always where the process runs, and which file this is: a copy's lock says nothing. In one write,
        over all that was said before.
        """
        if self._file.closed:
            return
        self._data = data
        fd = self._file.fileno()
        file = os.fstat(fd)
        known = {"origin": Origin.here().document(), "file": [file.st_dev, file.st_ino]}
        os.pwrite(fd, json.dumps({**data, **known}).encode().ljust(file.st_size), 0)
        os.fsync(fd)

    def restore(self) -> None:
        """Where somebody has removed the file, make it again, and say the same in it. Raises OSError."""
        if not self._file.closed and os.fstat(self._file.fileno()).st_nlink == 0:
            removed, self._file = self._file, create_locked(self.path)
            let_go(removed)
            self.describe(self._data)

    def release(self, *, unlink: bool = True) -> None:
        """Give the lock back. With `unlink=False` the file stays: recovery, or the parent, needs it."""
        if unlink:
            self.path.unlink(missing_ok=True)
        let_go(self._file)


def create_locked(path: Path, *, passing: bool = False) -> OwnedFile:
    """A new file that holds its lock; one that is `passing` is removed where nobody keeps it, see `sweep`."""
    token: set[None] = set()
    if passing:
        sweep()
        _passing[path] = weakref.ref(token)
    while True:
        with _opening:
            file = OwnedFile(path, "xb+", opener=partial(os.open, mode=0o600))
            file.token = token
            _held_files[file.fileno()] = weakref.ref(file)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        let_go(file)  # between open and lock, somebody's recovery took it for a dead process's


def sweep() -> None:
    """Remove the passing files that were dropped where an exception came out of a signal handler."""
    for path, token in _passing.copy().items():  # making a list of pairs may collect garbage, and change it
        if token() is None:
            path.unlink(missing_ok=True)
            _passing.pop(path, None)


def let_go(file: OwnedFile) -> None:
    """Close a file, and with it give its lock back."""
    if not file.closed:
        _held_files.pop(file.fileno(), None)
        file.close()


def _before_fork() -> None:
    _forks.append(_opening.acquire(timeout=_FORK_SECONDS))


def _after_in_parent() -> None:
    if _forks.pop():
        _opening.release()


def _after_in_child() -> None:
    """Whatever the parent's threads held at that moment is the parent's, which else lived on in its child."""
    global _opening
    _opening = threading.RLock()
    _forks.clear()
    for held in list(_held_files.values()):
        if (file := held()) is not None:
            let_go(file)
    _held_files.clear()
    _passing.clear()


_forks: list[bool] = []
os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file, or None: it is held, gone, or somebody else's alone.

    That nobody held it does not prove that its owner is dead: `life` does.
    """
    try:
        fd = open_plain(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or on a file system without locks
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:  # handed over between open and lock
        os.close(fd)
        return None
    return fd


def is_held(path: Path) -> bool:
    """Whether some process is seen to hold the lock of this file. If not, it may live all the same."""
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
