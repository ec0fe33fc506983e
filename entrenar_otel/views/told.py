"""Told: what was found in runs, and how much there will be of each, as the lake has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from entrenar_otel.errors import EntrenarError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.overview import TOLD
from entrenar_otel.views.model import Finding

#: Of each run the newest.
_MOST_FINDINGS = 50
#: One answer for findings and plans: to be asked costs more than what is asked for.
_QUERY = """
SELECT
    (SELECT list(found ORDER BY started_at DESC) FROM ({found}) AS found) AS findings,
    {plan} AS plan
"""
_FOUND = f"""
SELECT run_id, name, level, summary, metric, state, action, count, started_at, epoch, batch, step, value
FROM alerts WHERE {TOLD}{{of_runs}}
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY started_at DESC) <= {_MOST_FINDINGS}
"""
_PLAN = """(
    SELECT list(planned ORDER BY name = 'training.epoch' DESC, start_time DESC) FROM (
        SELECT
            run_id, name, start_time, TRY_CAST(attributes['training.epochs'] AS BIGINT) AS epochs,
            TRY_CAST(attributes['training.batches'] AS BIGINT) AS batches
        FROM spans WHERE name IN ('training.epoch', 'training.run'){of_runs}
        QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY start_time DESC) <= 2
    ) AS planned
)"""


class Told(NamedTuple):
    """The findings of a run, newest first; how many epochs it plans and batches in each, where it said so."""

    findings: Sequence[Finding] = ()
    epochs: int | None = None
    batches: int | None = None


def told_of(lake: Lake, run_id: str, *, with_plan: bool) -> Told:
    """Of one run; without the plan where only that cannot be read. Raises QueryError."""
    return _ask(lake, [run_id], with_plan=with_plan, run_id=run_id)[run_id]


def told_of_many(lake: Lake, run_ids: Sequence[str]) -> dict[str, Told]:
    """Of each of these runs, by one query that looks at the whole lake. Raises QueryError."""
    return _ask(lake, run_ids, with_plan=True, run_id=None)


def _ask(lake: Lake, run_ids: Sequence[str], *, with_plan: bool, run_id: str | None) -> dict[str, Told]:
    of_runs = "" if run_id is not None else " AND list_contains(?, run_id)"
    plan = _PLAN.format(of_runs=of_runs) if with_plan else "NULL"
    sql = _QUERY.format(found=_FOUND.format(of_runs=of_runs), plan=plan)
    try:
        answer = lake.query(sql, [list(run_ids)] * sql.count("?"), run_id=run_id)
    except EntrenarError:
        if not with_plan:
            raise
        return _ask(lake, run_ids, with_plan=False, run_id=run_id)  # a number more: runs are shown without it
    ((rows, spans),) = (row.values() for row in answer.to_pylist())
    findings: dict[str, list[Finding]] = {each: [] for each in run_ids}
    planned: dict[str, list[dict[str, Any]]] = {each: [] for each in run_ids}
    for row in rows or ():
        findings.setdefault(row["run_id"], []).append(_finding(row))
    for span in spans or ():
        planned.setdefault(span["run_id"], []).append(span)
    return {
        each: Told(findings[each], *(_first(planned[each], name) for name in ("epochs", "batches")))
        for each in run_ids
    }


def _first(spans: Sequence[dict[str, Any]], name: str) -> int | None:
    return next((span[name] for span in spans if span[name]), None)


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(
        row["name"] or "", str(row["level"]), row["summary"] or "", row["metric"], row["state"],
        row["action"] or "", row["count"] or 1, row["started_at"],
        row["epoch"], row["batch"], row["step"], row["value"],
    )  # fmt: skip
