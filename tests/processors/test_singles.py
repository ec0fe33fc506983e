"""Singles: thousands of series that are set one by one are judged and summed up as if each had a block."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from entrenar_processors import (
    DDM,
    AccuracyDrop,
    Column,
    DivergenceDetector,
    PageHinkley,
    Processor,
    Samples,
    Series,
    SilentMembers,
    SlidingWindowBaseline,
    SpikeDetector,
    StuckDetector,
    Summaries,
)
from entrenar_processors.detectors.nonfinite import NonfiniteDetector
from entrenar_processors.detectors.threshold import Limit, ThresholdDetector
from entrenar_processors.samples import Singles

NAMES = ("loss", "accuracy", "gradient_norm", "other")
MAKE: dict[str, Callable[[], Processor]] = {
    "zscore": SlidingWindowBaseline,
    "spike": SpikeDetector,
    "divergence": DivergenceDetector,
    "stuck": lambda: StuckDetector(same_after=20),
    "page_hinkley": lambda: PageHinkley(threshold=5.0, metrics=["loss"]),
    "ddm": lambda: DDM(metrics=["other"]),
    "accuracy_drop": lambda: AccuracyDrop(window=10),
    "nonfinite": lambda: NonfiniteDetector(stop_after=3),
    "silent": SilentMembers,
    "threshold": lambda: ThresholdDetector(Limit("high", "loss", max=2.2)),
}


def singles_of(calls: list[tuple[int, float]], first: int = 0) -> Singles:
    """Calls of (series, value), in the order of recording, series after series."""
    of = np.array([number for number, _ in calls])
    order = np.argsort(of, kind="stable")
    seq = first + order
    columns = Column(
        1000 * seq, (seq // 500).astype(np.int32), (seq % 500).astype(np.int32), seq // 8, seq,
        np.array([value for _, value in calls])[order],
    )  # fmt: skip
    present, starts = np.unique(of[order], return_index=True)
    series = tuple(Series.of(NAMES[i % len(NAMES)], {"layer": i}) for i in present.tolist())
    return Singles(series, np.append(starts, len(seq)), columns)


def ticks(n_series: int, rounds: int = 400) -> list[Singles]:
    """Healthy noise with jumps, a series that stands still, one that stops, some that are not finite."""
    random = np.random.default_rng(n_series)
    calls = []
    for step in range(rounds):
        for i in range(n_series):
            if (i % 5 == 1 and step % 2) or (i == 8 and 200 < step < 320):
                continue
            value = 2 + 0.1 * random.standard_normal()
            value += 3.0 * (300 <= step < 304 and i % 7 == 0) + 0.02 * max(0, step - 250) * (i % 6 == 0)
            value = 0.5 if i in (4, 12) and step > 250 else value
            value = float(random.random() < 0.1 + step / 800) if i % 4 == 3 else value
            bad = (step in (100, 101, 102, 103) and i in (2, 9)) or (step > 380 and i == 16)
            calls.append((i, [np.nan, np.inf][step % 2] if bad else value))
    cuts = [0, 37 * n_series, 38 * n_series, 200 * n_series, len(calls)]
    return [singles_of(calls[low:high], low) for low, high in pairwise(cuts)]


@pytest.mark.parametrize("n_series", [20, 80])
@pytest.mark.parametrize("kind", MAKE)
def test_every_detector_finds_in_them_what_it_finds_in_blocks(kind: str, n_series: int) -> None:
    together, apart = MAKE[kind](), MAKE[kind]()
    found = []
    for singles in ticks(n_series):
        mine, theirs = together.update(Samples([singles])), apart.update(Samples(singles.blocks()))
        assert sorted(map(repr, mine)) == sorted(map(repr, theirs))
        assert [one.order for one in mine] == [one.order for one in theirs]
        found += mine
    assert found
    assert getattr(together, "nonfinite", None) == getattr(apart, "nonfinite", None)


def test_a_series_that_is_in_a_block_as_well() -> None:
    """Its rows are interleaved by seq, whichever way they came."""
    singles = ticks(20)[0]
    block = next(singles.blocks())
    beside = Samples.from_columns(
        {block.series[0]: [9.0, 9.0], "accuracy": [0.1, 0.2]}, seq=[10_000, 10_001], step=[5000, 5001]
    ).blocks[0]
    for make in (SpikeDetector, SilentMembers, lambda: NonfiniteDetector(3), MAKE["threshold"]):
        mine = make().update(Samples([singles, beside]))
        assert list(map(repr, mine)) == list(map(repr, make().update(Samples([*singles.blocks(), beside]))))


def test_they_are_the_rows_of_their_blocks() -> None:
    singles = ticks(20)[1]
    samples, blocks = Samples([singles]), Samples(singles.blocks())
    assert (len(samples), samples.n_values, samples.series) == (len(blocks), blocks.n_values, blocks.series)
    for series in samples.series:
        for of_mine, of_theirs in zip(samples.column(series), blocks.column(series), strict=True):
            assert np.asarray(of_mine).tobytes() == np.asarray(of_theirs).tobytes()
    for of_mine, of_theirs in zip(samples.matrix(), blocks.matrix(), strict=True):
        assert np.asarray(of_mine).tobytes() == np.asarray(of_theirs).tobytes()
    kept = samples.copy()
    singles.values[:] = 0.0
    assert kept.parts[0].values.any()
    assert isinstance(kept.parts[0], Singles)


def test_some_of_their_series() -> None:
    singles = ticks(20)[0]
    some = singles.take([1, 4, 19])
    assert some.series == tuple(singles.series[i] for i in (1, 4, 19))
    for series in some.series:
        assert some.column(series).seq.tolist() == singles.column(series).seq.tolist()
    assert singles.take(range(20)) is singles
    assert singles.index_of(singles.starts[:-1]).tolist() == list(range(20))


def test_sums_are_those_of_blocks() -> None:
    """Series that come as often as each other are summed up in the same pieces, so to the last bit."""
    random = np.random.default_rng(3)
    together, apart = Summaries(), Summaries()
    for tick in range(130):
        calls = [(i, float(value)) for value in random.random(10) for i in range(12)]
        singles = singles_of(calls, 120 * tick)
        together.update(Samples([singles]))
        apart.update(Samples(singles.blocks()))
    for mine, theirs in ((together.current(), apart.current()), (together.of({"loss"}), apart.of({"loss"}))):
        assert list(mine) == list(theirs)
        assert [repr(one) for one in mine.values()] == [repr(one) for one in theirs.values()]
        assert [one.mean for one in mine.values()] == [one.mean for one in theirs.values()]
    assert len(together.current()) == 12


def test_sums_that_wait_are_seen_and_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    summaries = Summaries()
    summaries.update(Samples([singles := ticks(20)[0]]))
    (loss, *_) = summaries.of({"loss"}).values()
    assert loss.count == singles.lengths[0]
    monkeypatch.setattr(Summaries, "FLUSH_VALUES", 10)
    summaries.update(Samples([ticks(20)[1]]))
    assert summaries._waiting_values == 0
