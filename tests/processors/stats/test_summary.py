"""Summary and Summaries: numpy's statistics, however the values arrive."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from entrenar_processors import Samples, Series, Summaries, Summary
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
LOSS = Series("loss")


def summary_of(*parts: Values | list[float]) -> Summary:
    summary = Summary()
    for part in parts:
        summary.update(np.asarray(part, dtype=np.float64))
    return summary


def assert_same(got: Summary, want: Summary) -> None:
    for name, value in want.as_dict().items():
        assert getattr(got, name) == pytest.approx(value, rel=1e-9, abs=1e-9, nan_ok=True), name
    assert got.nonfinite == want.nonfinite


def test_fields_are_those_of_numpy() -> None:
    """Count, mean, sample standard deviation, extremes, last and percentiles."""
    values = np.random.default_rng(0).normal(3.0, 2.0, 1_000)
    summary = summary_of(*np.array_split(values, 13))
    assert summary.as_dict() == {
        "count": 1_000,
        "mean": pytest.approx(np.mean(values), rel=1e-13),
        "std": pytest.approx(np.std(values, ddof=1), rel=1e-13),
        "min": values.min(),
        "max": values.max(),
        "last": values[-1],
        "p50": np.quantile(values, 0.5),
        "p90": np.quantile(values, 0.9),
        "p99": np.quantile(values, 0.99),
    }


@pytest.mark.parametrize("offset", [1e9, -1e15])
def test_moments_survive_a_large_offset(offset: float) -> None:
    """Squares of large, close values would lose every digit of the deviation."""
    values = offset + np.arange(4_000.0)
    summary = summary_of(*np.array_split(values, 9))
    assert summary.mean == pytest.approx(statistics.fmean(values), rel=1e-15)
    assert summary.std == pytest.approx(stats.tstd(np.arange(4_000.0)), rel=1e-9)


def test_nothing_measured_is_nan_and_one_value_has_no_spread() -> None:
    """NaN where there is nothing to say."""
    empty = Summary().as_dict()
    assert empty.pop("count") == 0
    assert all(math.isnan(value) for value in empty.values())
    assert summary_of([4.0], []).as_dict() == {
        **dict.fromkeys(("mean", "min", "max", "last", "p50", "p90", "p99"), 4.0),
        "count": 1,
        "std": 0.0,
    }


def test_non_finite_values_are_counted_and_hide_nothing() -> None:
    """One NaN must not hide a week of numbers; `last` still is what was reported last."""
    summary = summary_of([1.0, math.nan, 3.0], [math.inf, -math.inf])
    assert (summary.count, summary.nonfinite, summary.last) == (5, 3, -math.inf)
    assert (summary.mean, summary.min, summary.max, summary.p50) == (2.0, 1.0, 3.0, 2.0)
    only = summary_of([math.nan])
    assert (only.count, only.nonfinite) == (1, 1)
    assert all(math.isnan(x) for x in (only.mean, only.std, only.min, only.max, only.p50, only.last))


@pytest.mark.parametrize("parts", [1, 4, 40])
def test_numbers_of_1e308_do_not_overflow(parts: int) -> None:
    """The mean of huge values of both signs is a number, in one piece and merged from many."""
    values = np.tile([1e308, -1e308, 1e308, 1e308], 10)
    summary = Summary()
    for part in np.array_split(values, parts):
        summary.merge(summary_of(part))
    assert summary.mean == pytest.approx(0.5e308)
    assert (summary.min, summary.max, summary.p50) == (-1e308, 1e308, 1e308)
    assert summary_of([1e308] * 5).std == 0.0


def test_last_is_the_latest_by_order_whoever_is_merged_into_whom() -> None:
    """Rows of several names are flushed out of turn; their seq says which value was last."""
    early, late = Summary(), Summary()
    early.update(np.array([1.0]), order=5)
    late.update(np.array([2.0]), order=9)
    late.update(np.array([3.0]), order=7)
    assert late.last == 2.0
    early.merge(late)
    assert early.last == 2.0
    late.merge(summary_of())
    assert late.last == 2.0


def test_quantiles_stay_within_the_extremes() -> None:
    """A bucket's middle may lie beyond the largest value; the answer may not."""
    summary = summary_of(np.full(5_000, 0.3))
    assert (summary.p50, summary.quantile(0.0), summary.quantile(1.0)) == (0.3, 0.3, 0.3)


floats = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0])


@settings(deadline=None)
@given(st.lists(floats, max_size=80), st.integers(1, 9))
def test_chunks_and_merges_make_no_difference(numbers: list[float], chunks: int) -> None:
    """Updating in one go, in pieces, or merging the pieces' summaries is the same."""
    parts = np.array_split(np.array(numbers, dtype=np.float64), chunks)
    whole, merged = summary_of(numbers), Summary()
    for part in parts:
        merged.merge(summary_of(part))
    assert_same(summary_of(*parts), whole)
    merged.last = whole.last  # the parts do not know their order, see the test of `order`
    assert_same(merged, whole)
    finite = np.array([x for x in numbers if math.isfinite(x)])
    if len(finite) > 1:
        assert whole.mean == pytest.approx(finite.mean(), rel=1e-9, abs=1e-6)
        assert whole.std == pytest.approx(finite.std(ddof=1), rel=1e-6, abs=1e-6)


def row(seq: int, value: float, **tags: str) -> Samples:
    return Samples.from_columns({Series.of("loss", tags): [value]}, seq=[seq])


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many values each call of `Summary.update` got."""
    sizes: list[int] = []
    update = Summary.update

    def counting(summary: Summary, values: Values, *, order: int | None = None) -> None:
        sizes.append(len(values))
        update(summary, values, order=order)

    monkeypatch.setattr(Summary, "update", counting)
    return sizes


def test_summaries_show_rows_that_still_wait(monkeypatch: pytest.MonkeyPatch, flushed: list[int]) -> None:
    """Less than a flush of rows is no less visible, and a full one is not counted twice."""
    monkeypatch.setattr(Summaries, "FLUSH_ROWS", 1_024)
    summaries = Summaries()
    for seq in range(Summaries.FLUSH_ROWS + 3):
        summaries.update(row(seq, float(seq)))
    assert flushed == [Summaries.FLUSH_ROWS]
    summary = summaries.current()[LOSS]
    assert flushed == [Summaries.FLUSH_ROWS, 3]
    assert (summary.count, summary.last) == (1_027, 1_026.0)
    assert summary.mean == statistics.fmean(range(1_027))
    assert summaries.current()[LOSS].count == 1_027


def test_summaries_flush_wide_rows_before_they_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, flushed: list[int]
) -> None:
    """The buffer is bounded in values too, over all sets of names."""
    monkeypatch.setattr(Summaries, "FLUSH_VALUES", 10)
    summaries = Summaries()
    for seq, names in enumerate(("abcd", "efgh", "ij")):
        summaries.update(Samples.from_columns({name: [1.0] for name in names}, seq=[seq]))
    assert flushed == [1] * 10
    assert [series.metric for series in summaries.current()] == list("abcdefghij")


def test_summaries_copy_what_they_keep() -> None:
    """A block may be a view into a segment that is unmapped after the tick."""
    values = np.array([[1.0], [2.0]])
    samples = Samples.from_columns({"loss": [0, 0]}, seq=[0, 1])
    samples.blocks[0].values[:] = values
    summaries = Summaries()
    summaries.update(samples)
    samples.blocks[0].values[:] = -5.0
    assert summaries.current()[LOSS].min == 1.0


def test_summaries_of_one_series_in_several_sets_of_names() -> None:
    """The series is one, and its last value is the one with the highest seq."""
    summaries = Summaries()
    summaries.update(Samples.from_columns({"loss": [1.0], "accuracy": [0.5]}, seq=[8]))
    summaries.update(row(3, 2.0))
    assert (summaries.current()[LOSS].count, summaries.current()[LOSS].last) == (2, 1.0)


def test_who_asks_for_one_metric_leaves_others_waiting() -> None:
    """A budget asks at every tick; blocks, and series that are set one by one."""
    summaries = Summaries()
    names = {"loss": [1.0, 2.0], "rate": [3.0, 4.0]}
    for name, values in names.items():
        summaries.update(Samples.from_columns({name: values}, seq=[0, 1]))
    flushed: list[tuple[Series, ...]] = []
    before = summaries._flush
    summaries._flush = lambda key: (flushed.append(key), before(key))[1]  # type: ignore[method-assign]
    assert summaries.select("absent", {}) is None
    assert flushed == []
    loss = summaries.select("loss", {})
    assert loss is not None
    assert (loss.count, flushed) == (2, [(Series.of("loss", {}),)])
    assert {series.metric: one.count for series, one in summaries.current().items()} == {"loss": 2, "rate": 2}


def test_select_prefers_the_exact_series_and_else_merges_those_that_carry_the_tags() -> None:
    """No tags means the untagged series, or all of the metric where there is none."""
    summaries = Summaries()
    for seq, (value, tags) in enumerate(
        [
            (1.0, {"split": "train"}),
            (2.0, {"split": "val", "fold": "1"}),
            (4.0, {"split": "val", "fold": "2"}),
        ]
    ):
        summaries.update(row(seq, value, **tags))
    everything, validation = summaries.select("loss", {}), summaries.select("loss", {"split": "val"})
    assert everything is not None
    assert validation is not None
    assert (everything.count, everything.last, validation.mean, validation.max) == (3, 4.0, 3.0, 4.0)
    assert summaries.select("loss", {"split": "test"}) is None
    assert summaries.select("accuracy", {}) is None
    summaries.update(row(9, 7.0))
    untagged = summaries.select("loss", {})
    assert untagged is summaries.current()[LOSS]
    assert summaries.current()[Series.of("loss", {"split": "train"})].count == 1
