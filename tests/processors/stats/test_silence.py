"""Silence: the three rules, against their definition written down report by report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from entrenar_processors import Series
from entrenar_processors.stats.silence import Group, Limits, Silence, unmoved_rows

NEVER = -1
#: What each member reported in a row, None where it did not.
Row = Sequence[float | None]


class Member:
    """What one member did so far, and for each cause the silence that was reported and lasts."""

    def __init__(self) -> None:
        self.reports = 0
        self.value = math.nan
        #: The last row in which it reported, was finite, moved; in which its present number began.
        self.reported = self.was_finite = self.moved = self.began = NEVER
        self.length = {"stopped": 0, "nan": 0, "constant": 0}
        self.longest = {"stopped": 0, "nan": 0, "constant": 0}
        self.told_at = {"stopped": NEVER, "nan": NEVER, "constant": NEVER}
        self.open: set[str] = set()

    def take(self, row: int, value: float | None) -> set[str]:
        """Count a row in; returns the silences that may be going on after it."""
        if value is None:
            self.length["stopped"] = row - self.reported
            return {"stopped"}
        if self.reports:
            self.longest["stopped"] = max(self.longest["stopped"], row - self.reported)
        self.reports, self.reported = self.reports + 1, row
        if not math.isfinite(value):
            self.length["nan"] += 1
            return {"nan"}
        self.longest["nan"] = max(self.longest["nan"], self.length["nan"])
        self.length["nan"], self.was_finite = 0, row
        if value != self.value:
            self.longest["constant"] = max(self.longest["constant"], self.length["constant"])
            self.length["constant"], self.began = 0, row
            if not math.isnan(self.value):
                self.moved = row
        self.length["constant"] += 1
        self.value = value
        return {"constant"}

    def ended(self, row: int) -> set[str]:
        """The causes of silence that this row contradicts."""
        times = {"stopped": self.reported, "nan": self.was_finite, "constant": self.began}
        return {cause for cause, time in times.items() if time == row}


def is_witnessed(cause: str, me: Member, others: list[Member], allowed: int) -> bool:
    """Whether at least half of the siblings that could have done better since did."""
    if cause == "stopped":
        better = [one.reported > me.reported for one in others]
        able = [one.reported > me.reported - allowed for one in others]
    elif cause == "nan":
        better = [one.was_finite > me.was_finite for one in others]
        able = [one.reported > me.was_finite for one in others]
    else:
        better = [one.moved > me.began for one in others]
        able = [one.was_finite > me.began for one in others]
    return any(better) and 2 * sum(better) >= sum(able)


def slowly(limits: Limits, rows: list[Row]) -> list[Silence]:
    """The definition: row by row, member by member, cause by cause."""
    after = {"stopped": limits.stopped_after, "nan": limits.nan_after, "constant": limits.constant_after}
    members = [Member() for _ in rows[0]] if rows else []
    found = []
    for row, values in enumerate(rows):
        silent = [member.take(row, value) for member, value in zip(members, values, strict=True)]
        for column, me in enumerate(members):
            others = members[:column] + members[column + 1 :]
            for cause in me.ended(row) & me.open:
                me.open.remove(cause)
                found.append(Silence(cause, row, column, 0, 0, 1, resolved=True))
            for cause in silent[column]:
                length, longest = me.length[cause], me.longest[cause]
                allowed = max(after[cause], limits.patience * longest)
                since = {"stopped": me.reported, "nan": me.was_finite, "constant": me.began}[cause]
                if cause == "stopped" and me.reports < limits.min_samples:
                    continue
                if length not in {allowed * 2**i for i in range(10)} or me.told_at[cause] > since:
                    continue
                if is_witnessed(cause, me, others, allowed):
                    me.told_at[cause] = row
                    me.open.add(cause)
                    found.append(Silence(cause, row, column, length, longest, allowed))
    return found


NAN, INF = math.nan, math.inf


def run_of(random: np.random.Generator, k: int) -> list[Row]:
    """Stretches in which all is well, and stretches in which some members are at fault."""
    rows: list[Row] = []
    for _ in range(int(random.integers(1, 10))):
        is_well = random.random() < 0.5
        faults = [random.choice(["", "", "stopped", "nan", "inf", "constant"]) for _ in range(k)]
        what = {"stopped": None, "nan": NAN, "inf": INF, "constant": float(random.integers(0, 2))}
        for numbers in random.normal(size=(int(random.integers(1, 12)), k)).tolist():
            row = [
                own if is_well or not fault else what[fault]
                for own, fault in zip(numbers, faults, strict=True)
            ]
            if row.count(None) < k:  # a row has at least one report
                rows.append(row)
    return rows


@pytest.mark.parametrize("part", range(4))
def test_rules_are_their_definition(part: int) -> None:
    """1,000 runs: begun and resolved at the same rows with the same numbers, in chunks of any size."""
    causes: Counter[tuple[str, bool]] = Counter()
    for seed in range(part, 1000, 4):
        random = np.random.default_rng(seed)
        k, longest_chunk = int(random.integers(1, 5)), int(random.choice([1, 4, 200]))
        limits, rows = Limits(*random.integers(1, 6, 5).tolist()), run_of(random, k)
        values = np.array([[NAN if value is None else value for value in row] for row in rows]).reshape(-1, k)
        present = np.array([[value is not None for value in row] for row in rows], bool).reshape(-1, k)
        group = Group(limits)
        for i in range(k):
            group.add(Series.of("loss", {"expert": i}))
        found, start = [], 0
        while start < len(rows):
            end = start + int(random.integers(1, longest_chunk + 1))
            silences = group.update(values[start:end], present[start:end])
            found += [silence._replace(row=silence.row + start) for silence in silences]
            start = end
        assert sorted(found) == sorted(slowly(limits, rows)), f"seed {seed}"
        causes.update((silence.cause, silence.resolved) for silence in found)
    assert len(causes) == 6
    assert min(causes.values()) > 25


@pytest.mark.parametrize(
    ("last_value", "rows", "n"),
    [
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], 0),
        ([1.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], 1),  # the first stood still before these rows
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 2.0]], 2),  # the second stands still in them
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 2.0], [1.0, 1.0]], 2),
        ([NAN, 0.0], [[1.0, 2.0]], 1),  # nothing is known of the first
        ([NAN, 0.0], [[1.0, 2.0], [2.0, 1.0]], 1),
        ([0.0, 0.0], [[1.0, NAN]], 1),
        ([0.0, 0.0], [[1.0, INF]], 1),
        ([0.0, 0.0], [[1.0, None]], 1),
        (
            [0.0, 0.0],
            [[1.0, None], [2.0, 3.0], [3.0, 1.0]],
            2,
        ),  # whether the second moved is not known at once
    ],
)
def test_rows_before_every_member_moves(last_value: list[float], rows: list[Row], n: int) -> None:
    """The short cut for a healthy group: all report, all are finite, none repeats its number."""
    values = np.array([[0.5 if value is None else value for value in row] for row in rows])
    present = np.array([[value is not None for value in row] for row in rows])
    assert unmoved_rows(np.array(last_value), values, present) == n
