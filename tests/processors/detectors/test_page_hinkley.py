"""PageHinkley: direction, cost and settings; for its samples see test_river_oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors import Finding, PageHinkley, Processor, Samples, Severity
from entrenar_processors.stats.page_hinkley import PageHinkleyCore
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("each_core")


def find(processor: Processor, values: NDArray[np.float64]) -> list[Finding]:
    return processor.update(Samples.from_columns({"loss": values}))


def noise(n: int, seed: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(2, 0.1, n)


def test_page_hinkley_tells_the_direction() -> None:
    """Up is positive, down negative; `mode` leaves one of them out."""
    steps = np.repeat([0.0, 5.0, -5.0], 300) + noise(900)
    assert [np.sign(f.score) for f in find(PageHinkley(), steps)] == [1, -1]
    assert [f.score > 0 for f in find(PageHinkley(mode="up"), steps)] == [True]
    assert [f.score > 0 for f in find(PageHinkley(mode="down"), steps)] == [False]
    assert {f.severity for f in find(PageHinkley(), steps)} == {Severity.MEDIUM}


def test_a_detection_in_every_chunk_costs_no_more_than_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a detection the stretches start small: far fewer samples are touched than n²."""
    values = np.resize(np.repeat([0.0, 100.0], 40), 20_000)
    detector = PageHinkley(min_instances=2, threshold=20.0, metrics=["x"])
    touched = 0
    stretch = PageHinkleyCore.stretch

    def counting(core: PageHinkleyCore, row: int, part: NDArray[np.float64]) -> Any:
        nonlocal touched
        touched += len(part)
        return stretch(core, row, part)

    monkeypatch.setattr(PageHinkleyCore, "stretch", counting)
    assert len(detector.update(Samples.from_columns({"x": values}))) == 499
    assert touched < 4 * len(values)


def test_settings_are_refused() -> None:
    """At construction, with what is expected and got."""
    with pytest.raises(ValueError, match="expected mode both, up or down, got 'sideways'"):
        PageHinkley(mode="sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected alpha between 1e-09 and 1, got 2"):
        PageHinkley(alpha=2)
