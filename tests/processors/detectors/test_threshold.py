"""ThresholdDetector: limits that a person wrote, case by case; see test_threshold_streams."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Finding, Samples, Series, Severity
from entrenar_processors.detectors.threshold import Limit, ThresholdDetector

pytestmark = pytest.mark.usefixtures("each_core")

SECOND = 10**9
NAN, INF = math.nan, math.inf


def detector(**limit: Any) -> ThresholdDetector:
    return ThresholdDetector(Limit("limit", limit.pop("metric", "loss"), **limit))


def rows(values: Any, series: str | Series = "loss", **coordinates: Any) -> Samples:
    coordinates.setdefault("time_ns", [n * SECOND for n in range(len(values))])
    return Samples.from_columns({series: values}, **coordinates)


def told(findings: list[Finding]) -> list[tuple[int, bool, int]]:
    """seq, over, count."""
    return [(one.at.seq, one.resolved, one.count) for one in findings]


# -- what is beyond a limit -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "values", "expected"),
    [
        ({"min": 0.8}, [0.9, 0.8, np.nextafter(0.8, 0), 0.8], [(2, False, 1), (3, True, 0)]),
        ({"max": 2.0}, [1.0, 2.0, np.nextafter(2.0, 3), 2.0], [(2, False, 1), (3, True, 0)]),
        ({"min": -1.0, "max": 1.0}, [0.0, 2.0, -2.0, 3.0, 0.0], [(1, False, 1), (4, True, 2)]),
        ({"min": 0.0, "max": 0.0}, [0.0, 5e-324, -5e-324, -0.0], [(1, False, 1), (3, True, 1)]),
        ({"max": 0.5}, [1.0], [(0, False, 1)]),
        ({"max": 1e308}, [1e308, -1e308, 1.5e308], [(2, False, 1)]),
        ({"min": 5e-324}, [5e-324, 0.0], [(1, False, 1)]),
        ({}, [1e308, -1e308], []),
    ],
)
def test_bounds(limit: dict[str, float], values: list[float], expected: list[Any]) -> None:
    """Below `min`, above `max`; what is equal is within."""
    assert told(detector(**limit).update(rows(values))) == expected


def test_what_a_finding_says() -> None:
    """The value, the limit that it crossed, and the excess in shares of it: positive is upward."""
    found = detector(min=-2.0, max=4.0).update(rows([5.0, 3.0, -5.0, 3.0], step=[7, 8, 9, 10]))
    assert [(one.detector, one.series, one.severity) for one in found] == [
        ("threshold.limit", Series("loss"), Severity.HIGH)
    ] * 4
    assert [(one.value, one.expected, one.score) for one in found] == [
        (5.0, 4.0, 0.25),
        (3.0, 4.0, -0.25),
        (-5.0, -2.0, -1.5),
        (3.0, 4.0, -0.25),
    ]
    assert [one.at.step for one in found] == [7, 8, 9, 10]
    (found_low, _) = detector(min=4.0).update(rows([3.0, 5.0]))
    assert (found_low.expected, found_low.score) == (4.0, -0.25)


@pytest.mark.parametrize(
    ("limit", "value", "score"),
    [
        (0.0, 3.0, 3.0),  # shares of nothing: the excess itself
        (5e-324, 1e308, 1e300),
        (1e308, 1.5e308, 0.5),
        (-1e308, 1e308, 2.0),
    ],
)
def test_scores_are_finite(limit: float, value: float, score: float) -> None:
    """Whatever the limit; JSON knows no infinity."""
    (found,) = detector(max=limit).update(rows([value]))
    assert found.score == score
    (below,) = detector(min=-limit).update(rows([-value]))
    assert below.score == -score


# -- for how long --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
def test_for_samples(n: int) -> None:
    """Told at the last of so many in a row; a good one in between begins anew, and is no recovery."""
    found = detector(max=1.0, for_samples=n).update(rows([*[2.0] * (n - 1), 0.0, *[2.0] * (n + 3), 0.0, 0.0]))
    assert told(found) == [(2 * n - 1, False, n), (2 * n + 3, True, 3)]


def test_for_seconds() -> None:
    """From the first sample beyond to the one told: at least so long, measured by their times."""
    times = [0, 1, 2, 30, 61, 90, 91, 92, 93, 152, 153]
    values = [2.0, 0.0, 2.0, 2.0, 2.0, 2.0, 0.0, 2.0, 2.0, 2.0, 0.0]
    found = detector(max=1.0, for_seconds=60.0).update(rows(values, time_ns=[t * SECOND for t in times]))
    assert told(found) == [(5, False, 4), (6, True, 0), (9, False, 3), (10, True, 0)]
    short = [0, 60 * SECOND - 1, 60 * SECOND, 61 * SECOND]
    assert told(detector(max=1.0, for_seconds=60.0).update(rows([2.0] * 4, time_ns=short))) == [(2, False, 3)]


def test_for_both() -> None:
    """Samples and seconds must both be enough."""
    limit = {"max": 1.0, "for_samples": 3, "for_seconds": 10.0}
    quick, slow = [n * SECOND for n in range(12)], [20 * n * SECOND for n in range(12)]
    assert told(detector(**limit).update(rows([2.0] * 12, time_ns=quick))) == [(10, False, 11)]
    assert told(detector(**limit).update(rows([2.0] * 12, time_ns=slow))) == [(2, False, 3)]


def test_told_once_until_it_is_over() -> None:
    """Then it may be told again; `for` begins with nothing."""
    watch = detector(max=1.0, for_samples=2)
    assert told(watch.update(rows([2.0] * 50))) == [(1, False, 2)]
    assert watch.update(rows([2.0] * 50)) == []
    assert told(watch.update(rows([0.0, 2.0, 2.0, 2.0, 0.0]))) == [
        (0, True, 98),
        (2, False, 2),
        (4, True, 1),
    ]


# -- warm-up -------------------------------------------------------------------------------------------


def test_after_steps_by_step() -> None:
    """From that step on; what was beyond before does not count towards `for`."""
    steps = [0, 50, 99, 100, 101, 102]
    found = detector(max=1.0, for_samples=2, after_steps=100).update(rows([2.0] * 6, step=steps))
    assert told(found) == [(4, False, 2)]
    assert told(detector(max=1.0, after_steps=100).update(rows([2.0] * 6, step=steps))) == [(3, False, 1)]


def test_after_steps_by_count() -> None:
    """Without steps, finite samples of the series are counted, over all chunks."""
    watch = detector(max=1.0, after_steps=3)
    assert watch.update(rows([2.0, NAN, 2.0])) == []
    assert told(watch.update(rows([INF, 2.0, 2.0]))) == [(2, False, 1)]
    exactly = detector(max=1.0, after_steps=1)
    assert told(exactly.update(rows([2.0, 2.0, 0.0]))) == [(1, False, 1), (2, True, 0)]
    assert told(detector(max=1.0, after_steps=1).update(rows([2.0], step=[1]))) == [(0, False, 1)]
    assert detector(max=1.0, after_steps=1).update(rows([2.0], step=[0])) == []


def test_steps_that_begin_again() -> None:
    """Back in the warm-up it is not judged, so what lasted is over."""
    found = detector(max=1.0, after_steps=5).update(rows([2.0] * 4, step=[5, 6, 0, 5]))
    assert told(found) == [(0, False, 1), (2, True, 1), (3, False, 1)]


# -- which series -----------------------------------------------------------------------------------------


def test_tags_narrow() -> None:
    """To series that have all of them, whatever else they have."""
    limit = Limit("x", "loss", {"split": "val", "rank": "0"}, max=1.0)
    has = [
        Series("loss"),
        Series.of("loss", {"split": "val"}),
        Series.of("loss", {"split": "val", "rank": 1}),
        Series.of("loss", {"split": "val", "rank": 0}),
        Series.of("loss", {"split": "val", "rank": 0, "layer": 3}),
        Series.of("accuracy", {"split": "val", "rank": 0}),
    ]
    assert [limit.concerns(one) for one in has] == [False, False, False, True, True, False]
    found = ThresholdDetector(limit).update(Samples.from_columns({one: [2.0] for one in has}))
    assert [one.series for one in found] == sorted(has[3:5])


def test_every_series_by_itself() -> None:
    """Each has its own row of samples and its own recovery, whoever is reported beside it."""
    a, b = Series.of("loss", {"rank": 0}), Series.of("loss", {"rank": 1})
    watch = detector(max=1.0, for_samples=2)
    both = Samples.from_columns({b: [0.0, 2.0, 2.0], "accuracy": [9.0] * 3, a: [2.0, 2.0, 0.0]})
    found = watch.update(both)
    assert [(one.series, *told([one])[0]) for one in found] == [
        (a, 1, False, 2),
        (a, 2, True, 0),
        (b, 2, False, 2),
    ]
    later = watch.update(Samples.from_columns({a: [2.0, 2.0]}, seq=[3, 4]))
    assert [(one.series, *told([one])[0]) for one in later] == [(a, 4, False, 2)]
    last = watch.update(Samples.from_columns({b: [0.0], a: [0.0]}, seq=[5]))
    assert [(one.series, *told([one])[0]) for one in last] == [(a, 5, True, 0), (b, 5, True, 0)]


def test_ever_new_sets_of_names() -> None:
    """Loops that report another set in each call are judged like any, and cost no more memory."""
    watch = detector(max=1.0, for_samples=600)
    found, sizes = [], []
    for n in range(700):
        found += watch.update(Samples.from_columns({f"x{n:03}": [0.0], "loss": [2.0]}, seq=[n]))
        sizes.append(len(pickle.dumps(watch)))
    assert told(found) == [(599, False, 600)]
    assert max(sizes[300:]) < 1.05 * max(sizes[:300])


# -- holes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_what_is_not_finite_is_as_if_absent(bad: float) -> None:
    """Neither beyond the limit nor a recovery; counted."""
    watch = detector(min=-1.0, max=1.0, for_samples=3)
    assert told(watch.update(rows([2.0, bad, 2.0, bad, bad, 2.0, bad, 0.0]))) == [
        (5, False, 3),
        (7, True, 0),
    ]
    assert watch.update(rows([bad] * 5)) == []
    assert dict(watch.nonfinite) == {Series("loss"): 9}
    assert watch.metrics == {"loss"}
    watch.reset()
    assert dict(watch.nonfinite) == {}


def test_reset_forgets_what_lasts() -> None:
    """A new run has no state to recover from."""
    watch = detector(max=1.0)
    watch.update(rows([2.0]))
    watch.reset()
    assert watch.update(rows([0.0])) == []


# -- against what is normal --------------------------------------------------------------------------------


def test_max_ratio() -> None:
    """So many times the median of the samples before, strictly; once ten are known."""
    values = [1.0, 3.0] * 10
    assert detector(max_ratio=10.0).update(rows([*values, 20.0, 2.0])) == []
    found = detector(max_ratio=10.0).update(rows([*values, np.nextafter(20.0, 21), 3.0]))
    assert told(found) == [(20, False, 1), (21, True, 0)]
    assert [(one.expected, one.value) for one in found] == [(20.0, np.nextafter(20.0, 21)), (30.0, 3.0)]
    assert found[1].score == -0.9
    assert detector(max_ratio=10.0).update(rows([*[1.0] * 9, 1e300])) == []
    assert told(detector(max_ratio=10.0).update(rows([*[1.0] * 10, 10.5]))) == [(10, False, 1)]


def test_the_median_is_of_what_is_normal() -> None:
    """An explosion enters it winsorised, so that one of two windows' length is none of it."""
    random = np.random.default_rng(0)
    usual = random.normal(1.0, 0.05, 200)
    found = detector(max_ratio=10.0).update(rows([*usual, *[1000.0] * 200, *usual]))
    assert told(found) == [(200, False, 1), (400, True, 199)]


@pytest.mark.parametrize("value", [0.0, -1.0, 1e308, -1e308, 5e-324, 1.7e308, 1e150, 1e151])
def test_a_constant_is_normal(value: float) -> None:
    """Also an extreme one, from the first sample on."""
    for window in (1, 4, 100):
        assert detector(max_ratio=1.5, window=window).update(rows([value] * 150)) == []


def test_nothing_is_a_multiple_of_nothing() -> None:
    """With a median of 0 or below there is no ratio."""
    assert detector(max_ratio=2.0).update(rows([*[0.0] * 20, 9.0])) == []
    assert detector(max_ratio=2.0).update(rows([*[-1.0] * 20, 9.0, -9.0])) == []


def test_the_window_is_at_least_four() -> None:
    """A median of one or two says nothing; it is ready as soon as the window is full."""
    assert detector(max_ratio=2.0, window=1).update(rows([1.0] * 3 + [9.0])) == []
    assert told(detector(max_ratio=2.0, window=1).update(rows([1.0] * 4 + [9.0]))) == [(4, False, 1)]
    assert told(detector(max_ratio=2.0, window=6).update(rows([1.0] * 6 + [9.0]))) == [(6, False, 1)]


def test_ratio_beside_bounds() -> None:
    """Any of them is enough; `expected` is the one that was crossed."""
    found = detector(min=0.0, max=50.0, max_ratio=10.0).update(
        rows([*[1.0] * 20, 11.0, 1.0, -1.0, 1.0, 60.0, 1.0])
    )
    assert told(found) == [(n, n % 2 == 1, 1 - n % 2) for n in range(20, 26)]
    assert [one.expected for one in found if not one.resolved] == [10.0, 0.0, 10.0]
    assert {one.expected for one in found if one.resolved} == {50.0}
    only_min = detector(min=0.0, max_ratio=10.0).update(rows([*[1.0] * 20, 11.0, 1.0]))
    assert [one.expected for one in only_min] == [10.0, 0.0]
    early = detector(max=50.0, max_ratio=10.0).update(rows([60.0, 1.0]))
    assert [one.expected for one in early] == [50.0, 50.0]


@pytest.mark.parametrize(
    ("limit", "told_of"),
    [
        ({"window": 0}, "expected window at least 1, got 0"),
        ({"for_samples": 0}, "expected for_samples at least 1, got 0"),
        ({"for_seconds": -1.0}, "expected for_seconds at least 0, got -1.0"),
    ],
)
def test_what_is_refused(limit: dict[str, float], told_of: str) -> None:
    """At construction."""
    with pytest.raises(ValueError, match=told_of):
        detector(max=1.0, **limit)
