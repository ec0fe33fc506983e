"""SeriesProcessor: a table is judged in parts, whatever their size, and bad directions are told by sign."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import Samples, Series
from entrenar_processors.detectors import series as module
from entrenar_processors.detectors.spike import SpikeDetector
from entrenar_processors.detectors.zscore import SlidingWindowBaseline


@pytest.mark.parametrize("cells", [1, 1 << 8, 1 << 20])
def test_a_long_table_is_judged_in_parts(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever size: the same findings, at the rows of the whole table."""
    values = 2.0 + 0.1 * np.random.default_rng(3).standard_t(3, (3000, 3))
    values[1000:1010, 1] += 3.0
    columns = dict(zip(("accuracy", "loss", "gradient_norm"), values.T, strict=True))
    samples = Samples.from_columns(columns)
    expected = [SpikeDetector().update(samples), SlidingWindowBaseline().update(samples)]
    assert {finding.at.seq for finding in expected[0]} & set(range(1000, 1010))
    assert len(expected[1]) > 10
    monkeypatch.setattr(module, "_CELLS", cells)
    monkeypatch.setattr(module, "_ROWS", 7)
    assert [SpikeDetector().update(samples), SlidingWindowBaseline().update(samples)] == expected


@pytest.mark.parametrize("k", [3, 40])
def test_values_are_turned_where_less_is_bad(k: int) -> None:
    """A fall of accuracy is a spike with its own numbers, in tables of few columns and of many."""
    values = 0.8 + 0.01 * np.random.default_rng(4).normal(size=(400, k))
    values[300:310, k - 1] -= 0.4
    names = [Series.of("accuracy" if i % 2 == (k - 1) % 2 else "loss", {"layer": i}) for i in range(k)]
    found = SpikeDetector().update(Samples.from_columns(dict(zip(names, values.T, strict=True))))
    (one,) = [finding for finding in found if finding.series == names[-1]]
    assert one.value == values[one.at.seq, k - 1]
    assert one.expected == pytest.approx(0.8, abs=0.01)
    assert one.score < -5
