"""IsolationForest: scikit-learn's scores, without scikit-learn's price."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from entrenar_processors import AnomalyDetector, ForestMonitor, IsolationForest, MissingExtra, extras
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest as Trees


def rows(n: int, k: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_t(3, (n, k)) * 10.0 ** random.integers(-3, 4, k)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 3), (3, 1), (100, 2), (1000, 5), (4000, 40)])
def test_scores_are_scikit_learn_s(n: int, k: int) -> None:
    """One row, fewer rows than a subsample, many: equal to a dozen digits."""
    data = rows(n, k)
    forest = IsolationForest(50, seed=7).fit(data)
    theirs = Trees(n_estimators=50, max_samples=min(256, n), random_state=7).fit(data)
    asked = np.concatenate([data, 3 * rows(500, k, seed=1)])
    np.testing.assert_allclose(forest.score_samples(asked), theirs.score_samples(asked), rtol=0, atol=1e-12)


@given(
    n=st.integers(1, 300),
    k=st.integers(1, 4),
    subsample=st.integers(2, 300),
    levels=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_ties_and_any_shape_are_scikit_learn_s(
    n: int, k: int, subsample: int, levels: int, seed: int
) -> None:
    """Few distinct values make thresholds fall on values and trees uneven."""
    random = np.random.default_rng(seed)
    data = random.integers(0, levels, (n, k)) / 3
    forest = IsolationForest(8, subsample, seed=seed).fit(data)
    theirs = Trees(n_estimators=8, max_samples=min(subsample, n), random_state=seed).fit(data)
    np.testing.assert_allclose(forest.score_samples(data), theirs.score_samples(data), rtol=0, atol=1e-12)


def test_a_row_scores_the_same_in_any_company() -> None:
    """To the bit: otherwise a finding would depend on how the samples were cut."""
    data = rows(400, 3)
    forest = IsolationForest().fit(data)
    together = forest.score_samples(data)
    assert [float(forest.score_samples(row[np.newaxis])[0]) for row in data] == together.tolist()
    assert [-forest.anomaly_score(row) for row in data] == together.tolist()


def test_the_seed_decides() -> None:
    """The same data and seed give the same forest, another seed another one."""
    data = rows(300, 2)
    first, again, other = (IsolationForest(seed=seed).fit(data).score_samples(data) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_it_is_an_anomaly_detector() -> None:
    """One in a hundred of the fitted rows is above, and a far one."""
    data = np.random.default_rng(0).normal(size=(1000, 3))
    forest = IsolationForest().fit(data)
    assert isinstance(forest, AnomalyDetector)
    assert sum(forest.is_anomaly(row) for row in data) == 10
    assert forest.is_anomaly([5.0, 5.0, 5.0])
    assert 0.4 < forest.anomaly_score([0.0, 0.0, 0.0]) < 0.5 < forest.anomaly_score([5.0, 5.0, 5.0]) < 1


def test_values_that_are_not_finite_have_no_score() -> None:
    """They are left out of the fit, and score NaN, which is no anomaly."""
    data = rows(300, 2)
    holes = np.concatenate([data, [[np.nan, 1.0], [np.inf, np.inf]]])
    forest = IsolationForest().fit(holes)
    assert forest.score_samples(data).tolist() == IsolationForest().fit(data).score_samples(data).tolist()
    assert np.isnan(forest.score_samples(holes)[-2:]).all()
    assert not forest.is_anomaly([np.nan, 0.0])


def test_huge_tiny_and_constant_values_do_no_harm() -> None:
    """Beyond float32 they count as its largest; a constant is isolated by nothing."""
    data = rows(300, 2)
    forest = IsolationForest().fit(np.concatenate([data, [[1e308, -1e308], [5e-324, 0.0]]]))
    assert math.isfinite(forest.anomaly_score([-1.7e308, 1.7e308]))
    flat = IsolationForest().fit(np.full((300, 2), 0.1))
    assert not flat.is_anomaly([0.1, 0.1])
    assert not flat.is_anomaly([9.0, 0.1])


def test_what_is_refused() -> None:
    """Each with what was expected and what was got."""
    with pytest.raises(ValueError, match="expected n_trees of at least 1, got 0"):
        IsolationForest(0)
    with pytest.raises(ValueError, match="expected subsample between 2 and 16384, got 1"):
        IsolationForest(subsample=1)
    with pytest.raises(ValueError, match="expected quantile between 0 and 1, got 2"):
        IsolationForest(quantile=2)
    with pytest.raises(ValueError, match=r"expected rows of shape \(n, k\), got shape \(3,\)"):
        IsolationForest().fit([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="at least one row of finite values"):
        IsolationForest().fit([[np.nan]])
    with pytest.raises(ValueError, match="call fit"):
        IsolationForest().score_samples([[1.0]])
    with pytest.raises(ValueError, match="expected rows of 2 values as fitted, got 3"):
        IsolationForest().fit(rows(10, 2)).score_samples(rows(1, 3))
    assert IsolationForest().fit(rows(10, 2)).score_samples(np.empty((0, 2))).tolist() == []


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At construction, where it can be read, and not in the middle of a run."""
    monkeypatch.setattr(extras, "find_spec", {"scipy": object()}.get)
    message = r"IsolationForest needs scikit-learn: pip install 'entrenar-otel\[detectors\]'"
    for make in (IsolationForest, ForestMonitor):
        with pytest.raises(MissingExtra, match=message):
            make()


def test_scikit_learn_is_loaded_by_the_first_fit() -> None:
    """Importing and making detectors stays light; Welch takes scipy.special only."""
    program = (
        "import json, sys, entrenar_processors as p\n"
        "loaded = lambda: [name for name in ('scipy', 'scipy.stats', 'sklearn') if name in sys.modules]\n"
        "seen = [loaded()]\n"
        "p.ForestMonitor(); p.DriftMonitor(); seen.append(loaded())\n"
        "p.DriftDetector().detect_performance_drift([1, 2, 3], [1, 2, 4]); seen.append(loaded())\n"
        "p.IsolationForest().fit([[1.0], [2.0]]); seen.append(loaded())\n"
        "print(json.dumps(seen))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, made, tested, fitted = json.loads(done.stdout)
    assert (first, made, tested) == ([], [], ["scipy"])
    assert "sklearn" in fitted
