"""Bitmaps: which numbers are there already, where they leave many gaps: wide events of one set of tags.

A bit for each number, in chunks that are read when a number of theirs comes. A pattern that repeats, as loops
make them, is some bytes when it is compressed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

_SHIFT = 16
_BYTES = (1 << _SHIFT) // 8
#: Of one roll; what a loop logs lies in a few.
MAX_CHUNKS = 4_000


class Scattered(ValueError):
    """Numbers so far from each other that no loop has counted them."""


class Bitmaps:
    """A set of whole numbers. `load` has a chunk as `changed` made it, or None.

    >>> known = Bitmaps(lambda chunk: None)
    >>> known.add_numbers(np.array([1, 3, 1 << 40]))
    >>> known.known(np.array([0, 1, 2, 3, 1 << 40])).tolist()
    [False, True, False, True, True]
    """

    def __init__(self, load: Callable[[int], bytes | None]) -> None:
        self._load = load
        self._chunks: dict[int, NDArray[np.uint8]] = {}
        self._changed: set[int] = set()

    def known(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of each number whether it is there. Raises Scattered."""
        found = np.zeros(len(numbers), bool)
        for chunk, rows in self._by_chunk(numbers):
            bits = np.unpackbits(self._chunk(chunk), bitorder="little")
            found[rows] = bits[numbers[rows] & (1 << _SHIFT) - 1]
        return found

    def add_numbers(self, numbers: NDArray[np.int64]) -> None:
        """Add these. Raises Scattered."""
        for chunk, rows in self._by_chunk(numbers):
            bits = np.unpackbits(self._chunk(chunk), bitorder="little")
            bits[numbers[rows] & (1 << _SHIFT) - 1] = 1
            self._chunks[chunk] = np.packbits(bits, bitorder="little")
            self._changed.add(chunk)

    def changed(self) -> Iterator[tuple[int, bytes]]:
        """The chunks that numbers were added to, to be kept."""
        for chunk in sorted(self._changed):
            yield chunk, zlib.compress(self._chunks[chunk].tobytes(), 1)

    def _by_chunk(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        chunks = numbers >> _SHIFT
        order = np.argsort(chunks, kind="stable")
        starts = np.flatnonzero(np.diff(chunks[order], prepend=-1))
        if len(starts) > MAX_CHUNKS:
            raise Scattered(f"its seq is scattered over {len(starts):,} stretches of {1 << _SHIFT:,}")
        for rows in np.split(order, starts[1:]) if len(order) else ():
            yield int(chunks[rows[0]]), rows

    def _chunk(self, chunk: int) -> NDArray[np.uint8]:
        if chunk not in self._chunks:
            kept = self._load(chunk)
            raw = bytes(_BYTES) if kept is None else zlib.decompress(kept)
            self._chunks[chunk] = np.frombuffer(raw, np.uint8)
        return self._chunks[chunk]
