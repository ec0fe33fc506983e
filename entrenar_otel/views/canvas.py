"""Canvas: lines as signs of a terminal, eight dots to a sign in Braille, or one in plain ASCII."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from entrenar_processors.samples import Floats
from numpy.typing import NDArray

Dots = NDArray[np.bool_]

#: The bit of each dot in a sign of Braille, by row and column.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint16)
_BLANK = 0x2800
#: The signs of the lines in ASCII; what two have in common gets the last one's.
ASCII_SIGNS = "*ox+#@%&"


class Canvas:
    """A field of `width` × `height` signs. Places are from 0 to 1, to the right and upwards.

    >>> canvas = Canvas(4, 1, ascii_only=True)
    >>> canvas.line(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    >>> signs, owner = canvas.cells()
    >>> [chr(sign) for sign in signs[0]], owner.tolist()
    (['*', '*', '*', '*'], [[0, 0, 0, 0]])
    """

    def __init__(self, width: int, height: int, *, ascii_only: bool = False) -> None:
        self.width, self.height = width, height
        self._ascii = ascii_only
        self._wide, self._high = (1, 1) if ascii_only else (2, 4)
        self._layers: list[Dots] = []

    @property
    def columns(self) -> int:
        """How many columns of dots there are."""
        return self.width * self._wide

    def line(self, x: Floats, y: Floats) -> None:
        """Draw a line through points `(n,)` in the order of `x`; it is broken where `y` is not finite.

        Of each column the least and the greatest value are drawn, and all between them.
        """
        dots = np.zeros((self.height * self._high, self.columns), dtype=bool)
        self._layers.append(dots)
        finite = np.isfinite(y) & np.isfinite(x)
        if not finite.any():
            return
        stretch = np.cumsum(~finite).astype(np.int64)[finite]
        column = np.clip((x[finite] * self.columns).astype(np.int64), 0, self.columns - 1)
        row = np.clip((y[finite] * (len(dots) - 1)).round().astype(np.int64), 0, len(dots) - 1)
        low = np.full(self.columns, len(dots))
        high = np.full(self.columns, -1)
        np.minimum.at(low, column, row)
        np.maximum.at(high, column, row)
        self._connect(column, row, stretch, low, high)
        rows = np.arange(len(dots))[:, None]
        dots |= ((rows >= low) & (rows <= high))[::-1]

    @staticmethod
    def _connect(
        column: NDArray[np.int64], row: NDArray[np.int64], stretch: NDArray[np.int64], low: NDArray[np.int64],
        high: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """From each point to the next one, where they are not of one column."""
        starts = np.flatnonzero((np.diff(column) > 0) & (np.diff(stretch) == 0))
        if not len(starts):
            return
        halves = 2 * (column[starts + 1] - column[starts])
        counts = halves + 1
        half = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        first, rise = row[starts], row[starts + 1] - row[starts]
        path = np.repeat(first, counts) + half * np.repeat(rise / halves, counts)
        ends = np.round(path).astype(np.int64)
        begin = np.repeat(column[starts], counts)
        for between in (begin + half // 2, begin + (half + 1) // 2):  # what lies between two is of both
            np.minimum.at(low, between, ends)
            np.maximum.at(high, between, ends)

    def cells(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The code points of the signs, from the top, and of each the line that is seen there, or -1."""
        signs = np.full((self.height, self.width), ord(" "), dtype="<u4")
        owner = np.full((self.height, self.width), -1)
        bits = np.zeros((self.height, self.width), dtype=np.uint16)
        for number, dots in enumerate(self._layers):
            cells = dots.reshape(self.height, self._high, self.width, self._wide)
            hit = cells.any(axis=(1, 3))
            owner[hit] = number
            if self._ascii:
                signs[hit] = ord(ASCII_SIGNS[number % len(ASCII_SIGNS)])
            else:
                bits |= (cells * _BITS[None, :, None, :]).sum(axis=(1, 3)).astype(np.uint16)
        if not self._ascii:
            seen = owner >= 0
            signs[seen] = _BLANK | bits[seen]
        return signs, owner


def sparkline(values: Sequence[float] | Floats, width: int, *, ascii_only: bool = False) -> str:
    """A curve in one row of signs, where there is room for no more."""
    bars = "_.-=+*#" if ascii_only else "▁▂▃▄▅▆▇█"
    y = np.asarray(values, dtype=np.float64)
    finite = y[np.isfinite(y)]
    if not len(finite) or width < 1:
        return ""
    low, high = float(finite.min()), float(finite.max())
    stretches = np.array_split(y, min(width, len(y)))
    texts = []
    for stretch in stretches:
        kept = stretch[np.isfinite(stretch)]
        share = (float(kept.max()) - low) / (high - low) if len(kept) and high > low else 0.0
        texts.append(bars[round(share * (len(bars) - 1))] if len(kept) else "!")
    return "".join(texts)
