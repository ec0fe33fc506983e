"""A run whose heartbeat the test moves, and a meter of ours over the SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.metering.providers import Front
from entrenar_otel.testing import Kit, kit

Rows = list[tuple[Any, ...]]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Kit]:
    with kit(tmp_path / "kit", on_bad_value="warn") as made:
        yield made


@pytest.fixture
def front(one: Kit) -> Front:
    made = Front()
    one.monitor.adopt(made)
    return made


@pytest.fixture
def meter(front: Front) -> Any:
    return front.get_meter("my.training", "1.2")


@pytest.fixture
def rows(one: Kit) -> Callable[..., Rows]:
    """Rows of the lake in recording order: (metric, value, tags, epoch, batch, step)."""

    def ask(metric: str | None = None) -> Rows:
        where = "" if metric is None else f"WHERE metric = '{metric}'"
        table = one.monitor.query(
            f"SELECT metric, value, tags, epoch, batch, step FROM metrics {where} ORDER BY seq"
        )
        return [
            (row["metric"], row["value"], dict(row["tags"]), row["epoch"], row["batch"], row["step"])
            for row in table.to_pylist()
        ]

    return ask
