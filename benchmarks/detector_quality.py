"""Detector quality on real curves: false events, recall of injected anomalies, delay; defaults only.

Every finding on an untouched curve is a false event. A spike is found if something fires within its
10 steps, a ramp within 300. Recall is the mean over runs, so that long runs do not outvote short ones;
delay is the median, in steps. Lower is better in a `Row`, so recall appears as the share missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np
from entrenar_processors import (
    DivergenceDetector,
    Processor,
    SlidingWindowBaseline,
    SpikeDetector,
    StuckDetector,
)
from entrenar_processors.stats.robust_window import RobustWindow
from entrenar_processors.stats.rolling_moments import RollingMoments, zscores

from benchmarks.curves import (
    Floats,
    Injected,
    curves,
    detections,
    firings,
    halves,
    nab,
    with_freezes,
    with_ramps,
    with_spikes,
)
from benchmarks.harness import Row

SEED = 11
Make = Callable[[], Processor]
Inject = Callable[[Floats, np.random.Generator], Injected]

SPIKES: dict[str, Inject] = {
    "spike +0.5": lambda curve, random: with_spikes(curve, 0.5, 12, random),
    "spike +1.0": lambda curve, random: with_spikes(curve, 1.0, 12, random),
    "second spike +0.5, 15–30 steps after +1.0": lambda curve, random: with_spikes(
        curve, 0.5, 12, random, before=1.0
    ),
}
FREEZE: Inject = lambda curve, random: with_freezes(curve, 40, random)  # noqa: E731
RAMP: Inject = lambda curve, random: with_ramps(curve, 0.002, 40, random)  # noqa: E731


@dataclass(frozen=True)
class Quality:
    """What one detector did with one kind of injection on some runs."""

    recall: float
    worst_recall: float
    delay: float


def false_events(make: Make, runs: dict[str, Floats], metric: str = "loss") -> tuple[int, float]:
    """Findings on the untouched curves: how many, and per 10,000 steps."""
    found = sum(len(firings(make(), curve[:, np.newaxis], metric)[0]) for curve in runs.values())
    return found, 1e4 * found / sum(map(len, runs.values()))


def quality(make: Make, runs: dict[str, Floats], inject: Inject) -> Quality:
    """Recall and delay of what `inject` adds to every run; seeded."""
    recalls, delays = [], []
    for number, curve in enumerate(runs.values()):
        recall, later = detections(make(), inject(curve, np.random.default_rng([SEED, number])))
        recalls.append(recall)
        delays += later
    return Quality(fmean(recalls), min(recalls), median(delays) if delays else float("nan"))


def measure() -> Iterator[Row]:
    every = halves(curves())
    for half, runs in zip(("tuned on", "held out"), every, strict=True):
        steps = sum(map(len, runs.values()))
        judged = half == "held out"

        def limit(value: float, judged: bool = judged) -> float | None:
            return value if judged else None

        made: list[tuple[str, Make, float | None]] = [
            ("spike", SpikeDetector, limit(1.5)),
            ("divergence", DivergenceDetector, limit(0.5)),
            ("stuck", StuckDetector, limit(0.0)),
            ("z-score at 3σ (a measurement)", SlidingWindowBaseline, None),
        ]
        for name, make, allowed in made:
            found, rate = false_events(make, runs)
            note = f"{found} findings in {steps:,} steps of {len(runs)} runs"
            yield Row(f"{half}: {name}, false events", allowed, rate, "per 10k steps", note)
        for (name, inject), missed in zip(SPIKES.items(), (0.10, 0.03, 0.15), strict=True):
            one = quality(SpikeDetector, runs, inject)
            yield Row(f"{half}: {name}, missed", limit(missed), 1 - one.recall, "", _note(one))
            if name != "spike +1.0":
                yield Row(f"{half}: {name}, median delay", limit(2.0), one.delay, "steps")
        one = quality(DivergenceDetector, runs, RAMP)
        yield Row(
            f"{half}: +0.002 a step, missed within 300 steps", limit(0.10), 1 - one.recall, "", _note(one)
        )
        yield Row(f"{half}: +0.002 a step, median delay", limit(100.0), one.delay, "steps")
        one = quality(StuckDetector, runs, FREEZE)
        yield Row(f"{half}: constant from one step on, missed", limit(0.0), 1 - one.recall, "", _note(one))
        yield Row(f"{half}: constant from one step on, median delay", limit(50.0), one.delay, "steps")
    norms = curves(column="grad_norm")
    found, rate = false_events(SpikeDetector, norms, "gradient_norm")
    note = f"{found} findings in {sum(map(len, norms.values())):,} steps"
    yield Row("gradient norm of one run: spike, false events", None, rate, "per 10k steps", note)
    yield from _nab()


def _note(one: Quality) -> str:
    return f"recall {one.recall:.3f}, of the worst run {one.worst_recall:.2f}"


def _nab() -> Iterator[Row]:
    """The best recall over thresholds at which at most 10 events in 10,000 samples are false."""
    series = list(nab())
    for name, score in (("|z| of the previous 100", _plain), ("smallest of three robust z", _persistent)):
        scores = [score(values[:, np.newaxis])[:, 0] for values, _ in series]
        best, at = 0.0, 0.0
        for threshold in np.geomspace(1.0, 1e4, 200).tolist():
            hit = windows = false = 0
            for one, (_, labelled) in zip(scores, series, strict=True):
                fires = np.flatnonzero(one >= threshold)
                outside = np.ones(len(one), dtype=bool)
                for first, last in labelled:
                    outside[first : last + 1] = False
                    windows += 1
                    hit += bool(((fires >= first) & (fires <= last)).any())
                alone = fires[outside[fires]]
                false += int(len(alone) > 0) + int(np.count_nonzero(np.diff(alone) > 12))
            if 1e4 * false / sum(map(len, scores)) <= 10 and hit / windows > best:
                best, at = hit / windows, threshold
        note = f"recall {best:.2f} at threshold {at:.1f}, chosen on these series; events 12 samples apart"
        yield Row(f"NAB, 24 series: {name}, missed at ≤ 10 false events per 10k", None, 1 - best, "", note)


def _plain(values: Floats) -> Floats:
    rolling = RollingMoments(100, 10)
    rolling.reserve(1)
    return np.abs(zscores(values, *rolling.update(slice(0, 1), values)))


def _persistent(values: Floats) -> Floats:
    """The smallest of three robust z in a row, in the worse direction."""
    scores = []
    for sign in (1.0, -1.0):
        window = RobustWindow(100, 30, 3.0)
        window.reserve(1)
        z = np.maximum(window.update(slice(0, 1), sign * values)[0], -10.0)
        both = np.concatenate([np.full((2, 1), -10.0), z])
        scores.append(np.minimum(np.minimum(both[:-2], both[1:-1]), z))
    both_signs: Floats = np.maximum(*scores)
    return both_signs
