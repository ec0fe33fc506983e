"""AccuracyDrop: which values it judges, when they fell, and when they recovered, in whatever chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from entrenar_processors import AccuracyDrop, Finding, Samples, Series, Severity
from entrenar_processors.stats.window_means import drop_ratio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

NAN = math.nan
VALIDATION = Series.of("accuracy", {"split": "validation"})


def accuracy(values: ArrayLike, series: Series | str = "accuracy") -> Samples:
    return Samples.from_columns({series: np.asarray(values, np.float64)})


def test_five_percent_below_the_best_validation() -> None:
    """At exactly 5 % Low, at 10 % Medium, at 20 % High; once, until it has recovered."""
    values = [0.5, 0.8, 0.9, 0.86, 0.855, 0.80, 0.88, 0.81, 0.9, 0.7]
    all_found = AccuracyDrop().update(accuracy(values, VALIDATION))
    assert [finding.at.seq for finding in all_found if finding.resolved] == [6, 8]
    found = [finding for finding in all_found if not finding.resolved]
    assert [(finding.at.seq, str(finding.severity)) for finding in found] == [
        (4, "low"),
        (7, "medium"),
        (9, "high"),
    ]
    assert [round(finding.score, 6) for finding in found] == [-0.05, -0.1, -0.222222]
    assert {finding.expected for finding in found} == {0.9}


def test_one_early_validation_is_no_peak() -> None:
    """Two values come before the first judgement."""
    assert AccuracyDrop().update(accuracy([0.9, 0.1], VALIDATION)) == []
    assert len(AccuracyDrop(min_samples=1).update(accuracy([0.9, 0.1], VALIDATION))) == 1


def test_single_batches_are_not_judged_but_their_means() -> None:
    """Batches of 64 at 0.85: the raw rule flags nearly all of them, the window means none."""
    random = np.random.default_rng(4)
    healthy = random.binomial(64, 0.85, 20_000) / 64
    best = np.maximum.accumulate(healthy)
    assert np.mean(healthy <= 0.95 * best) > 0.9
    assert AccuracyDrop().update(accuracy(healthy)) == []
    sick = np.concatenate([healthy[:1000], healthy[1000:1500] - 0.08])
    found = AccuracyDrop().update(accuracy(sick))
    assert [finding.at.seq for finding in found] == [1099]
    assert found[0].value == pytest.approx(sick[1000:1100].mean())


@pytest.mark.parametrize("chunks", [1, 7])
def test_a_drop_of_training_is_over_when_validation_is_judged(chunks: int) -> None:
    """Nobody looks at training values any more, so nothing else would ever end it."""
    values = np.repeat([0.9, 0.5], 30)
    detector, found = AccuracyDrop(window=10), []
    for seq in np.array_split(np.arange(60), chunks):
        found += detector.update(Samples.from_columns({"accuracy": values[seq]}, seq=seq, step=seq))
    seq = np.arange(60, 64)
    both = {VALIDATION: [0.8, 0.8, 0.7, 0.7], "accuracy": [0.9, 0.1, 0.9, 0.1]}
    found += detector.update(Samples.from_columns(both, seq=seq, step=seq))
    first, end, own = found
    assert (first.at.seq, first.value, first.expected, first.resolved) == (39, 0.5, 0.9, False)
    assert (end.at.step, end.resolved, end.count, end.series) == (60, True, 2, Series("accuracy"))
    assert (own.at.step, own.series, own.resolved) == (62, VALIDATION, False)


def test_an_accuracy_of_nothing_has_no_drop() -> None:
    """No best above zero, no ratio; below zero all is lost, not more."""
    assert AccuracyDrop().update(accuracy([0.0, 0.0, 0.0, -1.0], VALIDATION)) == []
    (found,) = AccuracyDrop().update(accuracy([0.5, 0.5, -1e308], VALIDATION))
    assert found.score == -1.0


def in_chunks(values: list[float], cuts: list[int], **given: Any) -> list[Finding]:
    detector, found = AccuracyDrop(**given), []
    for start, end in itertools.pairwise([0, *sorted(min(c, len(values)) for c in cuts), len(values)]):
        seq = list(range(start, end))
        found += detector.update(Samples.from_columns({VALIDATION: values[start:end]}, seq=seq))
    return found


def test_accuracy_fell_and_recovered() -> None:
    """The end has the value that is well again, and counts those that were low after the first."""
    found = in_chunks([0.8, 0.9, 0.7, 0.8, 0.6, 0.9, 0.9, 0.8, 0.95], [])
    assert [(one.at.seq, one.resolved, one.count, one.value, one.severity) for one in found] == [
        (2, False, 1, 0.7, Severity.HIGH),
        (5, True, 2, 0.9, Severity.LOW),
        (7, False, 1, 0.8, Severity.MEDIUM),
        (8, True, 0, 0.95, Severity.LOW),
    ]
    assert found[1].score == -0.0
    assert found[3].score == pytest.approx(0.055555556)


@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 0.8, 0.81, 0.85, 0.9, NAN, -1.0]), max_size=40),
    cuts=st.lists(st.integers(0, 40)),
    min_samples=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_accuracy_in_any_chunks(values: list[float], cuts: list[int], min_samples: int) -> None:
    """The findings of the definition; begun and over by turns, and what they count are all low samples."""
    found = in_chunks(values, cuts, max_drop_ratio=0.1, min_samples=min_samples)
    best, seen, low, expected = 0.0, 0, 0, []
    n_low = 0
    for seq, value in enumerate(values):
        if math.isnan(value):
            continue
        is_low = best > 0 and drop_ratio(best, value) >= 0.1 and seen >= min_samples
        n_low += is_low
        if is_low and not low:
            expected.append((seq, False, 1))
        if not is_low and low:
            expected.append((seq, True, low - 1))
        low = low + 1 if is_low else 0
        best, seen = max(best, value), seen + 1
    assert [(one.at.seq, one.resolved, one.count) for one in found] == expected
    assert sum(one.count for one in found) == n_low - max(0, low - 1)  # those of an end to come


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AccuracyDrop(max_drop_ratio=5), "between 0 and 1, got 5: 0.05 is 5 %"),
        (lambda: AccuracyDrop(window=0), "at least 1, got 0 and 2"),
    ],
)
def test_what_is_refused(make: Callable[[], object], message: str) -> None:
    """At construction, with what was expected and got."""
    with pytest.raises(ValueError, match=message):
        make()
