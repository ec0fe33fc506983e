"""Aggregates: what exporters see of a run, against plain Python."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Block, Column, ExplicitHistogram, ExponentialHistogram, Samples, Series
from entrenar_processors.samples import Singles
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_otel.otel.metrics.aggregate import Aggregates
from entrenar_otel.otel.metrics.registry import OURS, Registry
from entrenar_otel.semconv import DEFAULT_BOUNDS, DURATION_BOUNDS_SECONDS, Instrument, Kind

NAN, INF = math.nan, math.inf
GAUGE, COUNTER, UP_DOWN, HISTOGRAM = "a", "samples", "balance", "step_duration"
KINDS = (GAUGE, COUNTER, UP_DOWN, HISTOGRAM)


def aggregates(kind: Any = "explicit") -> Aggregates:
    registry = Registry()
    registry.declare(Instrument("training.balance", Kind.UP_DOWN_COUNTER, "", ""), OURS)
    return Aggregates(registry, kind)


def row(names: Iterable[str], number: float, at: int, place: int) -> Samples:
    columns: dict[Any, list[float]] = {name: [number] for name in names}
    return Samples.from_columns(columns, seq=[at], time_ns=[at], epoch=[place], step=[place])


def as_drained(rows: list[Samples]) -> Samples:
    """The rows of a tick as the recorder gives them: a block for each set of series."""
    by_series: dict[Any, list[Any]] = {}
    for one in rows:
        by_series.setdefault(one.blocks[0].series, []).append(one.blocks[0])
    names = ("time_ns", "epoch", "batch", "step", "seq", "values")
    return Samples(
        Block(series, **{name: np.concatenate([getattr(block, name) for block in blocks]) for name in names})
        for series, blocks in by_series.items()
    )


def samples(*columns: dict[Any, list[float]], at: int = 0, **places: list[int]) -> Samples:
    return Samples.concat(
        Samples.from_columns(one, time_ns=moments, seq=moments, **places)
        for one in columns
        for moments in [[at + i for i in range(len(next(iter(one.values()))))]]
    )


def values(made: Aggregates) -> dict[str, Any]:
    """Series → last value, sum, or a histogram's counts, count, sum and extremes."""
    found: dict[str, Any] = {}
    with made.lock:
        for _declared, states in made.states():
            for state in states:
                one = state.histogram
                found[str(state.series)] = state.value if one is None else described(one)
    return found


def described(one: ExplicitHistogram | ExponentialHistogram) -> tuple[Any, ...]:
    if isinstance(one, ExplicitHistogram):
        return one.counts.tolist(), one.count, one.sum, one.min, one.max
    return one.scale, one.zero_count, one.positive, one.negative, one.count, one.sum, one.min, one.max


def plain_histogram(numbers: Iterable[float], bounds: tuple[float, ...]) -> tuple[Any, ...]:
    finite = [one for one in numbers if math.isfinite(one)]
    counts = [0] * (len(bounds) + 1)
    for one in finite:
        counts[bisect.bisect_left(bounds, one)] += 1
    return counts, len(finite), sum(finite), min(finite, default=INF), max(finite, default=-INF)


def test_each_kind_is_aggregated_in_its_way() -> None:
    """A gauge has its last value, counters their sums, a histogram its buckets, over several ticks."""
    rng = random.Random(7)
    columns = {name: [float(rng.randrange(1, 4000)) / 64 for _ in range(300)] for name in KINDS}
    made = aggregates()
    for i in range(0, 300, 25):
        made.update(samples({name: column[i : i + 25] for name, column in columns.items()}, at=1000 * i))
    assert values(made) == {
        GAUGE: columns[GAUGE][-1],
        COUNTER: sum(columns[COUNTER]),
        UP_DOWN: sum(columns[UP_DOWN]),
        HISTOGRAM: plain_histogram(columns[HISTOGRAM], DURATION_BOUNDS_SECONDS),
    }
    assert not made.nonfinite


def test_one_value_at_a_time_gives_the_same() -> None:
    """Blocks of a single value take a way of their own."""
    numbers = [0.5, 2.0, NAN, 3.0, -INF, -1.0, 0.0, 0.25]
    for name in KINDS:
        whole, single = aggregates(), aggregates()
        whole.update(samples({name: numbers}))
        for i, number in enumerate(numbers):
            single.update(samples({name: [number]}, at=i))
        assert values(whole) == values(single)
        assert whole.nonfinite == single.nonfinite == {name: 2}


def test_nonfinite_is_counted_by_metric_and_left_out_of_sums() -> None:
    """Over all tags of a metric; a gauge's last value is NaN where it was."""
    made = aggregates()
    split = Series.of(GAUGE, {"split": "validation"})
    made.update(samples({GAUGE: [1.0, NAN, INF], split: [NAN, 2.0, -INF], COUNTER: [1.0, INF, 2.0]}))
    made.update(samples({HISTOGRAM: [NAN, 0.01, INF], UP_DOWN: [-3.0, -INF, 1.0]}))
    assert made.nonfinite == {GAUGE: 4, COUNTER: 1, HISTOGRAM: 2, UP_DOWN: 1}
    found = values(made)
    assert (found[GAUGE], found[str(split)]) == (INF, -INF)
    assert (found[COUNTER], found[UP_DOWN]) == (3.0, -2.0)
    assert found[HISTOGRAM] == plain_histogram([0.01], DURATION_BOUNDS_SECONDS)


def test_a_counter_never_falls() -> None:
    """A total that fell is left out of the sum; an up-down counter follows it."""
    made = aggregates()
    made.update(samples({COUNTER: [5.0, -4.0, 1.0, 0.0], UP_DOWN: [5.0, -4.0, 1.0, 0.0]}))
    made.update(samples({COUNTER: [-1.0]}))
    made.update(samples({UP_DOWN: [-7.0]}))
    assert values(made) == {COUNTER: 6.0, UP_DOWN: -5.0}


@pytest.mark.parametrize("wide", [True, False])
def test_two_thousand_series(wide: bool) -> None:
    """In one layout, or in a layout each: every one has its own value, after other ones came between."""
    made = aggregates()
    every = [Series.of("a", {"layer": str(i)}) for i in range(2000)]
    for round_ in range(3):
        columns: dict[Any, list[float]] = {one: [float(i + round_)] for i, one in enumerate(every)}
        parts = [columns] if wide else [{one: value} for one, value in columns.items()]
        made.update(samples(*parts, at=round_))
    assert values(made) == {str(one): i + 2.0 for i, one in enumerate(every)}


def test_one_series_in_two_layouts_is_one() -> None:
    """`log(a=1)` and `log(a=1, b=2)` report one gauge; the later one counts."""
    made = aggregates()
    made.update(samples({"a": [1.0], COUNTER: [1.0]}))
    made.update(samples({"a": [2.0]}, at=1))
    made.update(samples({COUNTER: [4.0], "b": [0.0]}, at=2))
    assert values(made) == {"a": 2.0, COUNTER: 5.0, "b": 0.0}


def test_where_the_run_is() -> None:
    """The latest sample's time and place; what it does not say stays, an older one changes nothing."""
    made = aggregates()
    assert (made.last_sample_ns, made.epoch, made.step) == (0, None, None)
    made.update(samples({"a": [1.0, 2.0]}, at=100, epoch=[0, 1], step=[6, 7]))
    assert (made.last_sample_ns, made.epoch, made.step) == (101, 1, 7)
    made.update(samples({"b": [1.0]}, at=50, epoch=[0], step=[2]))
    assert (made.last_sample_ns, made.epoch, made.step) == (101, 1, 7)
    made.update(samples({"b": [1.0]}, at=200, step=[8]))
    assert (made.last_sample_ns, made.epoch, made.step) == (200, 1, 8)
    made.update(Samples())
    assert made.last_sample_ns == 200


def test_the_last_value_is_the_one_recorded_last() -> None:
    """`log(a=1)`, `log(a=2, b=0)`, `log(a=3)` in one tick are two blocks, and 3 was the last."""
    made = aggregates()
    alone = Samples.from_columns({"a": [1.0, 3.0]}, seq=[0, 2], time_ns=[10, 30])
    both = Samples.from_columns({"a": [2.0], "b": [0.0]}, seq=[1], time_ns=[20])
    made.update(Samples.concat([alone, both]))
    assert values(made) == {"a": 3.0, "b": 0.0}


def test_the_place_is_the_latest_that_was_said() -> None:
    """Whichever block of a tick comes first, and where the very last row has none."""
    made = aggregates()
    later = Samples.from_columns({"x": [1.0]}, seq=[3], time_ns=[40])
    earlier = Samples.from_columns(
        {"a": [1.0, 2.0, 3.0]}, seq=[0, 1, 2], time_ns=[10, 20, 30], epoch=[1, 2, -1], step=[7, 8, -1]
    )
    made.update(Samples.concat([later, earlier]))
    assert (made.last_sample_ns, made.epoch, made.step) == (40, 2, 8)


def test_bounds_of_histograms() -> None:
    """Those that were declared; else durations' for seconds, OpenTelemetry's for all others."""
    made = aggregates()
    declare = made.registry.declare
    own = declare(Instrument("training.own", Kind.HISTOGRAM, "s", ""), OURS, (1.0, 2.0))
    seconds = declare(Instrument("training.seconds", Kind.HISTOGRAM, "s", ""), OURS)
    other = declare(Instrument("training.other", Kind.HISTOGRAM, "By", ""), OURS)
    bounds = [made.new_histogram(one).bounds for one in (own, seconds, other)]  # type: ignore[union-attr]
    assert bounds == [(1.0, 2.0), DURATION_BOUNDS_SECONDS, DEFAULT_BOUNDS]
    exponential = aggregates("exponential")
    kinds = [type(exponential.new_histogram(one)) for one in (own, seconds, other)]
    assert kinds == [ExplicitHistogram, ExponentialHistogram, ExponentialHistogram]


def test_a_second_metric_of_one_name_is_not_exported(caplog: pytest.LogCaptureFixture) -> None:
    """It is kept out of what exporters see, so that no two points are one series there."""
    made = aggregates()
    made.update(samples({"val/x": [1.0], "val_x": [2.0]}))
    assert values(made) == {"val/x": 1.0}
    assert "'val/x' and 'val_x' are both training_val_x" in caplog.text


def test_the_start_of_a_series_is_its_first_sample() -> None:
    """Not the run's start, and not moved by later ticks."""
    made = aggregates()
    for at in (500, 900):
        made.update(samples({COUNTER: [1.0, 1.0]}, at=at))
    (state,) = [state for _declared, states in made.states() for state in states]
    assert state.start_ns == 500


numbers = st.integers(-(2**20), 2**20).map(lambda one: one / 16) | st.sampled_from([NAN, INF, -INF, 0.0])
rows = st.lists(
    st.tuples(
        st.sampled_from([KINDS, (GAUGE,), (COUNTER,), (UP_DOWN, GAUGE), (HISTOGRAM,)]),
        numbers,
        st.sampled_from([-1, 0, 1, 2]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(rows=rows, cuts=st.sets(st.integers(1, 39)), kind=st.sampled_from(["explicit", "exponential"]))
def test_ticks_do_not_matter(rows: Any, cuts: set[int], kind: Any) -> None:
    """However samples are cut into ticks, the states at the end are the same."""
    one_by_one, in_ticks, at_once = aggregates(kind), aggregates(kind), aggregates(kind)
    ticks: list[list[Samples]] = [[]]
    for i, (names, number, place) in enumerate(rows):
        if i in cuts and ticks[-1]:
            ticks.append([])
        ticks[-1].append(row(names, number, i, place))
        one_by_one.update(ticks[-1][-1])
    for tick in ticks:
        in_ticks.update(as_drained(tick))
    at_once.update(as_drained([one for tick in ticks for one in tick]))
    expected = values(one_by_one)
    for made in (in_ticks, at_once):
        found = values(made)
        assert {k: repr(v) for k, v in found.items()} == {k: repr(v) for k, v in expected.items()}
        assert made.nonfinite == one_by_one.nonfinite
        assert made.last_sample_ns == one_by_one.last_sample_ns == len(rows) - 1
        assert (made.epoch, made.step) == (one_by_one.epoch, one_by_one.step)
    gauge = [number for names, number, _ in rows if GAUGE in names]
    assert repr(expected.get(GAUGE)) == repr(gauge[-1] if gauge else None)
    assert one_by_one.nonfinite[GAUGE] == sum(not math.isfinite(number) for number in gauge)
    counted = [n for names, n, _ in rows if COUNTER in names and math.isfinite(n) and n > 0]
    assert expected.get(COUNTER, 0.0) == sum(counted)


@pytest.mark.parametrize("kind", ["explicit", "exponential"])
def test_series_set_one_by_one_are_aggregated_alike_together_and_apart(kind: Any) -> None:
    random = np.random.default_rng(5)
    names = [GAUGE, COUNTER, UP_DOWN, HISTOGRAM, "process.cpu.utilization"]
    series = tuple(Series.of(names[i % 5], {"layer": i}) for i in range(40))
    together, apart = aggregates(kind), aggregates(kind)
    first = 0
    for _ in range(4):
        starts = np.concatenate([[0], np.cumsum(random.integers(1, 12, len(series)))])
        n = int(starts[-1])
        seq = first + random.permutation(n)
        for low, high in pairwise(starts):
            seq[low:high].sort()
        values = random.normal(0, 3, n)
        values[random.random(n) < 0.1] = NAN
        place = (seq // 7).astype(np.int32)
        singles = Singles(series, starts, Column(10 * seq, place, place, seq // 3, seq, values))
        together.update(Samples([singles]))
        apart.update(Samples(singles.blocks()))
        first += n
    assert seen(together) == seen(apart)
    assert together.nonfinite == apart.nonfinite
    assert together.nonfinite
    for name in ("epoch", "step", "last_sample_ns"):
        assert getattr(together, name) == getattr(apart, name)


def seen(of: Aggregates) -> list[Any]:
    def text(state: Any) -> tuple[Any, ...]:
        histogram = state.histogram and sorted(map(str, vars(state.histogram).items()))
        return state.series, state.start_ns, state.seq, repr(state.value), histogram

    return sorted(text(state) for _, states in of.states() for state in states)
