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


#: Each value by itself, as it is.
PLAIN: dict[str, Any] = {"min_samples": 2, "for_samples": 1, "sigmas": 0.0}


def accuracy(values: ArrayLike, series: Series | str = "accuracy") -> Samples:
    return Samples.from_columns({series: np.asarray(values, np.float64)})


def test_five_percent_below_the_best_validation() -> None:
    """At exactly 5 % Low, at 10 % Medium, at 20 % High; once, until it has recovered."""
    values = [0.5, 0.8, 0.9, 0.86, 0.855, 0.80, 0.88, 0.81, 0.9, 0.7]
    all_found = AccuracyDrop(**PLAIN).update(accuracy(values, VALIDATION))
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
    assert AccuracyDrop(**PLAIN).update(accuracy([0.9, 0.1], VALIDATION)) == []
    assert (
        len(AccuracyDrop(min_samples=1, for_samples=1, sigmas=0).update(accuracy([0.9, 0.1], VALIDATION)))
        == 1
    )


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
    detector, found = AccuracyDrop(window=10, **PLAIN), []
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
    assert AccuracyDrop(**PLAIN).update(accuracy([0.0, 0.0, 0.0, -1.0], VALIDATION)) == []
    (found,) = AccuracyDrop(**PLAIN).update(accuracy([0.5, 0.5, -1e308], VALIDATION))
    assert found.score == -1.0


def in_chunks(values: list[float], cuts: list[int], **given: Any) -> list[Finding]:
    detector, found = AccuracyDrop(**given), []
    for start, end in itertools.pairwise([0, *sorted(min(c, len(values)) for c in cuts), len(values)]):
        seq = list(range(start, end))
        found += detector.update(Samples.from_columns({VALIDATION: values[start:end]}, seq=seq))
    return found


def test_accuracy_fell_and_recovered() -> None:
    """The end has the value that is well again, and counts those that were low after the first."""
    found = in_chunks([0.8, 0.9, 0.7, 0.8, 0.6, 0.9, 0.9, 0.8, 0.95], [], **PLAIN)
    assert [(one.at.seq, one.resolved, one.count, one.value, one.severity) for one in found] == [
        (2, False, 1, 0.7, Severity.HIGH),
        (5, True, 2, 0.9, Severity.LOW),
        (7, False, 1, 0.8, Severity.MEDIUM),
        (8, True, 0, 0.95, Severity.LOW),
    ]
    assert found[1].score == -0.0
    assert found[3].score == pytest.approx(0.055555556)


def test_two_in_a_row_by_three_sigmas_from_the_sixth_on() -> None:
    """One low value is noise, as one high value is no best; and a fall among falls is none."""
    calm = [0.80, 0.81, 0.80, 0.81, 0.80]
    assert in_chunks([*calm, 0.70, 0.80, 0.70, 0.80], []) == []
    (found,) = in_chunks([*calm, 0.70, 0.69], [])
    assert (found.at.seq, found.value, found.expected, found.count) == (6, 0.69, 0.80, 2)
    assert in_chunks([*calm[:4], 0.70, 0.69], []) == []  # the first of the two came too early
    assert [one.at.seq for one in in_chunks([*calm[:4], 0.70, 0.69, 0.69], [])] == [6]
    rough = [
        0.80,
        0.74,
        0.81,
        0.75,
        0.82,
        0.74,
        0.81,
        0.75,
    ]  # a step is 0.06, so a value has a sigma of 0.055
    assert in_chunks([*rough, 0.65, 0.65], []) == []
    assert in_chunks([*rough, 0.65, 0.55], [])[0].at.seq == 9
    assert len(in_chunks([*rough, 0.65, 0.65], [], sigmas=1.0)) == 1


def test_noise_is_of_the_last_twenty_steps() -> None:
    """A steep beginning is forgotten; the steps of the fall itself are none."""
    steep = [0.1, 0.9, *[0.9, 0.91] * 9, 0.9, 0.91]
    assert in_chunks([*steep[:-2], 0.83, 0.83], []) == []
    assert [one.at.seq for one in in_chunks([*steep, 0.83, 0.83], [])] == [23]


def definition(values: list[float], needed: int, in_a_row: int, sigmas: float) -> list[tuple[int, bool, int]]:
    """Each finding as (seq, resolved, count), written down as slowly as possible."""
    found: list[tuple[int, bool, int]] = []
    kept: list[float] = []
    low, is_low = 0, False
    for seq, value in enumerate(values):
        if math.isnan(value):
            continue
        runs = [min(kept[i : i + in_a_row]) for i in range(len(kept) - in_a_row + 1)]
        best = max([0.0, *runs])
        enough = len(kept) >= needed
        kept.append(value)
        steps = [abs(b - a) for a, b in itertools.pairwise(kept)][-20 - in_a_row :][:-in_a_row]
        sigma = 0.886 * sum(steps) / len(steps) if steps else 0.0
        drops = best > 0 and drop_ratio(best, value) >= 0.1 and enough
        if not drops and is_low:
            found.append((seq, True, low))
        low = low + 1 if drops else 0
        if drops and not is_low and not (low >= in_a_row and best - value >= sigmas * sigma):
            continue
        if drops and not is_low:
            found.append((seq, False, low))
            low = 0
        is_low = drops
    return found


@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 0.8, 0.81, 0.85, 0.9, NAN, -1.0]), max_size=40),
    cuts=st.lists(st.integers(0, 40)),
    needed=st.integers(1, 4),
    in_a_row=st.integers(1, 3),
    sigmas=st.sampled_from([0.0, 1.0, 3.0]),
)
@settings(max_examples=200, deadline=None)
def test_accuracy_in_any_chunks(
    values: list[float], cuts: list[int], needed: int, in_a_row: int, sigmas: float
) -> None:
    """The findings of the definition, begun and over by turns."""
    given = {"min_samples": needed, "for_samples": in_a_row, "sigmas": sigmas}
    found = in_chunks(values, cuts, max_drop_ratio=0.1, **given)
    expected = definition(values, needed, in_a_row, sigmas)
    assert [(one.at.seq, one.resolved, one.count) for one in found] == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AccuracyDrop(max_drop_ratio=5), "between 0 and 1, got 5: 0.05 is 5 %"),
        (lambda: AccuracyDrop(window=0), "expected window at least 1, got 0"),
        (lambda: AccuracyDrop(for_samples=0), "expected for_samples at least 1, got 0"),
        (lambda: AccuracyDrop(min_samples=0), "expected min_samples at least 1, got 0"),
        (lambda: AccuracyDrop(sigmas=-1), "expected sigmas at least 0, got -1"),
    ],
)
def test_what_is_refused(make: Callable[[], object], message: str) -> None:
    """At construction, with what was expected and got."""
    with pytest.raises(ValueError, match=message):
        make()


@given(
    st.lists(
        st.sampled_from([1.0, 0.95, 0.95 + 1e-9, 0.95 - 1e-9, 0.949999, 0.950002, 0.9, 0.7]), max_size=40
    )
)
@settings(max_examples=100, deadline=None)
def test_most_values_need_no_ratio(values: list[float]) -> None:
    """Near the limit and far from it, what is passed by quickly is what the ratio would say."""
    quick, slow = AccuracyDrop(**PLAIN), AccuracyDrop(**PLAIN)
    slow._surely_high, slow._surely_low = math.inf, -math.inf
    samples = accuracy(values, VALIDATION)
    assert quick.update(samples) == slow.update(samples)
