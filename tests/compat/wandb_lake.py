"""What the tests of W&B's calls look at: the lake, and no run of another test."""

from __future__ import annotations

from typing import Any

from entrenar_otel import Lake

QUIET = {"quiet": True, "lake": "lake", "interval_seconds": 1e5}


def curve(metric: str) -> list[tuple[int, float]]:
    """Steps and values, in recording order."""
    rows = Lake("lake").query("SELECT step, value FROM metrics WHERE metric = ? ORDER BY seq", [metric])
    return [(row["step"], row["value"]) for row in rows.to_pylist()]


def only_run() -> dict[str, Any]:
    """The record of the one run that there is."""
    (record,) = Lake("lake").query("SELECT * FROM runs").to_pylist()
    return dict(record)


def event(name: str) -> dict[str, str]:
    """The attributes of the one event of this name."""
    (found,) = Lake("lake").query("SELECT attributes FROM events WHERE name = ?", [name]).to_pylist()
    return dict(found["attributes"])
