"""Curves: aligned by step, and parted where they really are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from entrenar_otel.compare.curves import aligned
from entrenar_otel.compare.runs import compare_runs

STEPS = np.linspace(0, 1_000, 64)


def curves(random: np.random.Generator, runs: int, shift: float = 0.0, between: float = 0.0) -> list[Any]:
    course = 0.3 + 2 * np.exp(-STEPS / 100) + shift * (STEPS >= 500)
    return [
        (STEPS, course + random.normal(0, between) + random.normal(0, 0.01, len(STEPS))) for _ in range(runs)
    ]


@pytest.mark.parametrize("runs", [1, 4])
def test_curves_part_where_they_do(runs: int) -> None:
    random = np.random.default_rng(1)
    found = aligned("loss", curves(random, runs), curves(random, runs, shift=-0.08))
    assert found is not None
    assert found.diverges_at == pytest.approx(500, abs=40)
    assert found.gap == pytest.approx(-0.08, abs=0.05)
    assert not found.is_from_start


@pytest.mark.parametrize(("runs", "between", "most"), [(1, 0.0, 0.03), (4, 0.0, 0.03), (4, 0.01, 0.05)])
def test_curves_that_are_the_same_rarely_part(runs: int, between: float, most: float) -> None:
    """Of 500 pairs; also where the seeds of a configuration end at levels of their own."""
    random = np.random.default_rng(2)
    parted = 0
    for _ in range(500):
        found = aligned("x", curves(random, runs, 0.0, between), curves(random, runs, 0.0, between))
        parted += found is not None and found.diverges_at is not None
    assert parted / 500 <= most


def test_curves_of_other_steps_are_interpolated() -> None:
    fine, coarse = np.arange(0.0, 100.0), np.arange(50.0, 200.0, 5.0)
    found = aligned("x", [(fine, 2 * fine)], [(coarse, 2 * coarse + 1)])
    assert found is not None
    assert (found.steps[0], found.steps[-1]) == (50.0, 99.0)
    assert np.array(found.b) - np.array(found.a) == pytest.approx(1.0)
    assert aligned("x", [(fine, fine)], [(fine + 500, fine)]) is None
    few = aligned("x", [(fine[:5], fine[:5])], [(fine[:5], fine[:5] + 9)])
    assert few is not None
    assert (few.is_judged, few.diverges_at) == (False, None)


def test_curves_of_runs_with_and_without_steps(train: Callable[..., None]) -> None:
    """Those of the samples; a run that gives no step counts its values."""
    from entrenar_otel import Monitor

    train("a", epochs=2)
    with Monitor("b", lake="lake", quiet=True) as monitor:
        for _ in range(120):
            monitor.log(loss=5.0)
    (loss,) = [curve for curve in compare_runs("lake", "a", "b").curves if curve.name == "loss"]
    assert loss.is_from_start
    assert len(loss.steps) > 50
    assert set(loss.b) == {5.0}
