"""Samples: what a training loop reported, as coordinates and one float64 column per series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A coordinate that was not reported (every real one is >= 0).
ABSENT = -1


class Series(NamedTuple):
    """The identity of one series: its metric and its tags, sorted by key.

    >>> str(Series.of("accuracy", {"split": "validation"}))
    'accuracy{split="validation"}'
    """

    metric: str
    tags: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, metric: str, tags: Mapping[str, Any] | None = None) -> Series:
        return cls(metric, tuple(sorted((str(k), str(v)) for k, v in (tags or {}).items())))

    @classmethod
    def each_of(cls, metrics: Iterable[str], tags: Mapping[str, Any] | None = None) -> tuple[Series, ...]:
        """`of` each metric with the same tags, quicker for thousands.

        >>> Series.each_of(["loss", "accuracy"], {"split": "validation"})[1] == \
        ... Series.of("accuracy", {"split": "validation"})
        True
        """
        return tuple(map(tuple.__new__, repeat(cls), zip(metrics, repeat(cls.of("", tags).tags))))

    def __str__(self) -> str:
        if not self.tags:
            return self.metric
        inner = ",".join(f'{k}="{v}"' for k, v in self.tags)
        return f"{self.metric}{{{inner}}}"


@dataclass(frozen=True)
class Block:
    """`n` rows that all report the same `k` series.

    `time_ns`, `epoch`, `batch`, `step` and `seq` are `(n,)`; `values` is `(n, k)`. `time_ns` is wall
    time in nanoseconds since 1970 UTC. Absent coordinates are -1.
    """

    series: tuple[Series, ...]
    time_ns: Ints
    epoch: NDArray[np.int32]
    batch: NDArray[np.int32]
    step: Ints
    seq: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.seq)

    def copy(self) -> Block:
        """The same rows with values in memory of their own."""
        return replace(self, values=np.array(self.values))

    @cached_property
    def column_of(self) -> dict[Series, int]:
        return {series: i for i, series in enumerate(self.series)}


class Column(NamedTuple):
    """The rows of one series in recording order; every array is `(n,)`."""

    time_ns: Ints
    epoch: NDArray[np.int32]
    batch: NDArray[np.int32]
    step: Ints
    seq: Ints
    values: Floats

    def take(self, rows: slice | Ints) -> Column:
        """Some of the rows, by slice or index."""
        arrays: Any = (array[rows] for array in self)
        return Column(*arrays)

    @classmethod
    def concat(cls, parts: Iterable[Column]) -> Column:
        """The rows of all parts, one part after the other; a single part is not copied."""
        first, *others = parts
        if not others:
            return first
        arrays: Any = zip(first, *others, strict=True)
        return cls(*(np.concatenate(array) for array in arrays))


class Samples:
    """Rows of one process in recording order, held as one dense block per set of series.

    Loops report several sets (training metrics each step, validation each epoch); a block per
    set stays dense where one wide table would be mostly holes. `matrix` gives that wide table
    and its presence mask to a processor that wants it: a reported NaN is present.

    >>> s = Samples.from_columns({"loss": [0.5, 0.4]}, seq=[0, 1])
    >>> s.column(Series("loss")).values.tolist()
    [0.5, 0.4]
    """

    def __init__(self, blocks: Iterable[Block] = ()) -> None:
        self.blocks = tuple(block for block in blocks if len(block))

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[Any, ArrayLike],
        *,
        seq: ArrayLike | None = None,
        time_ns: ArrayLike | None = None,
        epoch: ArrayLike | None = None,
        batch: ArrayLike | None = None,
        step: ArrayLike | None = None,
    ) -> Samples:
        """Samples whose rows all report every column; columns are by name or Series, and of one length."""
        series = tuple(s if isinstance(s, Series) else Series(s) for s in columns)
        values = np.column_stack([np.asarray(v, dtype=np.float64) for v in columns.values()])
        n = len(values)

        def ints(given: ArrayLike | None, default: Any, dtype: Any = np.int64) -> Any:
            return np.asarray(given if given is not None else default, dtype=dtype)

        absent = np.full(n, ABSENT)
        seq_array = ints(seq, np.arange(n))
        return cls(
            [
                Block(
                    series,
                    time_ns=ints(time_ns, seq_array),
                    epoch=ints(epoch, absent, np.int32),
                    batch=ints(batch, absent, np.int32),
                    step=ints(step, absent),
                    seq=seq_array,
                    values=values,
                )
            ]
        )

    def __len__(self) -> int:
        """Number of rows (calls of `log`), not of values."""
        return sum(len(block) for block in self.blocks)

    @property
    def n_values(self) -> int:
        return sum(block.values.size for block in self.blocks)

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """Every series that was reported, sorted by metric, then tags."""
        return tuple(sorted({series for block in self.blocks for series in block.series}))

    @cached_property
    def _blocks_of(self) -> dict[Series, list[Block]]:
        blocks: dict[Series, list[Block]] = {}
        for block in self.blocks:
            for series in block.series:
                blocks.setdefault(series, []).append(block)
        return blocks

    def column(self, series: Series) -> Column:
        """The rows in which `series` was reported, in recording order."""
        parts = [
            Column(b.time_ns, b.epoch, b.batch, b.step, b.seq, b.values[:, b.column_of[series]])
            for b in self._blocks_of.get(series, ())
        ]
        if len(parts) == 1:
            return parts[0]
        if not parts:
            empty = np.empty(0, np.int64)
            empty32 = np.empty(0, np.int32)
            return Column(empty, empty32, empty32, empty, empty, np.empty(0, np.float64))
        whole = Column.concat(parts)
        return whole.take(np.argsort(whole.seq, kind="stable"))

    def columns(self) -> Iterator[tuple[Series, Column]]:
        """Every series with its rows, sorted by metric, then tags."""
        for series in self.series:
            yield series, self.column(series)

    def matrix(self, series: Sequence[Series] | None = None) -> tuple[Ints, Floats, NDArray[np.bool_]]:
        """The wide table: `seq` `(n,)`, values `(n, k)` with NaN for holes, presence `(n, k)`."""
        wanted = tuple(self.series if series is None else series)
        seq = np.concatenate([b.seq for b in self.blocks]) if self.blocks else np.empty(0, np.int64)
        order = np.argsort(seq, kind="stable")
        values = np.full((len(seq), len(wanted)), np.nan)
        present = np.zeros((len(seq), len(wanted)), dtype=bool)
        start = 0
        for block in self.blocks:
            rows = slice(start, start + len(block))
            for j, name in enumerate(wanted):
                if (i := block.column_of.get(name)) is not None:
                    values[rows, j] = block.values[:, i]
                    present[rows, j] = True
            start += len(block)
        return seq[order], values[order], present[order]

    def copy(self) -> Samples:
        """A copy that outlives the segment of which the values may be a view."""
        return Samples(block.copy() for block in self.blocks)

    @classmethod
    def concat(cls, parts: Iterable[Samples]) -> Samples:
        """Samples of one process, one after the other."""
        return cls(block for part in parts for block in part.blocks)
