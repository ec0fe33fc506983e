"""Tables: the samples put together in whatever way, the findings are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from entrenar_processors import (
    DDM,
    DivergenceDetector,
    Finding,
    PageHinkley,
    Processor,
    Samples,
    Series,
    SlidingWindowBaseline,
    SpikeDetector,
)
from entrenar_processors.samples import Block

N, K = 400, 40
MAKE: dict[str, Callable[[], Processor]] = {
    "zscore": SlidingWindowBaseline,
    "spike": SpikeDetector,
    "divergence": DivergenceDetector,
    "page_hinkley": lambda: PageHinkley(threshold=5.0, metrics=["loss"]),
    "ddm": lambda: DDM(metrics=["loss"]),
}


def values_of(kind: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    random = np.random.default_rng(5)
    if kind == "ddm":
        return (random.random((N, K)) < np.linspace(0.1, 0.6, N)[:, np.newaxis]).astype(float)
    values = 2 + 0.1 * random.standard_normal((N, K))
    values[300:304, ::7] += 3.0
    values[350:, ::5] += 0.02 * np.arange(50)[:, np.newaxis]
    values[100, 3] = values[200:210, 8] = np.nan
    return values


def told(found: list[Finding]) -> list[tuple[object, ...]]:
    return sorted(
        (str(one.series), one.at.step, one.detector, str(one.severity), one.value, one.expected, one.score)
        for one in found
    )


def one_by_one(values: np.ndarray[tuple[int, int], np.dtype[np.float64]], rows: range) -> Samples:
    """Each series in a block of its own, as gauges that are set one after the other; some half as often."""
    blocks = []
    for i in range(K):
        step = np.array([row for row in rows if i % 3 or not row % 2])
        absent = np.full(len(step), -1, np.int32)
        series = (Series.of("loss", {"layer": i}), Series.of("other", {"layer": i}))
        both = np.column_stack([values[step, i], values[step, i]])
        seq = step * K + i
        blocks.append(Block(series, time_ns=seq, epoch=absent, batch=absent, step=step, seq=seq, values=both))
    return Samples(blocks)


@pytest.mark.parametrize("kind", MAKE)
def test_many_narrow_tables_are_judged_as_each_would_be(kind: str) -> None:
    """Side by side, with the coordinates of each: as if every series had been alone."""
    values = values_of(kind)
    whole, alone = MAKE[kind](), [MAKE[kind]() for _ in range(K)]
    found, expected = [], []
    for rows in (range(37), range(37, 301), range(301, N)):
        samples = one_by_one(values, rows)
        found += whole.update(samples)
        assert [one.order for one in found] == sorted(one.order for one in found)
        for processor, block in zip(alone, samples.blocks, strict=True):
            expected += processor.update(Samples([block]))
    assert told(found) == told(expected)
    assert len(found) > 5
    for one in found:
        layer = int(dict(one.series.tags)["layer"])
        assert one.at.seq == one.at.step * K + layer == one.at.time_ns
    if kind != "ddm":
        assert dict(whole.nonfinite) == {
            Series.of("loss", {"layer": 3}): 0 + (100 % 2 == 0),
            Series.of("loss", {"layer": 8}): 10,
        }


def test_wide_tables_stay_as_they_are() -> None:
    """One block of all series, beside some narrow ones of others."""
    values = values_of("zscore")
    wide = Samples.from_columns(
        {Series.of("loss", {"layer": i}): values[:, i] for i in range(K)}, step=np.arange(N)
    )
    narrow = Samples.from_columns({"gradient_norm": values[:, 0]}, seq=np.arange(N, 2 * N), step=np.arange(N))
    both = SlidingWindowBaseline().update(Samples([*wide.blocks, *narrow.blocks]))
    apart = SlidingWindowBaseline().update(wide) + SlidingWindowBaseline().update(narrow)
    assert told(both) == told(apart)
