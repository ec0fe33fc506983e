"""Fresh: the rows of a roll that the lake does not have yet, in order, each once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from entrenar_processors import Block, Series
from numpy.typing import NDArray

from entrenar_otel.sink.known.bitmaps import Bitmaps
from entrenar_otel.sink.known.intervals import Intervals


def fresh(blocks: Iterable[Block], known: Intervals | Bitmaps) -> list[Block]:
    """The rows whose `seq` is not known, one block for each set of series; they are known then."""
    joined = _joined(blocks)
    if not joined:
        return []
    seq = np.concatenate([block.seq for block in joined])
    keep = ~known.known(seq) & _first_of_each(seq)
    kept, at = [], 0
    for block in joined:
        kept.append(_rows(block, keep[at : at + len(block)]))
        at += len(block)
    known.add_numbers(seq[keep])
    return [block for block in kept if len(block)]


def _joined(blocks: Iterable[Block]) -> list[Block]:
    """One block for each set of series, in the order of arrival."""
    by_series: dict[tuple[Series, ...], list[Block]] = {}
    for block in blocks:
        by_series.setdefault(block.series, []).append(block)
    return [parts[0] if len(parts) == 1 else _concatenated(parts) for parts in by_series.values()]


def _concatenated(parts: list[Block]) -> Block:
    def of(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts])

    return Block(parts[0].series, *(of(name) for name in _COLUMNS))  # type: ignore[arg-type]


_COLUMNS = ("time_ns", "epoch", "batch", "step", "seq", "values")


def _first_of_each(seq: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Of numbers that come more than once, the first."""
    if (seq[1:] > seq[:-1]).all():
        return np.ones(len(seq), bool)
    first = np.zeros(len(seq), bool)
    first[np.unique(seq, return_index=True)[1]] = True
    return first


def _rows(block: Block, keep: NDArray[np.bool_]) -> Block:
    """These rows, in the order in which they were recorded."""
    is_ordered = bool((block.seq[1:] > block.seq[:-1]).all())
    if is_ordered and keep.all():
        return block
    rows = np.flatnonzero(keep)
    rows = rows[np.argsort(block.seq[rows], kind="stable")]
    return Block(block.series, *(getattr(block, name)[rows] for name in _COLUMNS))
