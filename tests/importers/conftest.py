"""Tests with a tracker that is not installed here are not collected; `make test-frameworks` has them all."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from entrenar_otel import Lake

#: As in the test files' names; pip's names are the same.
TRACKERS = ("mlflow", "tensorboard", "trackio", "wandb")
MISSING = {name for name in TRACKERS if find_spec(name) is None}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """`test_wandb.py` needs what `wandb` stands for."""
    return True if MISSING.intersection(collection_path.stem.split("_")) else None


def pytest_report_header() -> str | None:
    """What is not tested here, before anything is."""
    if not MISSING:
        return None
    return f"NOT TESTED HERE, `make test-frameworks` does: imports from {', '.join(sorted(MISSING))}"


@pytest.fixture
def curve() -> Callable[..., list[Any]]:
    """The steps, times in microseconds and values of a metric of the lake, in recording order."""

    def rows(metric: str, run_id: str | None = None) -> list[Any]:
        table: pa.Table = Lake("lake").query(
            "SELECT step, epoch_us(timestamp), value FROM metrics "
            "WHERE metric = ? AND run_id LIKE ? ORDER BY seq",
            [metric, run_id or "%"],
        )
        return [tuple(row.values()) for row in table.to_pylist()]

    return rows
