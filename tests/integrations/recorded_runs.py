"""What runs left in the lake of the working folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from entrenar_otel.lake import Lake


def rows(sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    return [tuple(row.values()) for row in Lake("entrenar-lake").query(sql).to_pylist()]


def series(metric: str, split: str | None = None) -> list[tuple[Any, ...]]:
    """`(epoch, batch, step, value)` of a metric, of one split or without any, in recording order."""
    where = "tags['split'] IS NULL" if split is None else f"tags['split'] = '{split}'"
    return rows(
        f"SELECT epoch, batch, step, value FROM metrics WHERE metric = '{metric}' AND {where} "
        "ORDER BY timestamp, rank, seq"
    )


def values(metric: str, split: str | None = None) -> list[float]:
    """The values alone."""
    return [row[-1] for row in series(metric, split)]


def states() -> list[str]:
    """How the runs ended, oldest first."""
    return [row[0] for row in rows("SELECT state FROM runs ORDER BY started_at, attempt, rank")]


def events(name: str) -> list[dict[str, str]]:
    """The attributes of the events of a name, in order."""
    return [
        dict(row[0])
        for row in rows(f"SELECT attributes FROM events WHERE name = '{name}' ORDER BY timestamp")
    ]


def examples(page: str) -> list[str]:
    """The Python examples of a page of `docs/integrations`."""
    text = (Path(__file__).parents[2] / "docs/integrations" / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
