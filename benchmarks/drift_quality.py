"""Drift quality: how often the drift test is wrong, how often it sees, once and looking for weeks.

Simulated, seeded. Values: normal; Student t with 3 degrees of freedom; negated log-normal (skewed);
accuracies of batches of 64. A false-Drift rate is judged against 1.2 × the threshold of 0.05; with
`RUNS` and `PAIRS` as below its standard error is 0.007 and 0.0015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from entrenar_processors import AccuracyDrop, DriftDetector, DriftMonitor, Samples, Series
from numpy.typing import NDArray

from benchmarks.harness import Row, median_seconds

PAIRS, RUNS, POWER_RUNS = 20_000, 1_000, 1_000
THRESHOLD = 0.05
Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Values]

DRAWS: dict[str, Draw] = {
    "normal": lambda random, shape: random.normal(0.85, 0.04, shape),
    "t with 3 degrees of freedom": lambda random, shape: 0.85 + 0.04 * random.standard_t(3, shape),
    "skewed (log-normal)": lambda random, shape: -random.lognormal(0, 1, shape),
    "accuracy of 64": lambda random, shape: random.binomial(64, 0.85, shape) / 64,
}


def measure() -> Iterator[Row]:
    random = np.random.default_rng(7)
    limit = 1.2 * THRESHOLD
    for n in (30, 100, 500):
        for what, draw in DRAWS.items():
            rate = _rate(draw(random, (PAIRS // 2, n)), draw(random, (PAIRS // 2, n)))
            yield Row(f"false Drift, n = {n}, {what}", limit, rate, "", f"{PAIRS // 2:,} pairs")
    for test in ("welch", "mann_whitney"):
        before, now = random.normal(0, 1, (2000, 100)), random.normal(-0.5, 1, (2000, 100))
        missed = 1 - _rate(before, now, DriftDetector(test=test))
        yield Row(f"missed, 0.5 sd at n = 100, {test}", 0.1, missed, "", "power is one minus this")
    pair = random.normal(size=(2, 100))
    seconds = median_seconds(lambda: DriftDetector().compare(*pair), 200)
    yield Row("one Welch test, n = 100 against 100", None, seconds * 1e6, "µs")
    yield from _looks(random, limit)
    yield from _power_of_looking(random)
    yield from _correlated(random)


def _rate(baseline: Values, current: Values, detector: DriftDetector | None = None) -> float:
    detector = detector or DriftDetector()
    pairs = zip(baseline, current, strict=True)
    return float(np.mean([detector.compare(b, c).p_value < detector.threshold for b, c in pairs]))


def _found(values: Values, monitor: DriftMonitor | AccuracyDrop | None = None) -> list[int]:
    samples = Samples.from_columns({Series("accuracy"): values})
    return [finding.at.seq for finding in (monitor or DriftMonitor()).update(samples)]


def _looks(random: np.random.Generator, limit: float) -> Iterator[Row]:
    for looks in (10, 100, 500):
        wrong = [bool(_found(DRAWS["accuracy of 64"](random, (100 * (looks + 1),)))) for _ in range(RUNS)]
        yield Row(
            f"runs with any false finding, {looks} looks", limit, float(np.mean(wrong)), "", f"{RUNS:,} runs"
        )
    naive = []
    detector = DriftDetector()
    for _ in range(RUNS // 5):
        windows = random.normal(size=(101, 100))
        best = np.maximum.accumulate(windows.mean(axis=1))
        at = [int(np.flatnonzero(windows.mean(axis=1) == one)[0]) for one in best]
        naive.append(
            any(detector.compare(windows[at[i - 1]], windows[i]).p_value < THRESHOLD for i in range(1, 101))
        )
    yield Row("the same, 100 looks, uncorrected", None, float(np.mean(naive)), "", "what the budget is for")
    wrong = [
        bool(_found(DRAWS["accuracy of 64"](random, (20_000,)), AccuracyDrop())) for _ in range(RUNS // 5)
    ]
    yield Row(
        "runs with any false accuracy drop, 200 window means", None, float(np.mean(wrong)), "", "5 % rule"
    )


def _power_of_looking(random: np.random.Generator) -> Iterator[Row]:
    for healthy in (5, 100, 500):
        for shift in (0.5, 0.75, 1.0, 1.25):
            seen = []
            for _ in range(POWER_RUNS // 5):
                values = random.normal(0, 1, 100 * (healthy + 10))
                values[100 * healthy :] -= shift
                seen.append(any(at >= 100 * healthy for at in _found(values)))
            what = f"seen within 10 windows: {shift} sd after {healthy} healthy windows"
            yield Row(what, None, float(np.mean(seen)), "", f"{POWER_RUNS // 5} runs")


def _correlated(random: np.random.Generator) -> Iterator[Row]:
    """The promise is for independent values: what correlation from one to the next does to it."""
    for rho in (0.1, 0.3, 0.5):
        wrong = []
        for _ in range(RUNS // 5):
            noise = random.normal(0, 1, 10_100)
            values = np.empty_like(noise)
            last = 0.0
            for i, one in enumerate(noise.tolist()):
                last = rho * last + one
                values[i] = last
            wrong.append(bool(_found(values)))
        what = f"runs with any false finding, 100 looks, correlation {rho}"
        yield Row(what, None, float(np.mean(wrong)), "", "no promise: the values are not independent")
