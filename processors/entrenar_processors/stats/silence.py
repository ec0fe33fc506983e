"""Silence: which members of a group stopped, are NaN or constant while their siblings are not.

The numeric part of `SilentMembers`. Ticks count the rows of the group. All tables of an update are `(n, k)`,
or `(n + 1, k)` with a first row for the state before it; running maxima carry "the last time that …" from row
to row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Floats, Ints, Series

Mask = NDArray[np.bool_]
_NEVER = -1


class Limits(NamedTuple):
    """See the arguments of `SilentMembers`."""

    stopped_after: int
    nan_after: int
    constant_after: int
    patience: int
    min_samples: int


class Silence(NamedTuple):
    """`length` of the silence, the member's `longest` before, and how long would be `allowed`.

    With `resolved` it is the end of a silence that was reported.
    """

    cause: str
    row: int
    column: int
    length: int
    longest: int
    allowed: int
    resolved: bool = False


class _Spells(NamedTuple):
    """What a rule says of rows `(n, k)`: where a member may be silent, for how long, and since which tick.

    `longest` is its longest silence before, `better` the last tick at which it did better than a silent
    one, and at `is_back` a silence ends.
    """

    is_silent: Mask
    length: Ints
    longest: Ints
    since: Ints
    better: Ints
    is_back: Mask


class _Rule:
    """One cause of silence: one number per member and quantity, and which silences were reported."""

    cause: str
    #: What each quantity of a new member starts from.
    start: tuple[int, ...]

    def __init__(self, after: int, patience: int) -> None:
        self._after, self._patience = after, patience
        self._state = np.empty((len(self.start), 0), np.int64)
        self._reported_at = np.empty(0, np.int64)
        self._open: set[int] = set()

    @property
    def has_open(self) -> bool:
        """Whether a silence was reported that lasts."""
        return bool(self._open)

    def add(self) -> None:
        """A member that has reported nothing so far."""
        self._state = np.concatenate([self._state, np.array(self.start)[:, np.newaxis]], axis=1)
        self._reported_at = np.concatenate([self._reported_at, [_NEVER]])

    def silences(self, tick: Ints, spells: _Spells, able: Ints | None) -> list[Silence]:
        """The silences that are longer than allowed, and the ends of those that were reported.

        A sibling counts where it was able to do better since the silence began: its last tick in `able`
        is later. Without `able`, one that stopped long before this one is no witness either way.
        """
        silences: list[Silence] = []
        new: dict[int, list[int]] = {}
        allowed = np.maximum(self._after, self._patience * spells.longest)
        too_long = spells.is_silent & (spells.length >= allowed)
        for i, m in _asked(spells.length, allowed, too_long) if too_long.any() else ():
            start, limit = int(spells.since[i, m]), int(allowed[i, m])
            if self._reported_at[m] > start:
                continue
            improved = np.count_nonzero(np.delete(spells.better[i], m) > start)
            if able is None:
                others = np.delete(spells.better[i], m) > start - limit
            else:
                others = np.delete(able[i], m) > start
            if improved and 2 * improved >= np.count_nonzero(others):
                self._reported_at[m] = int(tick[i, 0])
                length, longest = int(spells.length[i, m]), int(spells.longest[i, m])
                silences.append(Silence(self.cause, i, m, length, longest, limit))
                new.setdefault(m, []).append(i)
        return silences + self._ends(new, spells.is_back)

    def _ends(self, new: dict[int, list[int]], is_back: Mask) -> list[Silence]:
        """Where the silences that were reported, now or before, are over."""
        ends: list[Silence] = []
        for m in sorted({*new, *self._open}):
            is_open = m in self._open
            silent = [(row, False) for row in new.get(m, ())]
            back = [(row, True) for row in np.flatnonzero(is_back[:, m]).tolist()]
            for row, is_end in sorted(silent + back):
                if is_end and is_open:
                    ends.append(Silence(self.cause, row, m, 0, 0, 1, resolved=True))
                is_open = not is_end
            (self._open.add if is_open else self._open.discard)(m)
        return ends


class _Stopped(_Rule):
    """No report for `after` rows of the group, by a member that reported `min_samples` times."""

    cause = "stopped"
    start = (0, _NEVER, 0)  # reports, tick of the last one, longest gap between two

    def __init__(self, after: int, patience: int, min_samples: int) -> None:
        super().__init__(after, patience)
        self._min_samples = min_samples

    def judge(self, tick: Ints, present: Mask) -> _Spells:
        """Count rows in; a member is silent in those in which it is absent."""
        reports, last, longest = self._state
        count = reports + np.cumsum(present, axis=0)
        reported = _running(np.where(present, tick, _NEVER), last)
        before = reported[:-1]
        gaps = _running(np.where(present & (before != _NEVER), tick - before, 0), longest)
        self._state = np.array([count[-1], reported[-1], gaps[-1]])
        is_silent = ~present & (count >= self._min_samples)
        latest = reported[1:]
        return _Spells(is_silent, tick - latest, gaps[1:], since=latest, better=latest, is_back=present)

    def all_move(self, tick: int, n: int) -> None:
        """Count `n` rows from `tick` on in which every member moves."""
        reports, last, longest = self._state
        np.maximum(longest, tick - last, out=longest)
        reports += n
        last[:] = tick + n - 1


class _Nan(_Rule):
    """`after` reports in succession that are not finite."""

    cause = "nan"
    start = (_NEVER, 0, 0)  # tick of the last finite report, run since, longest run

    def judge(self, tick: Ints, bad: Mask, finite: Mask) -> _Spells:
        """Count rows in; a member is silent in those in which it reports no finite number."""
        last, run, longest = self._state
        was_finite = _running(np.where(finite, tick, _NEVER), last)
        length, longest_run = _runs(bad, finite, run, longest)
        self._state = np.array([was_finite[-1], length[-1], longest_run[-1]])
        latest = was_finite[1:]
        return _Spells(bad, length, longest_run[1:], since=latest, better=latest, is_back=finite)

    def all_move(self, tick: int, n: int) -> None:
        """Count `n` rows from `tick` on in which every member moves."""
        last, run, longest = self._state
        np.maximum(longest, run, out=longest)
        last[:] = tick + n - 1
        run[:] = 0


class _Constant(_Rule):
    """`after` finite reports in succession that are the same number."""

    cause = "constant"
    start = (_NEVER, _NEVER, 0, 0)  # tick of the run's first report, of the last move, run, longest run

    def __init__(self, after: int, patience: int) -> None:
        super().__init__(after, patience)
        self.last_value = np.empty(0)

    def add(self) -> None:
        super().add()
        self.last_value = np.concatenate([self.last_value, [np.nan]])

    def judge(self, tick: Ints, values: Floats, finite: Mask) -> _Spells:
        """Count rows in; a member is silent from its first report of a number on."""
        first, last, run, longest = self._state
        previous = self._previous(values, finite)
        changed = finite & (values != previous)  # the first of a member, too: nothing equals NaN
        began = _running(np.where(changed, tick, _NEVER), first)
        moved = _running(np.where(changed & ~np.isnan(previous), tick, _NEVER), last)
        length, longest_run = _runs(finite, changed, run, longest)
        self._state = np.array([began[-1], moved[-1], length[-1], longest_run[-1]])
        return _Spells(finite, length, longest_run[1:], since=began[1:], better=moved[1:], is_back=changed)

    def _previous(self, values: Floats, finite: Mask) -> Floats:
        """The finite value before each, of the same member; NaN before its first."""
        known = np.concatenate([self.last_value[np.newaxis], values])
        place = np.arange(1, len(known))[:, np.newaxis]
        rows = _running(np.where(finite, place, 0), 0)
        columns = np.arange(known.shape[1])
        self.last_value = known[rows[-1], columns]
        previous: Floats = known[rows[:-1], columns]
        return previous

    def all_move(self, tick: int, n: int, last_value: Floats) -> None:
        """Count `n` rows from `tick` on in which every member moves."""
        first, last, run, longest = self._state
        np.maximum(longest, run, out=longest)
        first[:] = last[:] = tick + n - 1
        run[:] = 1
        self.last_value = last_value.copy()


class Group:
    """The members of one group and their silences; rules are independent but for who is a witness."""

    def __init__(self, limits: Limits) -> None:
        self.members: list[Series] = []
        self.column_of: dict[Series, int] = {}
        self._tick = 0
        self._stopped = _Stopped(limits.stopped_after, limits.patience, limits.min_samples)
        self._nan = _Nan(limits.nan_after, limits.patience)
        self._constant = _Constant(limits.constant_after, limits.patience)
        self._rules = (self._stopped, self._nan, self._constant)

    def add(self, series: Series) -> None:
        """A member that has reported nothing so far."""
        self.column_of[series] = len(self.members)
        self.members.append(series)
        for rule in self._rules:
            rule.add()

    def update(self, values: Floats, present: Mask) -> list[Silence]:
        """Judge rows `(n, k)`, each with at least one member present."""
        if self._has_open:
            return self._judge(values, present)
        n = unmoved_rows(self._constant.last_value, values, present)
        silences = self._judge(values[:n], present[:n]) if n else []
        if n == len(values):
            return silences
        if self._has_open:
            rest = self._judge(values[n:], present[n:])
            return silences + [one._replace(row=one.row + n) for one in rest]
        self._all_move(values[n:])
        return silences

    @property
    def _has_open(self) -> bool:
        return any(rule.has_open for rule in self._rules)

    def _all_move(self, values: Floats) -> None:
        """Count rows in which every member moves, while no silence lasts: there is nothing to find."""
        first, n = self._tick, len(values)
        self._tick += n
        self._stopped.all_move(first, n)
        self._nan.all_move(first, n)
        self._constant.all_move(first, n, values[-1])

    def _judge(self, values: Floats, present: Mask) -> list[Silence]:
        first, n = self._tick, len(values)
        self._tick += n
        tick = np.arange(first, first + n)[:, np.newaxis]
        finite = present & np.isfinite(values)
        stopped = self._stopped.judge(tick, present)
        nan = self._nan.judge(tick, present & ~finite, finite)
        constant = self._constant.judge(tick, values, finite)
        return [
            *self._stopped.silences(tick, stopped, able=None),
            *self._nan.silences(tick, nan, able=stopped.better),  # who reported could have been finite
            *self._constant.silences(tick, constant, able=nan.better),  # who was finite could have moved
        ]


def unmoved_rows(last_value: Floats, values: Floats, present: Mask) -> int:
    """How many of the rows `(n, k)` there are before those in which every member reports a new finite number.

    Mostly none, or a first one: the rest takes a small part of what judging takes.

    >>> rows = np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 1.0]])
    >>> unmoved_rows(np.array([0.0, 0.0]), rows, np.isfinite(rows))
    2
    >>> unmoved_rows(np.array([0.0, 0.0]), rows[::2], np.isfinite(rows[::2]))
    0
    """
    is_number, was_number = np.isfinite(values), np.isfinite(last_value)
    is_number &= present
    moves = np.empty(values.shape, np.bool_)
    np.not_equal(values[:1], last_value, out=moves[:1])
    np.not_equal(values[1:], values[:-1], out=moves[1:])
    if moves.all() and is_number.all() and was_number.all():
        return 0
    moves &= is_number
    moves[:1] &= was_number
    moves[1:] &= is_number[:-1]
    still = np.flatnonzero(~moves)
    return int(still[-1] // values.shape[1]) + 1


def _asked(length: Ints, allowed: Ints, too_long: Mask) -> Iterator[tuple[int, int]]:
    """Rows and columns at which a silence is 1, 2, 4, 8 … times as long as allowed."""
    row, column = np.nonzero(too_long)
    times, rest = np.divmod(length[row, column], allowed[row, column])
    asked = np.flatnonzero((rest == 0) & (times & (times - 1) == 0))
    return zip(row[asked].tolist(), column[asked].tolist(), strict=True)


def _running(table: Ints, before: Ints | int) -> Ints:
    """Running maxima `(n + 1, k)` of a table `(n, k)` whose row before the first is `before`."""
    whole = np.empty((len(table) + 1, table.shape[1]), np.int64)
    whole[0], whole[1:] = before, table
    return np.maximum.accumulate(whole, axis=0)


def _runs(counted: Mask, restarts: Mask, run: Ints, longest: Ints) -> tuple[Ints, Ints]:
    """Lengths `(n, k)` of runs of counted rows, the first already `run` long; the longest `(n + 1, k)` ended.

    A run ends before a row that restarts, which is the first of the next run where it is counted itself.
    """
    count = run + np.cumsum(counted, axis=0)
    before = count - counted
    base = _running(np.where(restarts, before, 0), 0)
    ended = np.where(restarts, before - base[:-1], 0)
    return count - base[1:], _running(ended, longest)
