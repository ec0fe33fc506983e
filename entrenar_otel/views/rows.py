"""Rows: the points of one attempt as they grow; what was there is not copied again for what comes."""

from __future__ import annotations

from typing import Any

import numpy as np
from entrenar_processors.samples import Column

_LEAST_ROOM = 1 << 10


class Rows:
    """Columns with room for more. What `column` gave stays as it was, whatever is added.

    >>> rows = Rows()
    >>> one = Column(*(np.arange(1),) * 5, np.array([0.5]))
    >>> rows.add(one)
    >>> before = rows.column()
    >>> rows.add(one)
    >>> before.values.tolist(), rows.column().values.tolist()
    ([0.5], [0.5, 0.5])
    """

    def __init__(self) -> None:
        self.count = 0
        self._arrays: tuple[Any, ...] = ()

    def add(self, rows: Column) -> None:
        """Append rows. The first ones are taken as they are: nobody may write into those arrays any more."""
        end = self.count + len(rows.values)
        if not self._arrays:
            self._arrays, self.count = tuple(rows), end
            return
        if end > len(self._arrays[0]):
            # half as much again: each row is copied twice or so, however the rows come
            room = max(_LEAST_ROOM, end + end // 2)
            grown = tuple(np.empty(room, dtype=array.dtype) for array in self._arrays)
            for new, old in zip(grown, self._arrays, strict=True):
                new[: self.count] = old[: self.count]
            self._arrays = grown
        for array, values in zip(self._arrays, rows, strict=True):
            array[self.count : end] = values
        self.count = end

    def replace(self, rows: Column) -> None:
        """Have these rows and no others, in arrays of their own."""
        self.count, self._arrays = 0, ()
        self.add(rows)

    def column(self) -> Column:
        """All rows, as views."""
        return Column(*(array[: self.count] for array in self._arrays))
