"""Full rate: every value of a part of a long curve, of which a view has the extremes only.

The view says from when to when that part was recorded; the values of that time are read from the lake and
from live segments.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from entrenar_processors.samples import ABSENT, Column, Ints, Series

from entrenar_otel.lake import Lake
from entrenar_otel.views.curve import MAX_POINTS, in_loop_order
from entrenar_otel.views.model import RunView

#: More values are not read at a time: their extremes are drawn.
MAX_VALUES = 2_000_000
#: Of the parts that are kept, since a run that goes on is asked for again and again.
_CACHE_BYTES = 1 << 27
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS = """
SELECT
    epoch_us(timestamp) * 1000 AS time_ns, coalesce(epoch, -1) AS epoch, coalesce(batch, -1) AS batch,
    coalesce(step, -1) AS step, seq, value, attempt
FROM metrics
WHERE metric = ? AND rank = ? AND timestamp >= ? AND timestamp <= ?
    AND coalesce(cardinality(tags), 0) = ?{tags}
ORDER BY attempt, seq
"""
_COLUMNS = ("time_ns", "epoch", "batch", "step", "seq", "value")


def is_thinned(view: RunView, series: Series) -> bool:
    """Whether there are values that the view does not have."""
    known = view.statistics.get(series)
    if known is None or view.is_pruned:
        return False
    return known.count > MAX_POINTS and known.count > len(view.curves[series].values)


class FullRate:
    """Reads parts of curves, for any thread; the latest are kept."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._parts: OrderedDict[tuple[Any, ...], Column] = OrderedDict()
        self._lock = threading.Lock()

    def rows(self, view: RunView, series: Series, chosen: Ints, columns: int, half: int) -> Column | None:
        """All rows from the first to the last of the `chosen` ones of the view, in time, in the loop's order.

        With `half` a window more on each side. None where the view has enough for so many columns of pixels,
        or where they would be too many. Raises QueryError.
        """
        known = view.curves[series]
        if not is_thinned(view, series) or not len(chosen) or len(chosen) >= 4 * columns:
            return None
        seq, count = known.seq[chosen], view.statistics[series].count
        if bool((np.diff(seq) == 1).all()):  # none is missing
            return None
        records = float(np.ptp(known.seq))  # of each some have a value of this series
        if np.ptp(seq) * min(1.0, count / records) > MAX_VALUES:
            return None
        chosen = _widened(known, chosen, half * max(1.0, records / count))
        low, high = int(known.time_ns[chosen].min()), int(known.time_ns[chosen].max())
        newest = int(known.time_ns.max())
        key = (view.run_id, view.rank, view.attempts, series, low, high, high < newest or count)
        with self._lock:
            if key in self._parts:
                self._parts.move_to_end(key)
                return self._parts[key]
        rows = self._read(view, series, low, high, known.take(chosen))
        with self._lock:
            self._parts[key] = rows
            size = sum(array.nbytes for part in self._parts.values() for array in part)
            while size > _CACHE_BYTES and len(self._parts) > 1:
                size -= sum(array.nbytes for array in self._parts.popitem(last=False)[1])
        return rows

    def _read(self, view: RunView, series: Series, low_ns: int, high_ns: int, known: Column) -> Column:
        tags = dict(series.tags)
        low, high = (_EPOCH + timedelta(microseconds=us) for us in (low_ns // 1000, -(-high_ns // 1000)))
        given = [series.metric, view.rank, low, high, len(tags)]
        table = self._lake.query(
            _ROWS.format(tags=" AND tags[?] = ?" * len(tags)),
            [*given, *(text for pair in tags.items() for text in pair)],
            run_id=view.run_id,
        )
        arrays = [table[name].to_numpy() for name in _COLUMNS]
        rows = _counted(Column(*arrays), known)
        starts = np.flatnonzero(np.diff(table["attempt"].to_numpy())) + 1
        ends = [0, *starts.tolist(), len(rows.seq)]
        attempts = [rows.take(slice(a, b)) for a, b in itertools.pairwise(ends) if b > a]
        return Column.concat(in_loop_order(attempts)) if attempts else known


def _widened(known: Column, chosen: Ints, seqs: float) -> Ints:
    """The same and those before and after, until so many records are between."""
    low, high, step = int(chosen.min()), int(chosen.max()), 1
    first, last = int(known.seq[low]), int(known.seq[high])
    while seqs > 1 and (low > 0 or high < len(known.seq) - 1):
        is_low, is_high = abs(first - int(known.seq[low])) < seqs, abs(int(known.seq[high]) - last) < seqs
        if (not is_low or low == 0) and (not is_high or high == len(known.seq) - 1):
            break
        low = max(0, low - step) if is_low else low
        high = min(len(known.seq) - 1, high + step) if is_high else high
        step *= 2
    return np.arange(low, high + 1)


def _counted(rows: Column, known: Column) -> Column:
    """Rows without a step get the number that they have in the whole curve: `known` are some of them."""
    absent = rows.step == ABSENT
    if not absent.any():
        return rows
    same = np.flatnonzero((rows.seq == known.seq[0]) & (rows.time_ns == known.time_ns[0] // 1000 * 1000))
    if len(same):
        steps: Ints = int(known.step[0]) + np.arange(len(absent)) - int(same[0])
    else:
        steps = np.interp(rows.time_ns, known.time_ns, known.step).astype(np.int64)
    return rows._replace(step=np.where(absent, steps, rows.step))
