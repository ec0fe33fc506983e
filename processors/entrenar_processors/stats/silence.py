"""How long each member of a group has been silent: the numeric part of `SilentMembers`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Floats, Ints, Series

_NEVER = -1
CAUSES = ("stopped", "nan", "constant")


#: Each quantity of a member's state, and where it starts.
_START = {
    **dict.fromkeys(("reports", "finites", "bads"), 0),
    **dict.fromkeys(("reported", "was_finite", "began", "moved"), _NEVER),
    **dict.fromkeys(("longest_gap", "run_base", "longest_run", "bad_base", "longest_bad"), 0),
}


class Rules(NamedTuple):
    """See the arguments of `SilentMembers`."""

    stopped_after: int
    nan_after: int
    constant_after: int
    patience: int
    min_samples: int


class Silence(NamedTuple):
    """`length` of the silence, the member's `longest` before, and how long would be `allowed`.

    With `over` it is the end of a silence that was told.
    """

    cause: str
    row: int
    column: int
    length: int
    longest: int
    allowed: int
    resolved: bool = False


class Group:
    """What is remembered of the members of one group: one number a member and quantity.

    Ticks count the group's rows. All tables of an update have a first row for the state before it,
    and running maxima carry "the last time that …" from row to row.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.members: list[Series] = []
        self.column_of: dict[Series, int] = {}
        self._tick = 0
        self._last_value = np.empty(0)
        # Rows: see the names; counts begin at 0, ticks at -1.
        self._state = np.empty((len(_START), 0), np.int64)
        self._told = {cause: np.empty(0, np.int64) for cause in CAUSES}
        self._open: dict[str, set[int]] = {cause: set() for cause in CAUSES}

    def add(self, series: Series) -> None:
        """A member that has reported nothing so far."""
        self.column_of[series] = len(self.members)
        self.members.append(series)
        self._last_value = np.append(self._last_value, np.nan)
        self._state = np.column_stack([self._state, list(_START.values())])
        self._told = {cause: np.append(told, _NEVER) for cause, told in self._told.items()}

    def update(self, values: Floats, present: NDArray[np.bool_]) -> list[Silence]:
        """Judge rows `(n, k)`, each with at least one member present."""
        if self._all_move(values, present):
            return []
        before = dict(zip(_START, self._state, strict=True))
        n = len(values)
        tick = np.arange(self._tick, self._tick + n)[:, np.newaxis]
        self._tick += n
        finite = present & np.isfinite(values)
        bad = present & ~finite

        # The value before each, of the same member: rows of `known` where there was one.
        known = np.concatenate([self._last_value[np.newaxis], values])
        rows = _running(np.where(finite, np.arange(1, n + 1)[:, np.newaxis], 0), 0)
        previous = np.take_along_axis(known, rows[:-1], axis=0)
        self._last_value = np.take_along_axis(known, rows[-1:], axis=0)[0]
        changed = finite & (values != previous)  # the first of a member, too: nothing is NaN
        moved = changed & ~np.isnan(previous)

        reports, finites, bads = (
            before[name] + np.cumsum(which, axis=0)
            for name, which in (("reports", present), ("finites", finite), ("bads", bad))
        )
        last = {
            name: _running(np.where(which, tick, _NEVER), before[name])
            for name, which in (
                ("reported", present),
                ("was_finite", finite),
                ("began", changed),
                ("moved", moved),
            )
        }
        # How long a member was silent, until each row and at the longest before it.
        gap = tick - last["reported"][1:]
        longest_gap = _running(
            np.where(present, _since(tick, last["reported"][:-1]), 0), before["longest_gap"]
        )
        run_base = _running(np.where(changed, finites - 1, 0), before["run_base"])
        run = finites - run_base[1:]
        longest_run = _running(np.where(changed, finites - 1 - run_base[:-1], 0), before["longest_run"])
        bad_base = _running(np.where(finite, bads, 0), before["bad_base"])
        bad_run = bads - bad_base[1:]
        longest_bad = _running(np.where(finite, bads - bad_base[:-1], 0), before["longest_bad"])

        tables = {**last, "longest_gap": longest_gap, "run_base": run_base, "longest_run": longest_run}
        tables |= {"bad_base": bad_base, "longest_bad": longest_bad}
        tables |= {"reports": reports, "finites": finites, "bads": bads}
        self._state = np.array([tables[name][-1] for name in _START])

        rules = self._rules
        known_enough = ~present & (reports >= rules.min_samples)
        at = {name: table[1:] for name, table in last.items()}
        found: list[Silence] = []
        # cause, where, length, longest before, allowed at least; silent since, siblings better and able; back
        for cause, where, length, longest, least, since, better, able, back in (
            (
                *("stopped", known_enough, gap, longest_gap, rules.stopped_after),
                *("reported", "reported", None, present),
            ),
            (
                *("nan", bad, bad_run, longest_bad, rules.nan_after),
                *("was_finite", "was_finite", "reported", finite),
            ),
            (
                *("constant", finite, run, longest_run, rules.constant_after),
                *("began", "moved", "was_finite", changed),
            ),
        ):
            told: dict[int, list[int]] = {}
            allowed = np.maximum(least, rules.patience * longest[1:])
            row, column = np.nonzero(where & (length >= allowed))
            times, rest = np.divmod(length[row, column], allowed[row, column])
            asked = np.flatnonzero((rest == 0) & (times & (times - 1) == 0))  # 1, 2, 4, 8 … times as long
            for i, m in zip(row[asked].tolist(), column[asked].tolist(), strict=True):
                start, limit = int(at[since][i, m]), int(allowed[i, m])
                if self._told[cause][m] > start:
                    continue
                improved = np.count_nonzero(np.delete(at[better][i], m) > start)
                # A sibling that stopped long before this one is no witness either way.
                others = np.delete(at[able or "reported"][i], m) > start - (0 if able else limit)
                if improved and 2 * improved >= np.count_nonzero(others):
                    self._told[cause][m] = int(tick[i, 0])
                    longest_before = int(longest[i + 1, m])
                    found.append(Silence(cause, i, m, int(length[i, m]), longest_before, limit))
                    told.setdefault(m, []).append(i)
            found += self._ends(cause, told, back)
        return found

    def _all_move(self, values: Floats, present: NDArray[np.bool_]) -> bool:
        """Take rows in which every member moves, as most do: nothing to judge, and little to remember."""
        if any(self._open.values()) or self._rules.constant_after < 2 or not present.all():
            return False
        known = np.concatenate([self._last_value[np.newaxis], values])
        if not (np.isfinite(known).all() and (known[1:] != known[:-1]).all()):
            return False
        n, begun = len(values), self._tick
        self._tick += n
        self._last_value = known[-1]
        state = dict(zip(_START, self._state, strict=True))  # views: rows of the state
        least = int(n > 1)  # between the rows themselves
        for longest, ended in (
            ("longest_gap", begun - state["reported"]),
            ("longest_run", state["finites"] - state["run_base"]),
            ("longest_bad", state["bads"] - state["bad_base"]),
        ):
            np.maximum(state[longest], ended, out=state[longest])
            if longest != "longest_bad":
                np.maximum(state[longest], least, out=state[longest])
        for name in ("reports", "finites"):
            state[name] += n
        state["run_base"][:], state["bad_base"][:] = state["finites"] - 1, state["bads"]
        for name in ("reported", "was_finite", "began", "moved"):
            state[name][:] = self._tick - 1
        return True

    def _ends(self, cause: str, told: dict[int, list[int]], back: NDArray[np.bool_]) -> list[Silence]:
        """Where the silences of one cause that were told, now or before, are over."""
        found = []
        for m in sorted({*told, *self._open[cause]}):
            is_open = m in self._open[cause]
            silent = [(row, False) for row in told.get(m, ())]
            for row, is_back in sorted(silent + [(row, True) for row in np.flatnonzero(back[:, m]).tolist()]):
                if is_back and is_open:
                    found.append(Silence(cause, row, m, 0, 0, 1, resolved=True))
                is_open = not is_back
            (self._open[cause].add if is_open else self._open[cause].discard)(m)
        return found


def _running(table: Ints, before: Ints | int) -> Ints:
    """Running maxima `(n + 1, k)` of a table `(n, k)` whose row before the first is `before`."""
    whole = np.empty((len(table) + 1, table.shape[1]), np.int64)
    whole[0], whole[1:] = before, table
    return np.maximum.accumulate(whole, axis=0)


def _since(tick: Ints, last: Ints) -> Ints:
    """Ticks since the last time; 0 where there was none."""
    return np.where(last == _NEVER, 0, tick - last)
