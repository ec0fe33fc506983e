"""Parent: the version that this run's model came from, and what became better or worse since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entrenar_otel.compare.settings import differences, flat
from entrenar_otel.errors import EntrenarError, QueryError
from entrenar_otel.semconv import MACHINE

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

_NODES = "SELECT model_id, version, parents, run_id, metrics, accuracy FROM lineage ORDER BY created_at"
_BEST = """
SELECT metric, tags, last(best ORDER BY attempt) AS best, last(last ORDER BY attempt) AS last
FROM summaries WHERE rank = (SELECT min(rank) FROM summaries) AND NOT list_contains(?, metric)
GROUP BY metric, tags ORDER BY metric
"""
_CONFIG = "SELECT CAST(config AS VARCHAR) AS config FROM runs ORDER BY attempt DESC, rank LIMIT 1"
#: Metrics that are compared, and settings that differ.
_MAX_ROWS = 20


@dataclass(frozen=True)
class Parent:
    """One parent: `MODEL@VERSION`, the kind of change, its run, and both sides of what both measured."""

    version: str
    change: str
    run_id: str
    #: Series → best value of the parent, and of this run (the last one where neither way is better).
    metrics: Mapping[str, tuple[float, float]]
    #: Setting → what it was, and is.
    config: Mapping[str, tuple[Any, Any]]


def parents_of(lake: Lake, run_id: str) -> list[Parent]:
    """The parents of what this run made; none where none is known, or the lake keeps no lineage."""
    try:
        rows = lake.query(_NODES).to_pylist()
    except QueryError:  # a lake of a version that knows no lineage
        return []
    known = {f"{row['model_id']}@{row['version']}": row["run_id"] for row in rows}
    mine = [row for row in rows if row["run_id"] == run_id]
    wanted = {one["parent_id"]: one["change_type"] for row in mine for one in row["parents"] or ()}
    return [
        _compared(lake, run_id, version, change or "", known.get(version) or "")
        for version, change in wanted.items()
    ]


def _compared(lake: Lake, run_id: str, version: str, change: str, parent: str) -> Parent:
    if not parent or parent == run_id:
        return Parent(version, change, "", {}, {})
    try:
        before, after = _numbers(lake, parent), _numbers(lake, run_id)
        shared = {name: (before[name], after[name]) for name in before if name in after}
        return Parent(
            version, change, parent, shared, _differences(_config(lake, parent), _config(lake, run_id))
        )
    except (EntrenarError, ValueError):  # a table more: the report is made without it
        return Parent(version, change, parent, {}, {})


def _numbers(lake: Lake, run_id: str) -> dict[str, float]:
    rows = lake.query(_BEST, [list(MACHINE)], run_id=run_id).to_pylist()
    found = {}
    for row in rows[: 10 * _MAX_ROWS]:
        tags = ",".join(f"{key}={value}" for key, value in row["tags"])
        value = row["best"] if row["best"] is not None else row["last"]
        if value is not None:
            found[f"{row['metric']}{{{tags}}}" if tags else row["metric"]] = float(value)
    return dict(list(found.items())[:_MAX_ROWS])


def _config(lake: Lake, run_id: str) -> Any:
    texts = lake.query(_CONFIG, run_id=run_id)["config"].to_pylist()
    return json.loads(texts[0]) if texts and texts[0] else {}


def _differences(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by name; None is what is not there, or withheld."""
    sides = [flat(side) if isinstance(side, Mapping) else {} for side in (before, after)]
    found = differences([sides[0]], [sides[1]])[:_MAX_ROWS]
    return {one.name: (next(iter(one.a), None), next(iter(one.b), None)) for one in found}
