"""Detectors: nanoseconds a sample, beside river and a plain deque, in turns in the same process.

"long" is one series in blocks of 1,024 (catching up, history), "wide" is 1,000 series × 16 steps (per-layer
gradients at a tick). Ours take numpy blocks; river takes one Python number at a time, which is its interface.
The deque is what a person writes: append, mean and standard deviation over the last 100 floats.
Nanoseconds are those of the fastest round, the cost when nobody else has the core; medians are in the
note. Ratios are medians over the rounds, as everywhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from entrenar_processors import Samples, SlidingWindowBaseline
from entrenar_processors.detectors.ddm import DDMCore
from entrenar_processors.detectors.divergence import DivergenceCore
from entrenar_processors.detectors.spike import SpikeCore
from entrenar_processors.detectors.zscore import ZScoreCore
from entrenar_processors.stats.core import Core
from entrenar_processors.stats.cusum import Cusum
from entrenar_processors.stats.page_hinkley import PageHinkleyCore
from entrenar_processors.stats.robust_window import RobustWindow
from numpy.typing import NDArray

from benchmarks.harness import Contender, Row, describe_ns, interleave, median_ratio

BLOCK, SERIES, STEPS = 1024, 1000, 16
ROUNDS = 15

MAKE: dict[str, Callable[[], Core]] = {
    "Page-Hinkley": lambda: PageHinkleyCore(30, 0.005, 50.0, 1 - 0.0001, "both"),
    "DDM": lambda: DDMCore(30, 2.0, 3.0),
    "z-score(100)": lambda: ZScoreCore(100, 10, 3.0),
    "spike": lambda: SpikeCore(RobustWindow(125, 30, 3.0, relative=True), Cusum(5.75, 1.0, 3.0)),
    "divergence": lambda: DivergenceCore((0.01, 4.0, 100), 30, 0.5, 15.0),
}
#: Limits in ns a sample, for long and wide blocks; the others have none.
LIMITS = {"Page-Hinkley": (None, 100.0), "DDM": (None, 100.0), "z-score(100)": (100.0, 100.0)}


def blocks(name: str, n: int, k: int, count: int) -> list[NDArray[np.float64]]:
    """Healthy values; for DDM errors at a rate of 15 %."""
    random = np.random.default_rng(7)
    made = [random.normal(2.0, 0.1, (n, k)) for _ in range(count)]
    return [(block > 2.104).astype(np.float64) for block in made] if name == "DDM" else made


def ours(name: str, n: int, k: int, count: int) -> Contender:
    """One pass of a core over prepared blocks; it goes on where the last pass ended."""
    core, prepared = MAKE[name](), blocks(name, n, k, count)
    core.reserve(k)
    rows = slice(0, k)

    def run(calls: int) -> None:
        for _ in range(calls):
            for block in prepared:
                core.update(rows, block)

    return run


def measure() -> Iterator[Row]:
    for name in MAKE:
        long_limit, wide_limit = LIMITS.get(name, (None, None))
        times = interleave(
            {"long": ours(name, BLOCK, 1, 20), "wide": ours(name, STEPS, SERIES, 5)}, calls=1, rounds=ROUNDS
        )
        for shape, limit, samples in (
            ("1 series, blocks of 1,024", long_limit, 20 * BLOCK),
            (f"{SERIES:,} series × {STEPS} steps", wide_limit, 5 * STEPS * SERIES),
        ):
            each = times["long" if shape.startswith("1 series") else "wide"] / samples
            yield Row(f"{name}, {shape}", limit, 1e9 * float(each.min()), "ns a sample", describe_ns(each))
    yield from _beside_river()
    yield _beside_a_deque()
    yield _through_samples()


def _beside_river() -> Iterator[Row]:
    try:
        from river.drift import PageHinkley
        from river.drift.binary import DDM
    except ImportError:
        yield Row("Page-Hinkley and DDM beside river", 0.2, None, "× river", "river is not installed")
        return
    for name, reference in (("Page-Hinkley", PageHinkley()), ("DDM", DDM())):
        values = [block[:, 0].tolist() for block in blocks(name, BLOCK, 1, 5)]

        def river(
            calls: int,
            update: Callable[[float], object] = reference.update,
            values: list[list[float]] = values,
        ) -> None:
            for _ in range(calls):
                for block in values:
                    for value in block:
                        update(value)

        times = interleave({"ours": ours(name, BLOCK, 1, 5), "river": river}, calls=1, rounds=ROUNDS)
        ratio = median_ratio(times, "ours", "river")
        note = f"river {describe_ns(times['river'] / (5 * BLOCK))} a sample; {1 / ratio:.1f}× as fast"
        yield Row(f"{name}, blocks of 1,024", 0.2, ratio, "× river", note)


def _beside_a_deque() -> Row:
    values = [block[:, 0].tolist() for block in blocks("z-score(100)", BLOCK, 1, 2)]
    window: deque[float] = deque(maxlen=100)

    def plain(calls: int) -> None:
        for _ in range(calls):
            for block in values:
                for value in block:
                    n = len(window)
                    if n >= 10:
                        mean = sum(window) / n
                        spread = math.sqrt(sum((one - mean) ** 2 for one in window) / (n - 1))
                        if spread and abs(value - mean) >= 3.0 * spread:
                            pass
                    window.append(value)

    contenders = {
        "deque": plain,
        "long": ours("z-score(100)", BLOCK, 1, 2),
        "wide": ours("z-score(100)", STEPS, SERIES, 2),
    }
    times = interleave(contenders, calls=1, rounds=ROUNDS)
    times["wide"] = times["wide"] * (2 * BLOCK) / (2 * STEPS * SERIES)  # for as many samples
    ratio = median_ratio(times, "long", "deque")
    note = (
        f"deque {describe_ns(times['deque'] / (2 * BLOCK))} a sample; {1 / ratio:.0f}×, wide "
        f"{1 / median_ratio(times, 'wide', 'deque'):.0f}×"
    )
    return Row("z-score(100), blocks of 1,024", 0.01, ratio, "× a deque", note)


def _through_samples() -> Row:
    """The whole processor at a tick: finding the series, the finite check, the findings."""
    random = np.random.default_rng(7)
    series = [f"layer.{i}" for i in range(SERIES)]
    ticks = [
        Samples.from_columns(
            dict(zip(series, random.normal(2.0, 0.1, (SERIES, STEPS)), strict=True)),
            seq=np.arange(STEPS * i, STEPS * (i + 1)),
        )
        for i in range(5)
    ]
    processor = SlidingWindowBaseline(metrics=series)

    def run(calls: int) -> None:
        for _ in range(calls):
            for tick in ticks:
                processor.update(tick)

    each = interleave({"ours": run}, calls=1, rounds=ROUNDS)["ours"] / (5 * STEPS * SERIES)
    return Row(
        f"z-score(100), {SERIES:,} series × {STEPS} steps, from Samples to findings",
        None,
        1e9 * float(each.min()),
        "ns a sample",
        describe_ns(each),
    )
