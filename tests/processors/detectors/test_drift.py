"""DriftMonitor and AccuracyDrop: which values they judge, and how rarely they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import AccuracyDrop, DriftDetector, DriftMonitor, Samples, Series, Severity
from entrenar_processors.detectors.drift import spend
from numpy.typing import ArrayLike

VALIDATION = Series.of("accuracy", {"split": "validation"})


def accuracy(values: ArrayLike, series: Series | str = "accuracy") -> Samples:
    return Samples.from_columns({series: np.asarray(values, np.float64)})


def test_the_budget_is_spent_once() -> None:
    """The shares are positive, fall, and never add up to more than 1."""
    shares = [spend(look) for look in range(1, 5000)]
    assert min(shares) > 0
    assert shares == sorted(shares, reverse=True)
    assert 0.9 < sum(shares) < 1


def test_repeated_looks_are_no_more_often_wrong() -> None:
    """Two hundred looks at each of 200 healthy runs: at most 1.2 × 5 % have any finding."""
    random = np.random.default_rng(0)
    detector = DriftDetector(window_size=30)
    wrong = 0
    for _ in range(200):
        values = random.binomial(64, 0.85, 200 * 30) / 64
        wrong += bool(DriftMonitor(detector).update(accuracy(values)))
    assert wrong / 200 <= 1.2 * detector.threshold


def test_a_drop_is_found_once_and_then_is_what_is_normal() -> None:
    """One finding, with the means and a corrected p-value; a second drop is a second one."""
    random = np.random.default_rng(1)
    values = np.concatenate([random.normal(level, 0.04, 800) for level in (0.85, 0.83, 0.7)])
    found = DriftMonitor().update(accuracy(values))
    assert [finding.at.seq for finding in found] == [899, 1699]
    assert [finding.severity for finding in found] == [Severity.MEDIUM, Severity.HIGH]
    assert all(0 <= finding.score < 0.05 for finding in found)
    assert found[1].value == pytest.approx(values[1600:1700].mean())
    assert found[1].expected == pytest.approx(max(values[i : i + 100].mean() for i in range(900, 1600, 100)))


def test_training_that_gets_better_is_no_drift() -> None:
    """The best window moves on; one-sided tests do not mind improvement. For loss it is the other way."""
    random = np.random.default_rng(2)
    rising = np.linspace(0.1, 0.9, 5000) + random.normal(0, 0.04, 5000)
    assert DriftMonitor().update(accuracy(rising)) == []
    loss = DriftMonitor(DriftDetector(worse="higher"), ["loss"])
    assert loss.update(accuracy(1 - rising, "loss")) == []
    assert loss.update(Samples.from_columns({"loss": rising[:200] + 1}, seq=range(5000, 5200)))


def test_validation_is_judged_where_there_is_any() -> None:
    """In windows of their own; training values from then on are not looked at."""
    random = np.random.default_rng(3)
    validation = np.concatenate([random.normal(0.85, 0.01, 20), random.normal(0.80, 0.01, 10)])
    found = DriftMonitor().update(accuracy(validation, VALIDATION))
    assert [(finding.series, finding.at.seq) for finding in found] == [(VALIDATION, 29)]

    training = np.concatenate([random.normal(0.85, 0.04, 400), random.normal(0.5, 0.04, 400)])
    assert DriftMonitor().update(accuracy(training))
    monitor = DriftMonitor()
    monitor.update(Samples.from_columns({VALIDATION: [0.8], "accuracy": [0.8]}, seq=[0]))
    assert monitor.update(Samples.from_columns({"accuracy": training}, seq=range(1, 801))) == []
    head = Series.of("accuracy", {"head": "a"})  # another model's head: the validation is not its own
    assert monitor.update(Samples.from_columns({head: training}, seq=range(801, 1601)))


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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AccuracyDrop(max_drop_ratio=5), "between 0 and 1, got 5: 0.05 is 5 %"),
        (lambda: AccuracyDrop(window=0), "at least 1, got 0 and 2"),
        (lambda: DriftMonitor(validation_window=1), "at least 2 values, got 1"),
    ],
)
def test_what_is_refused(make: object, message: str) -> None:
    """At construction, with what was expected and got."""
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
