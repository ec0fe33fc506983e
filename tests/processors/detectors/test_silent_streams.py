"""SilentMembers: when a silence is resolved, and any stream in any chunks."""

from __future__ import annotations

import itertools
import math

import numpy as np
from entrenar_processors import Finding, Processor, Samples, Series, Severity, SilentMembers
from hypothesis import given, settings
from hypothesis import strategies as st

NAN = math.nan
Row = dict[int, float]
Told = list[tuple[str, str, int, bool, int]]


def expert(i: int) -> Series:
    return Series.of("loss", {"expert": i})


def log(rows: list[Row], first: int = 0) -> Samples:
    return Samples.concat(
        Samples.from_columns({expert(i): [value] for i, value in row.items()}, seq=[first + n])
        for n, row in enumerate(rows)
        if row
    )


def brief(found: list[Finding]) -> Told:
    return [
        (
            one.detector.rpartition(".")[2],
            str(dict(one.series.tags)["expert"]),
            one.at.seq,
            one.resolved,
            one.count,
        )
        for one in found
    ]


def healthy(n: int, members: int = 3) -> list[Row]:
    return [dict(enumerate(row)) for row in np.random.default_rng(0).normal(1, 0.1, (n, members)).tolist()]


def test_one_that_stopped_is_back() -> None:
    """At the row in which it reports again; told anew when it stops again."""
    rows = healthy(400)
    for row in [*rows[50:70], *rows[200:]]:
        del row[1]
    (began, over, again) = SilentMembers().update(log(rows))
    assert brief([began, over]) == [("stopped", "1", 54, False, 1), ("stopped", "1", 70, True, 0)]
    assert (over.value, over.expected, over.score, over.severity) == (0.0, 0.0, 0.0, Severity.HIGH)
    assert again.resolved is False


def test_one_that_was_nan_is_finite() -> None:
    """An infinite value is no recovery."""
    rows = healthy(100)
    for n in range(50, 70):
        rows[n][1] = NAN if n % 2 else math.inf
    found = SilentMembers().update(log(rows))
    assert brief(found) == [("nan", "1", 59, False, 1), ("nan", "1", 70, True, 0)]


def test_one_that_was_constant_moves() -> None:
    """Another value is; a NaN in between is neither."""
    rows = healthy(200)
    for row in rows[50:100]:
        row[1] = 0.5
    rows[90][1] = NAN
    found = SilentMembers().update(log(rows))
    assert brief(found) == [("constant", "1", 79, False, 1), ("constant", "1", 100, True, 0)]
    assert found[1].severity is Severity.MEDIUM


def test_short_silences_have_no_end() -> None:
    """What was not told is not over."""
    rows = healthy(100)
    del rows[50][1], rows[51][1]
    rows[60][1] = rows[61][1] = NAN
    for row in rows[70:80]:
        row[1] = 0.5
    assert SilentMembers().update(log(rows)) == []


def test_several_causes_end_each_by_itself() -> None:
    """Constant, then NaN, then gone: what ends is what the value that came back says."""
    rows = healthy(300)
    for row in rows[50:90]:
        row[1] = 0.5
    for row in rows[90:110]:
        row[1] = NAN
    for row in rows[110:130]:
        del row[1]
    for row in rows[130:140]:
        row[1] = 0.5  # a finite number, and still the same
    assert brief(SilentMembers().update(log(rows))) == [
        ("constant", "1", 79, False, 1),
        ("nan", "1", 99, False, 1),
        ("stopped", "1", 114, False, 1),
        ("nan", "1", 130, True, 0),
        ("stopped", "1", 130, True, 0),
        ("constant", "1", 140, True, 0),
    ]


def in_chunks(detector: Processor, rows: list[Row], cuts: list[int]) -> list[Finding]:
    found = []
    for start, end in itertools.pairwise([0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]):
        found += detector.update(log(rows[start:end], start))
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 120), max_size=20),
    spells=st.lists(st.tuples(*(st.integers(0, m) for m in (110, 30, 2, 2))), max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_silence_in_any_chunks(seed: int, cuts: list[int], spells: list[tuple[int, ...]]) -> None:
    """The same findings, row by row too; begun and over by turns, over where the member says so first."""
    rows = [dict(enumerate(row)) for row in np.random.default_rng(seed).normal(size=(120, 4)).tolist()]
    for start, length, member, kind in spells:
        for row in rows[start : start + length]:
            if kind == 0:
                row.pop(member, None)
            elif member in row:
                row[member] = NAN if kind == 1 else 0.5

    def new() -> SilentMembers:
        return SilentMembers(stopped_after=3, nan_after=4, constant_after=5, patience=1, min_samples=3)

    whole = in_chunks(new(), rows, [])
    assert in_chunks(new(), rows, cuts) == whole
    assert in_chunks(new(), rows, list(range(120))) == whole
    state: dict[tuple[str, str], int] = {}
    for cause, name, seq, over, count in brief(whole):
        key, i = (cause, name), int(name)
        if not over:
            assert key not in state
            assert count == 1
            state[key] = seq
            continue
        begun = state.pop(key)
        assert seq == first_back(cause, [row.get(i) for row in rows], begun)
        assert count == 0
    for (cause, name), begun in state.items():
        assert first_back(cause, [row.get(int(name)) for row in rows], begun) is None


def first_back(cause: str, values: list[float | None], begun: int) -> int | None:
    """The first row after in which the member is not silent any more."""
    for seq in range(begun + 1, len(values)):
        value = values[seq]
        if value is None:
            continue
        if cause == "stopped":
            return seq
        if not math.isnan(value) and (cause == "nan" or value != values[begun]):
            return seq
    return None
