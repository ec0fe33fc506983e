"""Parked: the bytes of a sealed segment on the disk alone, while it waits for a lake that is away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Parked:
    """The bytes of a file that is read anew each time."""

    grows = False
    writer = None
    failure: OSError | None = None

    def __init__(self, path: Path, size: int) -> None:
        self.size = size
        self._path = path

    def write(self, _record: bytes) -> None:
        """Nothing is written to it any more."""
        raise ValueError("data out of range")

    def put(self, _at: int, _data: bytes) -> None:
        """Nor in its header."""
        raise ValueError("the segment is parked")

    def restart(self, _at: int) -> None:
        """It has ended."""

    def stop(self) -> None:
        """It has ended."""

    def position(self) -> int:
        """Where it ends."""
        return self.size

    def words(self) -> NDArray[np.uint64]:
        """All 64-bit words, a copy. Raises FileNotFoundError."""
        return np.fromfile(self._path, dtype="<u8")

    def prefault(self, start: int, length: int) -> None:
        """Nothing is mapped."""

    def close(self) -> None:
        """Nothing is open."""
