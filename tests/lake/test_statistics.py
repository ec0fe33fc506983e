"""Statistics: one definition in SQL, whoever asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from entrenar_processors.expression import FUNCTIONS, QUANTILES
from entrenar_processors.metric_names import _ALIASES, known_as

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.budget_facts import lookup_of
from entrenar_otel.lake.details import NUMBERS, run_details
from entrenar_otel.lake.sql.statistics import KEPT, STATISTICS, columns
from entrenar_otel.lake.tables.schema import SUMMARIES

VALUES = np.concatenate([[4.0], np.random.default_rng(7).lognormal(size=996), [np.nan, -np.inf, 3.0]])


@pytest.fixture
def lake() -> Lake:
    """Two series, one of them with a single value and one that is not finite."""
    with Monitor("a", lake="lake", quiet=True) as monitor:
        for value in VALUES:
            monitor.log(x=float(value))
        monitor.log(one=3.0, tags={"split": "b"})
        monitor.log(one=np.inf, tags={"split": "b"})
    return Lake("lake")


def test_every_function_of_an_expression_has_its_sql() -> None:
    """And a pruned run keeps the columns of `summaries`."""
    assert set(STATISTICS) == set(FUNCTIONS)
    assert tuple(SUMMARIES.names[5:]) == KEPT
    assert {"count", *NUMBERS} <= set(KEPT)


def test_they_are_numpy_s(lake: Lake) -> None:
    """Of the finite values; count, nonfinite, first and last are of all."""
    (row,) = lake.query(f"SELECT {columns(*STATISTICS)} FROM metrics WHERE metric = 'x'").to_pylist()
    finite = VALUES[np.isfinite(VALUES)]
    assert row == pytest.approx(
        {
            "count": 1000,
            "nonfinite": 2,
            "first": 4.0,
            "last": 3.0,
            "mean": finite.mean(),
            "std": finite.std(ddof=1),
            "sum": finite.sum(),
            "min": finite.min(),
            "max": finite.max(),
            **{name: np.quantile(finite, share) for name, share in QUANTILES.items()},
        }
    )


def test_show_prune_and_budgets_say_the_same(lake: Lake) -> None:
    """Before a run is pruned and after it; of a single value a budget knows that it does not deviate."""
    names = ("count", *NUMBERS)

    def shown(*more: str) -> dict[tuple[str, str], Any]:
        rows = run_details(lake, "a")["metrics"]
        return {(row["metric"], name): row[name] for row in rows for name in (*names, *more)}

    before, lookup = shown("nonfinite"), lookup_of(lake, "a")
    assert {name: before["one", name] for name in ("mean", "std", "last")} == {
        "mean": 3.0,
        "std": None,
        "last": "Infinity",
    }
    assert (lookup("std", "one", {"split": "b"}), before["x", "nonfinite"]) == (0.0, 2)
    asked = {("x", name): lookup(name, "x", {}) for name in names}
    assert asked == pytest.approx({key: before[key] for key in asked}, rel=1e-12)
    lake.prune(timedelta(0))
    after = shown()
    assert (after.pop(("one", "last")), after["one", "count"]) == ("Infinity", 2)
    assert after == pytest.approx({key: before[key] for key in after})


@pytest.mark.parametrize(
    "name",
    [name for name, known in _ALIASES.items() if known in ("loss", "accuracy")]
    + [
        "reward",
        "rollout/ep_rew_mean",
        "charts/episodic_return",
        "episode_return_mean",
        "AverageEpRet",
        "eprewmean",
    ],
)
def test_best_goes_by_the_names_that_detectors_know(name: str) -> None:
    """Little of what is watched as a loss, much of an accuracy and of a reward."""
    with Monitor("a", lake="lake", quiet=True) as monitor:
        for value in (2.0, 1.0, 3.0):
            monitor.log({name: value})
    (row,) = Lake("lake").query("SELECT best FROM summaries WHERE metric NOT LIKE '%duration'").to_pylist()
    assert row["best"] == (1.0 if known_as(name)[0] == "loss" else 3.0)
