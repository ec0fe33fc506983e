"""Acknowledgements of one run, in shared memory that outlives a kill -9: a byte for each call of `log`."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Streams of a run: the main thread's, a second thread's, a signal handler's, a finaliser's.
STREAMS = 4
CALLS = 1 << 18
_HEAD = 4096
TRIED, ACKNOWLEDGED = 2, 1
RAISED, CAUGHT, DONE = range(3)

Bytes = NDArray[np.uint8]


class Acks:
    """The file of one run. Of each stream and call: 0 not tried, 2 tried, 1 `log` has returned."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            with path.open("xb") as file:
                os.truncate(file.fileno(), _HEAD + STREAMS * CALLS)
        with path.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def start(self, stream: int) -> int:
        """Where a stream's bytes begin in `map`."""
        return _HEAD + stream * CALLS

    @property
    def has_begun(self) -> bool:
        """Whether any call of the two loops has returned."""
        return ACKNOWLEDGED in (self.map[self.start(0)], self.map[self.start(1)])

    def count(self, what: int) -> int:
        return int(struct.unpack_from("<Q", self.map, 8 * what)[0])

    def add(self, what: int) -> None:
        # One store; struct.pack_into writes zeros first, and a kill may come between.
        memoryview(self.map)[8 * what : 8 * what + 8].cast("Q")[0] = self.count(what) + 1

    def copy(self) -> list[Bytes]:
        """The bytes of each stream at this moment."""
        return [
            np.frombuffer(self.map[self.start(stream) : self.start(stream) + CALLS], np.uint8)
            for stream in range(STREAMS)
        ]

    def acknowledged(self) -> int:
        """How many calls have returned."""
        return sum(int(np.count_nonzero(one == ACKNOWLEDGED)) for one in self.copy())
