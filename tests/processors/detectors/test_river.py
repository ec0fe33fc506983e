"""RiverAdapter: river's own answers, one detector a series, whatever the kind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from entrenar_processors import RiverAdapter, Samples, Series, Severity
from river import anomaly, drift

A, B = Series.of("loss", {"fold": 0}), Series.of("loss", {"fold": 1})


def curve(seed: int, n: int = 1500) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(0.3, 0.1, n // 2), random.normal(0.7, 0.1, n - n // 2)])


@pytest.mark.parametrize(
    "make",
    [
        drift.ADWIN,
        partial(drift.KSWIN, alpha=1e-4, seed=1),
        partial(drift.PageHinkley, threshold=5),
        partial(drift.NoDrift),
    ],
    ids=["adwin", "kswin", "page_hinkley", "no_drift"],
)
def test_drifts_are_river_s(make: Callable[[], Any]) -> None:
    """At the same samples, in each of two series that come in one table."""
    one, other = curve(0), curve(1)[::-1]
    found = RiverAdapter(make).update(Samples.from_columns({A: one, B: other}))
    for series, values in ((A, one), (B, other)):
        detector, wanted = make(), []
        for i, value in enumerate(values.tolist()):
            detector.update(value)
            if detector.drift_detected:
                wanted.append(i)
        assert [finding.at.seq for finding in found if finding.series == series] == wanted


def test_nan_is_not_shown_to_river() -> None:
    """One would end its usefulness; as if absent, the findings are those of the finite values."""
    values = curve(2)
    holes = np.insert(values, [100, 700, 800], [np.nan, np.inf, -np.inf])
    adapter = RiverAdapter(drift.ADWIN)
    found = adapter.update(Samples.from_columns({"loss": holes}))
    clean = RiverAdapter(drift.ADWIN).update(Samples.from_columns({"loss": values}))
    assert [finding.value for finding in found] == [finding.value for finding in clean] != []
    assert dict(adapter.nonfinite) == {Series("loss"): 3}
    assert found[0].score == pytest.approx(found[0].value - found[0].expected)
    assert found[0].expected == pytest.approx(0.3, abs=0.05)


def test_anomaly_detectors_by_threshold() -> None:
    """Of a feature, asked before it learns: HalfSpaceTrees; of a target: GaussianScorer."""
    values = np.clip(np.random.default_rng(3).normal(0.5, 0.02, 1000), 0, 1)
    values[[600, 900]] = 0.99
    trees = partial(anomaly.HalfSpaceTrees, n_trees=10, window_size=200, seed=3)
    found = RiverAdapter(trees, threshold=0.9).update(Samples.from_columns({"loss": values}))
    detector, wanted = trees(), []
    for i, value in enumerate(values.tolist()):
        if detector.score_one({"value": value}) >= 0.9:
            wanted.append(i)
        detector.learn_one({"value": value})
    assert [finding.at.seq for finding in found] == wanted
    assert {600, 900} <= set(wanted)

    gauss = RiverAdapter(anomaly.GaussianScorer, threshold=0.9999, severity=Severity.HIGH, name="gauss")
    found = gauss.update(Samples.from_columns({"loss": values}))
    assert [finding.at.seq for finding in found] == [600, 900]
    assert {(finding.detector, finding.severity) for finding in found} == {("river.gauss", Severity.HIGH)}
    assert all(0.9999 <= finding.score <= 1 for finding in found)


def filter_of(make: Any) -> Any:
    return anomaly.QuantileFilter(make(), q=0.999)


def test_filters_decide_themselves() -> None:
    """A QuantileFilter classifies, and wants what the detector within it wants."""
    values = np.random.default_rng(4).normal(0.5, 0.02, 1000)
    values[700] = 3.0
    for within in (anomaly.GaussianScorer, partial(anomaly.HalfSpaceTrees, seed=1, limits={"value": (0, 4)})):
        make: Any = within
        adapter = RiverAdapter(partial(filter_of, make))
        found = adapter.update(Samples.from_columns({"loss": values}))
        assert 700 in [finding.at.seq for finding in found]
        assert len(found) < 50


def test_what_is_refused() -> None:
    """A detector instead of a factory, no detector at all, a missing or useless threshold."""
    with pytest.raises(TypeError, match="pass ADWIN or lambda"):
        RiverAdapter(drift.ADWIN())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got dict without score_one and learn_one"):
        RiverAdapter(dict)
    with pytest.raises(ValueError, match="a threshold for the scores of GaussianScorer, got none"):
        RiverAdapter(anomaly.GaussianScorer)
    with pytest.raises(ValueError, match="no threshold for a drift detector, got 3"):
        RiverAdapter(drift.ADWIN, threshold=3)


def test_river_is_not_imported() -> None:
    """It works with whatever has the methods."""
    program = (
        "import sys\n"
        "from entrenar_processors import RiverAdapter, Samples\n"
        "class Never:\n"
        "    drift_detected = False\n"
        "    def update(self, x): pass\n"
        "assert RiverAdapter(Never).update(Samples.from_columns({'loss': [1.0]})) == []\n"
        "assert 'river' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
