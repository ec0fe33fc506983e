"""Appended: the bytes of a segment in a file that is written by calls, where a mapping is not safe.

Each record is one `write` of the operating system, which also moves the position: what it has taken is in
the page cache, as a mapped record is, and survives the process. A disk that is full says so here by an
error, where a mapping would kill the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading

import numpy as np
from numpy.typing import NDArray

from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.file_systems import reserve
from entrenar_otel.recording.process.lock import OwnedFile


class Appended:
    """The bytes of a file that grows up to `size`.

    A record that could not be written in whole ends it: nothing is written behind it, and it is not kept.
    """

    grows = True
    #: Nothing for the native core to write to.
    writer = None

    def __init__(self, file: OwnedFile, size: int) -> None:
        reserve(file.fileno(), size)
        self.size = size
        self.failure: OSError | None = None
        self._file = file
        self._append = file.write
        self._at = self._limit = 0
        # Of one thread and its signal handlers; `stop` waits for a write that is on the way.
        self._lock = threading.RLock()
        self._copy = np.zeros(size // 8, dtype="<u8")  # of what was read back; costs memory page by page
        self._copied = 0

    def write(self, record: bytes) -> None:
        """Append a record. Raises ValueError, having kept nothing of it, where that cannot be."""
        with self._lock:
            begin = self._at
            if begin + len(record) > self._limit:  # up to `_append` nobody can come in between
                raise ValueError("data out of range")
            self._at += len(record)
            try:
                written = self._append(record)
            except OSError as error:
                if from_outside(error):
                    raise
                self._fail(begin, 0, error)
            else:
                if written == len(record):
                    return
                self._fail(begin, written or 0, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        raise ValueError("data cannot be written")

    def _fail(self, begin: int, written: int, error: OSError) -> None:
        self._limit, self.failure = 0, error.with_traceback(None)
        if written and self.position() == begin + written:  # else a signal handler has recorded meanwhile
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), begin)
                self._file.seek(begin)

    def restart(self, at: int) -> None:
        """Write from this byte on."""
        self._file.seek(at)
        self._at, self._limit = at, self.size

    def position(self) -> int:
        """Where the next record will be written."""
        return self._file.tell()

    def stop(self) -> None:
        """Refuse all further writes, and wait for one that is on the way."""
        with self._lock:
            self._limit = 0

    def put(self, at: int, data: bytes) -> None:
        """Write in a place of its own, for the header."""
        if os.pwrite(self._file.fileno(), data, at) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def words(self) -> NDArray[np.uint64]:
        """All 64-bit words, zero behind the last record; what was read once is not read again."""
        at, end = self._copied, min(self.position(), self.size)
        view = self._copy.data.cast("B")
        while at < end and (count := os.preadv(self._file.fileno(), [view[at:end]], at)):
            at += count
        self._copied = at // 8 * 8
        return self._copy

    def prefault(self, start: int, length: int) -> None:
        """Nothing is mapped."""

    def close(self) -> None:
        """The file is its owner's to close."""
        self._limit = 0
