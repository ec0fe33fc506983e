"""Skew: distributions of training and production, recorded by Monitors and by other programs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from entrenar_otel import Lake, Monitor, NotMeasured, RunError
from entrenar_otel.compare.skew import SkewVerdict, compare_serving, population_stability
from entrenar_otel.identity.process import new_process_name
from entrenar_otel.lake.tables.schema import METRICS


def record(run_id: str, columns: dict[str, np.ndarray], rows: int = 3_000) -> None:
    with Monitor(run_id, lake="lake", quiet=True) as monitor:
        for at in range(rows):
            monitor.log({name: float(values[at]) for name, values in columns.items()})


@pytest.fixture
def served() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`fit` and `live`: one input as it was, one moved, one of other shape; and one on either side only."""
    random = np.random.default_rng(10)
    columns = {
        "age": (random.normal(40, 10, 3_000), random.normal(40, 10, 3_000)),
        "income": (random.lognormal(10, 0.5, 3_000), random.lognormal(10.35, 0.5, 3_000)),
        "score": (random.uniform(0, 1, 3_000), random.beta(0.4, 0.4, 3_000)),
    }
    record("fit", {name: pair[0] for name, pair in columns.items()} | {"target": random.uniform(size=3_000)})
    record(
        "live", {name: pair[1] for name, pair in columns.items()} | {"latency": random.uniform(size=3_000)}
    )
    return columns


def test_shifts_are_found_and_told_by_their_size(served: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    found = compare_serving("lake", "fit", "live")
    by_name = {one.name: one for one in found.metrics}
    assert {name: one.verdict for name, one in by_name.items()} == {
        "age": SkewVerdict.STABLE,
        "income": SkewVerdict.LARGE,
        "score": SkewVerdict.LARGE,
    }
    assert (found.only_training, found.only_production) == (("target",), ("latency",))
    for name, (training, production) in served.items():
        expected = stats.ks_2samp(training, production, method="asymp")
        assert by_name[name].ks == pytest.approx(expected.statistic)
        assert by_name[name].p_value == pytest.approx(expected.pvalue)
        assert by_name[name].psi == pytest.approx(population_stability(training, production)[0])
        assert by_name[name].training_count == by_name[name].production_count == 3_000
    assert by_name["age"].p_corrected > 0.05


def test_the_index_by_its_definition() -> None:
    random = np.random.default_rng(1)
    training, production = random.normal(0, 1, 5_000), random.normal(0.3, 1.2, 4_000)
    edges = np.quantile(training, np.arange(1, 10) / 10)
    t, p = (np.histogram(x, [-np.inf, *edges, np.inf])[0] / len(x) for x in (training, production))
    index, found, *shares = population_stability(training, production)
    assert index == pytest.approx(np.sum((p - t) * np.log(p / t)), rel=0.02)
    assert found == pytest.approx(edges, abs=0.01)
    assert [share.sum() for share in shares] == pytest.approx([1.0, 1.0])
    assert shares[0] == pytest.approx(0.1, abs=1e-3)


def test_the_index_without_a_shift_is_what_chance_makes_of_it() -> None:
    """Its mean is that of a chi-square with 9 degrees of freedom, times 1/n + 1/m (Yurdakul)."""
    random = np.random.default_rng(2)
    n, m, trials = 1_000, 500, 800
    found = [population_stability(random.normal(size=n), random.normal(size=m))[0] for _ in range(trials)]
    expected = 9 * (1 / n + 1 / m)
    spread = math.sqrt(2 * 9) * (1 / n + 1 / m) / math.sqrt(trials)
    assert np.mean(found) == pytest.approx(expected, abs=5 * spread)


values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5, -7.0]), min_size=1, max_size=60)


@given(values, values)
def test_the_index_of_ties_and_constants_is_finite(training: list[float], production: list[float]) -> None:
    index, _, here, there = population_stability(training, production)
    assert 0 <= index < math.inf
    assert (here.sum(), there.sum()) == pytest.approx((1.0, 1.0))
    assert population_stability(training, training)[0] == 0.0


def test_a_constant_that_changed_is_a_large_shift() -> None:
    assert population_stability([1.0] * 100, [2.0] * 100)[0] > 1
    assert population_stability([1.0] * 100, [0.5] * 100)[0] > 1


def test_few_values_are_not_judged() -> None:
    random = np.random.default_rng(3)
    record("fit", {"x": random.normal(size=60)}, 60)
    record("live", {"x": random.normal(3, 1, 60)}, 60)
    (x,) = compare_serving("lake", "fit", "live").metrics
    assert x.verdict is SkewVerdict.TOO_FEW
    assert x.psi_by_chance > 0.2


def test_what_another_program_sent_to_a_sink() -> None:
    """Rows of the view `otel_metrics`, by the instrument's name and with tags of its own."""
    random = np.random.default_rng(4)
    record("fit", {"confidence": random.beta(8, 2, 3_000)})
    lake = Lake("lake")
    with Monitor("source", lake="other", quiet=True) as monitor:
        for value in random.beta(4, 3, 3_000):
            monitor.log({"training.confidence": float(value)}, tags={"arm": "a"})
    rows = Lake("other").query("SELECT * REPLACE ('web/7' AS run_id) FROM metrics")
    folder = Path(lake.url, "otel/metrics/day=2026-11-29/run=web%2F7")
    folder.mkdir(parents=True)
    pq.write_table(rows.cast(METRICS), folder / f"{new_process_name()}-000000.parquet")
    (confidence,) = compare_serving("lake", "fit", "web/7").metrics
    assert (confidence.name, confidence.verdict) == ("confidence", SkewVerdict.LARGE)
    with pytest.raises(RunError, match=r"no run or version 'web/8' in .*; other programs' web/7"):
        compare_serving("lake", "fit", "web/8")


def test_only_the_metrics_that_were_named(served: object) -> None:
    found = compare_serving("lake", "fit", "live", metrics=["age"])
    assert [one.name for one in found.metrics] == ["age"]
    with pytest.raises(NotMeasured, match="height: not measured in fit"):
        compare_serving("lake", "fit", "live", metrics=["height"])
