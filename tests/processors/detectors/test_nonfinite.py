"""NonfiniteDetector: the first, how many, and when it is over, in whatever chunks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from entrenar_processors import Finding, Samples, Series, Severity
from entrenar_processors.detectors.nonfinite import NonfiniteDetector, is_training_loss
from hypothesis import given, settings
from hypothesis import strategies as st

NAN, INF = math.nan, math.inf
NORM = Series("gradient_norm")
#: (detector, series, seq, over, count, score)
Told = tuple[str, Series, int, bool, int, float]


def brief(findings: list[Finding]) -> list[Told]:
    return [
        (one.detector.removeprefix("nonfinite."), one.series, one.at.seq, one.resolved, one.count, one.score)
        for one in findings
    ]


def rows(series: Series | str, values: list[float], first: int = 0) -> Samples:
    return Samples.from_columns({series: values}, seq=list(range(first, first + len(values))))


def find(detector: NonfiniteDetector, series: Series | str, values: list[float]) -> list[Told]:
    return brief(detector.update(rows(series, values)))


def test_the_first_and_the_first_after() -> None:
    """Two findings an episode, with the values that were there; the counts add up to the samples."""
    detector = NonfiniteDetector(20)
    first, over = detector.update(rows("memory", [1.0, NAN, INF, -INF, 7.0, 8.0]))
    assert (first.detector, first.severity, first.expected) == ("nonfinite.other", Severity.HIGH, 0.0)
    assert math.isnan(first.value)
    assert brief([first]) == [("other", Series("memory"), 1, False, 1, 1.0)]
    assert (over.severity, over.value, over.expected) == (Severity.HIGH, 7.0, 0.0)
    assert brief([over]) == [("other", Series("memory"), 4, True, 2, 3.0)]
    assert dict(detector.nonfinite) == {Series("memory"): 3}
    assert detector.metrics == frozenset()
    assert find(detector, "memory", [1.0, 2.0]) == []


def test_one_alone_and_again() -> None:
    """An end of one adds nothing; each row of bad values is an episode of its own."""
    series = Series("memory")
    assert find(NonfiniteDetector(20), "memory", [NAN, 1.0, NAN, NAN, 1.0, NAN]) == [
        ("other", series, 0, False, 1, 1.0),
        ("other", series, 1, True, 0, 1.0),
        ("other", series, 2, False, 1, 1.0),
        ("other", series, 4, True, 1, 2.0),
        ("other", series, 5, False, 1, 1.0),
    ]


def test_all_is_well() -> None:
    """The extremes of float64 are finite, and nothing is remembered of what is."""
    detector = NonfiniteDetector(1)
    assert find(detector, "loss", [1e308, -1e308, 5e-324, 0.0]) == []
    assert detector.update(Samples()) == []
    assert dict(detector.nonfinite) == {}


@pytest.mark.parametrize(
    ("series", "name"),
    [
        (Series("loss"), "loss"),
        (Series.of("loss", {"split": "train"}), "loss"),
        (Series.of("loss", {"expert": 3}), "loss"),
        (Series.of("loss", {"split": "validation"}), "other"),
        (Series.of("loss", {"split": "training"}), "loss"),
        (Series.of("loss", {"split": "holdout"}), "other"),
        (Series("train/loss"), "loss"),
        (Series("val_loss"), "other"),
        (Series("accuracy"), "accuracy"),
        (Series.of("accuracy", {"split": "validation"}), "accuracy"),
        (Series("expert_loss"), "other"),
        (Series("other"), "other"),
    ],
)
def test_what_it_is_of(series: Series, name: str) -> None:
    """Training loss stands alone; named metrics by name; of the rest, `other`."""
    detector = NonfiniteDetector(20, ("accuracy", "loss", "other"))
    assert [one[0] for one in find(detector, series, [NAN, 1.0])] == [name, name]
    assert is_training_loss(series) is (name == "loss")


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_so_many_gradients_in_a_row(n: int, chunk: int) -> None:
    """Found at exactly the last of so many, across chunks as well; one fewer is none; and again."""
    values = [1.0, *[INF] * (n - 1), 1.0, *[INF] * n, 1.0, *[NAN] * (n + 2), 1.0]
    detector, found = NonfiniteDetector(n), []
    for start in range(0, len(values), chunk):
        found += detector.update(rows(NORM, values[start : start + chunk], start))
    second = n + 1
    third = second + n + 1
    assert [one for one in brief(found) if one[0] == "gradients"] == [
        ("gradients", NORM, second + n - 1, False, n, n),
        ("gradients", NORM, second + n, True, 0, n),
        ("gradients", NORM, third + n - 1, False, n, n),
        ("gradients", NORM, third + n + 2, True, 2, n + 2),
    ]


def test_only_of_gradient_norms() -> None:
    """A validation metric may be undefined for ever; layers count by themselves, and by themselves only."""
    assert [one[0] for one in find(NonfiniteDetector(3), "loss", [NAN] * 9)] == ["loss"]
    assert [one[0] for one in find(NonfiniteDetector(3), "gradients", [NAN] * 9)] == ["other"]
    a, b = Series.of("gradient_norm", {"layer": 0}), Series.of("gradient_norm", {"layer": 1})
    samples = Samples.from_columns({a: [INF, 1.0, INF, 1.0], b: [1.0, INF, INF, INF]})
    found = brief(NonfiniteDetector(3).update(samples))
    assert [one for one in found if one[0] == "gradients"] == [("gradients", b, 3, False, 3, 3.0)]


@pytest.mark.parametrize("named", [(), ("gradient_norm",)])
def test_loss_scaling_warms_up(named: tuple[str, ...]) -> None:
    """Half precision: the scale is halved until the norm is finite. That is no run to be stopped."""
    norms = [*[INF] * 10, 3.0, 2.9, INF, 2.8, *[2.5] * 100, INF, 2.4]
    found = find(NonfiniteDetector(20, named), NORM, norms)
    name = "gradient_norm" if named else "other"
    assert [one[0] for one in found] == [name] * 6
    assert [one[2:5] for one in found[:2]] == [(0, False, 1), (10, True, 9)]


def test_rows_without_the_series() -> None:
    """Neither bad nor good: what is in a row goes on, whatever else is reported in between."""
    detector = NonfiniteDetector(3)
    found = []
    for seq, columns in enumerate(
        [
            {"gradient_norm": [INF]},
            {"loss": [1.0]},
            {"gradient_norm": [INF], "loss": [1.0]},
            {"accuracy": [NAN]},
            {"gradient_norm": [INF]},
            {"loss": [1.0]},
            {"loss": [2.0], "gradient_norm": [1.0]},
        ]
    ):
        found += detector.update(Samples.from_columns(columns, seq=[seq]))
    assert brief(found) == [
        ("other", NORM, 0, False, 1, 1.0),
        ("other", Series("accuracy"), 3, False, 1, 1.0),
        ("gradients", NORM, 4, False, 3, 3.0),
        ("gradients", NORM, 6, True, 0, 3.0),
        ("other", NORM, 6, True, 2, 3.0),
    ]


def test_a_series_in_two_blocks_of_a_tick() -> None:
    """Its rows are judged in the order of recording, not block by block."""
    wide = Samples.from_columns({"gradient_norm": [INF, 1.0], "loss": [1.0, NAN]}, seq=[0, 3])
    narrow = Samples.from_columns({"gradient_norm": [INF, INF]}, seq=[1, 2])
    found = brief(NonfiniteDetector(3).update(Samples.concat([narrow, wide])))
    assert found == [
        ("other", NORM, 0, False, 1, 1.0),
        ("gradients", NORM, 2, False, 3, 3.0),
        ("gradients", NORM, 3, True, 0, 3.0),
        ("other", NORM, 3, True, 2, 3.0),
        ("loss", Series("loss"), 3, False, 1, 1.0),
    ]


def test_reset_and_what_is_refused() -> None:
    """A new run begins with nothing in a row."""
    detector = NonfiniteDetector(2)
    find(detector, NORM, [INF])
    detector.reset()
    assert dict(detector.nonfinite) == {}
    assert find(detector, NORM, [INF]) == [("other", NORM, 0, False, 1, 1.0)]
    with pytest.raises(ValueError, match="expected stop_after at least 1, got 0"):
        NonfiniteDetector(0)


BAD = st.sampled_from([1.0, NAN, INF, INF, -INF])


def slowly(table: dict[Series, list[float]], stop_after: int, named: set[str]) -> list[Told]:
    """The definition, value by value."""
    found: list[Told] = []
    for series, values in table.items():
        name = series.metric if series.metric in named else "other"
        name = "loss" if series == Series("loss") else name
        in_a_row = 0
        for seq, value in enumerate(values):
            if math.isfinite(value):
                if in_a_row:
                    found.append((name, series, seq, True, in_a_row - 1, in_a_row))
                if in_a_row >= stop_after and series.metric == "gradient_norm":
                    found.append(("gradients", series, seq, True, in_a_row - stop_after, in_a_row))
                in_a_row = 0
                continue
            in_a_row += 1
            if in_a_row == 1:
                found.append((name, series, seq, False, 1, 1))
            if in_a_row == stop_after and series.metric == "gradient_norm":
                found.append(("gradients", series, seq, False, stop_after, stop_after))
    return sorted(found, key=lambda one: (one[2], one[1], one[0]))


@given(
    table=st.lists(st.lists(BAD, min_size=4, max_size=4), max_size=40),
    cuts=st.lists(st.integers(0, 40)),
    stop_after=st.integers(1, 4),
    named=st.sets(st.sampled_from(["gradient_norm", "accuracy"])),
)
@settings(max_examples=200, deadline=None)
def test_any_values_in_any_chunks(
    table: list[list[float]], cuts: list[int], stop_after: int, named: set[str]
) -> None:
    """The findings of the definition, and every bad sample is counted."""
    series = (Series("loss"), NORM, Series.of("gradient_norm", {"layer": 1}), Series("accuracy"))
    values = np.array(table).reshape(-1, 4)
    detector, found = NonfiniteDetector(stop_after, named), []
    for start, end in itertools.pairwise([0, *sorted(min(c, len(values)) for c in cuts), len(values)]):
        columns = dict(zip(series, values[start:end].T.tolist(), strict=True))
        found += detector.update(Samples.from_columns(columns, seq=list(range(start, end))))
    columns = dict(zip(series, values.T.tolist(), strict=True))
    assert brief(found) == slowly(columns, stop_after, named)
    lost = {one: sum(not math.isfinite(v) for v in column) for one, column in columns.items()}
    assert {one: n for one, n in detector.nonfinite.items() if n} == {s: n for s, n in lost.items() if n}
