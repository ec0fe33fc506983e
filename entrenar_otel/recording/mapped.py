"""Mapped: the bytes of a segment in memory, where its file system writes allocated blocks in place.

`write` is one C call that checks the room, copies and advances, all under the GIL; it raises ValueError,
having written nothing, when the record does not fit. It is the mmap's own method, or where the native core is
the writer's, which keeps the position instead of the mmap: then the native `log` writes there too.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from typing import TYPE_CHECKING

import entrenar_native
import numpy as np
from numpy.typing import NDArray

from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.process.lock import OwnedFile

if TYPE_CHECKING:
    from entrenar_native._core import Writer

_MADV_POPULATE_WRITE = 23
_PREFAULT_CHUNK = 1 << 20
#: What is written first, before anything is prefaulted: the header, and layouts mostly.
_BEGINNING = 64 << 10


class Mapped:
    """The bytes of a file that is `size` long.

    The blocks are allocated before they are mapped: writing to a sparse mapping on a full disk is a SIGBUS,
    which would kill the training.
    """

    #: The file has its full length from the beginning.
    grows = False
    #: Why nothing can be written any more, where it is not that the file is full.
    failure: OSError | None = None

    def __init__(self, file: OwnedFile, size: int) -> None:
        os.posix_fallocate(file.fileno(), 0, size)
        self.size, self._file = size, file
        self._read_ahead(0, _BEGINNING)
        # mmap keeps a duplicate of its descriptor until the last view of it dies. One that shared
        # the lock could keep it in a forked child, and the parent would seem to live for ever.
        with open(file.name, "rb+", buffering=0) as other:
            self.map = mmap.mmap(other.fileno(), size)
        #: What the native core's own calls write to; it keeps the position, where it is.
        self.writer: Writer | None = (
            None if entrenar_native.core is None else entrenar_native.core.Writer(self.map)
        )
        self.write = self.map.write if self.writer is None else self.writer.write

    def restart(self, at: int) -> None:
        """Write from this byte on."""
        if self.writer is None:
            self.map.seek(at)
        elif self.writer.at >= 0:
            self.writer.at = at
        else:
            raise ValueError("the segment is closed")

    def position(self) -> int:
        """Where the next record will be written."""
        if self.writer is None:
            return self.map.tell()
        at: int = self.writer.at
        if at < 0:
            raise ValueError("the segment is closed")
        return at

    def stop(self) -> None:
        """Refuse all further writes."""
        self.restart(self.size)

    def put(self, at: int, data: bytes) -> None:
        """Write in a place of its own, for the header."""
        self.map[at : at + len(data)] = data

    def words(self) -> NDArray[np.uint64]:
        """All 64-bit words, a view; release it before `close`."""
        return np.frombuffer(self.map, dtype="<u8")

    def prefault(self, start: int, length: int) -> None:
        """Have the kernel map these bytes before the loop touches them.

        In pieces, since Python holds the GIL meanwhile.
        """
        at, stop = start // mmap.PAGESIZE * mmap.PAGESIZE, min(start + length, self.size)
        while at < stop:
            try:
                length = min(_PREFAULT_CHUNK, stop - at)
                self._read_ahead(at, length)
                self.map.madvise(_MADV_POPULATE_WRITE, at, length)
            except (OSError, ValueError):  # a kernel before 5.14 faults page by page; or just closed
                return
            at += _PREFAULT_CHUNK
            time.sleep(0)

    def _read_ahead(self, at: int, length: int) -> None:
        """Have the kernel make the pages of these bytes, without the GIL.

        Else the first touch of new blocks reads ahead 4 MB: 1.5 ms, and up to 30 ms where the disk is busy.
        """
        try:
            os.posix_fadvise(self._file.fileno(), at, length, os.POSIX_FADV_WILLNEED)
        except OSError as error:  # it is advice: a file system, or a sandbox, may not take it
            if from_outside(error):
                raise

    def close(self) -> None:
        """Unmap."""
        if self.writer is not None:
            self.writer.close()
        with contextlib.suppress(BufferError):  # a view is still alive: freed with it
            self.map.close()
