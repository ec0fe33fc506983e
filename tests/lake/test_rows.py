"""Rows for a query are those that are stored, in the same order."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import Samples, Series

from entrenar_otel.lake.tables.rows import _LONG, in_memory_table, live_batches, metric_batches
from entrenar_otel.lake.tables.schema import Owner


def block_of(names: list[Series], rows: int, first: int) -> Samples:
    at = np.arange(rows)
    return Samples.from_columns(
        {series: np.random.default_rng(7).random(rows) for series in names},
        seq=first + at,
        time_ns=1_700_000_000_000_000_000 + 1_000_001 * (first + at),
        epoch=at // 100 - (at % 3 == 0) * (at // 100 + 1),  # every third is absent
        step=at,
    )


@pytest.mark.parametrize("rows", [1, _LONG - 1, _LONG, 3 * _LONG + 5])
def test_long_series_and_short_ones_beside_each_other(rows: int) -> None:
    """Series that share their places, one with tags, one of several parts, and short ones between them."""
    together = [Series("b"), Series("d"), Series.of("d", {"split": "v", "k": "1"}), Series("z")]
    samples = Samples.concat(
        [
            block_of(together, rows, 0),
            block_of([Series("a"), Series("c"), Series("d")], 7, rows),
            block_of([Series("b")], _LONG, rows + 7),
        ]
    )
    owner = Owner("run", 2, 3)
    wanted, found = (
        in_memory_table(list(batches(samples, owner))).to_pylist()
        for batches in (metric_batches, live_batches)
    )
    assert found == wanted
