"""Facts of a run for its budgets, against numpy over the same values."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from entrenar_processors.expression import QUANTILES

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.budget_facts import facts_of


def test_statistics_are_numpy_s_and_what_is_left_of_pruned_runs() -> None:
    """Exact quantiles over all of the run; of a pruned run what its summary holds, and no guess."""
    values = np.concatenate([np.random.default_rng(7).normal(size=997), [np.nan, np.inf, -2.0]])
    with Monitor("a", lake="lake", quiet=True) as monitor:
        for value in values:
            monitor.log(x=float(value), tags={"split": "a", "k": "1"})
        monitor.log(x=5.0, tags={"split": "b"})
        monitor.log(x=7.0, tags={"split": "b", "k": "2"})
        monitor.log(one=3.0)
    lake = Lake("lake")
    lookup = facts_of(lake, "a").lookup
    finite = values[np.isfinite(values)]
    wanted = {
        **{name: np.quantile(finite, q) for name, q in QUANTILES.items()},
        "min": finite.min(),
        "max": finite.max(),
        "mean": finite.mean(),
        "std": finite.std(ddof=1),
        "sum": finite.sum(),
        "count": 1000,
        "nonfinite": 2,
        "first": values[0],
        "last": -2.0,
    }
    for function, number in wanted.items():
        assert lookup(function, "x", {"split": "a"}) == pytest.approx(number), function
    assert lookup("last", "x", {"split": "b"}) == 5.0
    assert lookup("count", "x", {}) == 1002
    assert lookup("std", "one", {}) == 0.0
    for function in wanted:
        assert lookup(function, "x", {"split": "c"}) is None
        assert lookup(function, "gone", {}) is None
    lake.prune(timedelta(seconds=-10))
    assert lake.is_pruned("a")
    assert lookup("p99", "x", {"split": "a"}) == pytest.approx(wanted["p99"])
    assert lookup("count", "x", {}) == 1002
    assert lookup("max", "x", {}) == 7.0
    assert lookup("p99", "x", {}) is lookup("p999", "x", {"split": "a"}) is lookup("mean", "gone", {}) is None
