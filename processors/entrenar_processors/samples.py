"""Samples: what a training loop reported, as coordinates and one float64 column per series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, repeat
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

        >>> [str(one) for one in Series.each_of(["loss", "accuracy"], {"split": "test"})]
        ['loss{split="test"}', 'accuracy{split="test"}']
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

    @cached_property
    def is_finite(self) -> bool:
        """Whether all values are: looked at once, and in one piece, for every detector asks."""
        return bool(np.isfinite(self.values).all())

    def column(self, series: Series) -> Column:
        """The rows of one of its series."""
        values = self.values[:, self.column_of[series]]
        return Column(self.time_ns, self.epoch, self.batch, self.step, self.seq, values)


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


@dataclass(frozen=True)
class Singles:
    """Rows of one value each, of many series: what would be a block per series, in one.

    `columns` has the rows series after series, each in recording order; those of `series[i]` are `starts[i]`
    to `starts[i + 1]`. A series is in it once, with at least one row.
    """

    series: tuple[Series, ...]
    starts: Ints
    columns: Column

    def __len__(self) -> int:
        return len(self.columns.seq)

    @property
    def seq(self) -> Ints:
        return self.columns.seq

    @property
    def values(self) -> Floats:
        """Of all rows, `(n,)`."""
        return self.columns.values

    @cached_property
    def lengths(self) -> Ints:
        """How many rows each series has."""
        return np.diff(self.starts)

    @cached_property
    def column_of(self) -> dict[Series, int]:
        return {series: i for i, series in enumerate(self.series)}

    def column(self, series: Series) -> Column:
        """The rows of one of its series."""
        at = self.column_of[series]
        return self.columns.take(slice(self.starts[at], self.starts[at + 1]))

    def index_of(self, rows: Ints) -> Ints:
        """Of which of the series rows are."""
        found: Ints = np.searchsorted(self.starts, rows, side="right") - 1
        return found

    def take(self, index: Sequence[int]) -> Singles:
        """Some of its series, by their places, ascending."""
        if len(index) == len(self.series):
            return self
        chosen = np.asarray(index, np.int64)
        lengths = self.lengths[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.starts[chosen] - starts[:-1], lengths) + np.arange(starts[-1])
        return Singles(tuple([self.series[i] for i in index]), starts, self.columns.take(rows))

    def copy(self) -> Singles:
        """The same rows with values in memory of their own."""
        return replace(self, columns=self.columns._replace(values=np.array(self.values)))

    def blocks(self) -> Iterator[Block]:
        """A block per series."""
        time_ns, epoch, batch, step, seq, values = self.columns
        for series, (low, high) in zip(self.series, pairwise(self.starts.tolist()), strict=True):
            rows = slice(low, high)
            places = time_ns[rows], epoch[rows], batch[rows], step[rows], seq[rows]
            yield Block((series,), *places, values[rows, np.newaxis])


class Samples:
    """Rows of one process in recording order, held as one dense block per set of series.

    Series that are set one by one, thousands of them, are held together as `Singles`; `blocks` has them as a
    block each, `parts` as they are.

    Loops report several sets (training metrics each step, validation each epoch); a block per
    set stays dense where one wide table would be mostly holes. `matrix` gives that wide table
    and its presence mask to a processor that wants it: a reported NaN is present.

    >>> s = Samples.from_columns({"loss": [0.5, 0.4]}, seq=[0, 1])
    >>> s.column(Series("loss")).values.tolist()
    [0.5, 0.4]
    """

    def __init__(self, parts: Iterable[Block | Singles] = ()) -> None:
        self.parts = tuple(part for part in parts if len(part))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All rows as blocks."""
        return tuple(
            block
            for part in self.parts
            for block in (part.blocks() if isinstance(part, Singles) else (part,))
        )

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
        return sum(len(part) for part in self.parts)

    @property
    def n_values(self) -> int:
        return sum(part.values.size for part in self.parts)

    @cached_property
    def series(self) -> tuple[Series, ...]:
        """Every series that was reported, sorted by metric, then tags."""
        return tuple(sorted({series for part in self.parts for series in part.series}))

    @cached_property
    def _parts_of(self) -> dict[Series, list[Block | Singles]]:
        parts: dict[Series, list[Block | Singles]] = {}
        for part in self.parts:
            for series in part.series:
                parts.setdefault(series, []).append(part)
        return parts

    def column(self, series: Series) -> Column:
        """The rows in which `series` was reported, in recording order."""
        parts = [part.column(series) for part in self._parts_of.get(series, ())]
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
        return Samples(part.copy() for part in self.parts)

    @classmethod
    def concat(cls, parts: Iterable[Samples]) -> Samples:
        """Samples of one process, one after the other."""
        return cls(part for samples in parts for part in samples.parts)
