"""Budget facts: what a run in the lake says on its budgets: spans, peak memory and exact statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from entrenar_processors.budgets.live import BYTES, SECONDS
from entrenar_processors.budgets.span_times import SpanTimes
from entrenar_processors.budgets.verdicts import BudgetFacts
from entrenar_processors.expression import Lookup

from entrenar_otel.lake.sql.statistics import KEPT, STATISTICS
from entrenar_otel.semconv import BUDGET_CHECK, BUDGET_FACTS, PEAK_ALLOCATED, PEAK_RSS

if TYPE_CHECKING:
    from entrenar_otel.lake.lake import Lake

_SPANS = """
SELECT name, trace_id, span_id, parent_span_id, epoch_us(start_time) AS start_us, duration_seconds
FROM spans ORDER BY start_time, span_id
"""
_EVENTS = "SELECT attributes FROM events WHERE name = ?"
_MEASURED = "SELECT count(*) AS n FROM metrics WHERE metric = ?"
#: Of the series with exactly the tags asked for, else of all of the metric that carry them.
_VALUES = """
WITH chosen AS (
  SELECT *, cardinality(tags) = {n} AS is_exact FROM {table} WHERE metric = ? {carried})
SELECT {what} AS value FROM chosen WHERE is_exact = (SELECT bool_or(is_exact) FROM chosen) HAVING count(*) > 0
"""
_CARRIED = "AND list_contains(map_extract(tags, ?), ?)"
#: Each function of an expression; a single value deviates by nothing, as in a live Summary.
_FUNCTIONS = STATISTICS | {
    "std": f"CASE WHEN count(*) - {STATISTICS['nonfinite']} = 1 THEN 0 ELSE {STATISTICS['std']} END"
}
#: The same of a pruned run: of several series or ranks, only what can be combined.
_PRUNED = {name: f"CASE WHEN count(*) = 1 THEN any_value({name}) END" for name in KEPT} | {
    "min": "min(min)",
    "max": "max(max)",
    "count": "CAST(sum(count) AS DOUBLE)",
}


def facts_of(lake: Lake, run_id: str) -> BudgetFacts:
    """What is known of a run, over all its attempts and ranks. Raises QueryError."""
    peaks, checked = peaks_of(lake, run_id), checked_of(lake, run_id)
    return BudgetFacts(
        spans=span_times_of(lake, run_id),
        peak_rss_bytes=peaks.get(PEAK_RSS),
        peak_allocated_bytes=peaks.get(PEAK_ALLOCATED),
        lookup=lookup_of(lake, run_id),
        seconds=checked.get(SECONDS, {}),
        bytes=checked.get(BYTES, {}),
    )


def span_times_of(lake: Lake, run_id: str) -> SpanTimes:
    """All spans of a run. One that is still open lasts until the latest time known of any span."""
    import pyarrow.compute as pc  # takes long to import, and most views have no budgets

    table = lake.query(_SPANS, run_id=run_id).combine_chunks()
    keys, parents = (
        pc.binary_join_element_wise(table["trace_id"], table[name], "/").combine_chunks()
        for name in ("span_id", "parent_span_id")
    )
    names = table["name"].combine_chunks().dictionary_encode()
    start = table["start_us"].to_numpy().astype(np.int64) * 1000
    seconds = table["duration_seconds"].to_numpy()
    is_open = np.isnan(seconds)
    end = start + np.round(np.where(is_open, 0.0, seconds) * 1e9).astype(np.int64)
    latest = end.max(initial=0)
    return SpanTimes(
        names=tuple(names.dictionary.to_pylist()),
        name=names.indices.to_numpy().astype(np.int64),
        parent=pc.fill_null(pc.index_in(parents, value_set=keys), -1).to_numpy().astype(np.int64),
        start_ns=start,
        end_ns=np.where(is_open, latest, np.maximum(start, end)),
        ids=table["span_id"].to_pylist(),
    )


def peaks_of(lake: Lake, run_id: str) -> dict[str, float]:
    """Peak memory in bytes as the run's processes noted it, the largest of each kind."""
    peaks: dict[str, float] = {}
    for attributes in lake.query(_EVENTS, [BUDGET_FACTS], run_id=run_id)["attributes"].to_pylist():
        for name, text in attributes:
            if name in (PEAK_RSS, PEAK_ALLOCATED):
                try:
                    peaks[name] = max(peaks.get(name, 0.0), float(text))
                except ValueError:  # another program's event of that name
                    continue
    return peaks


def checked_of(lake: Lake, run_id: str) -> dict[str, dict[str, float]]:
    """What the run's `check_latency` and `check_memory` were given: by unit, the largest of each name."""
    checked: dict[str, dict[str, float]] = {}
    for pairs in lake.query(_EVENTS, [BUDGET_CHECK], run_id=run_id)["attributes"].to_pylist():
        attributes = dict(pairs)
        try:
            value, by_name = float(attributes["value"]), checked.setdefault(attributes["unit"], {})
            by_name[attributes["name"]] = max(value, by_name.get(attributes["name"], value))
        except (KeyError, ValueError):  # another program's event of that name
            continue
    return checked


def lookup_of(lake: Lake, run_id: str) -> Lookup:
    """The statistics of a run, for expressions; of a pruned run only those that were kept."""

    def lookup(function: str, metric: str, tags: Mapping[str, str]) -> float | None:
        has_rows = lake.query(_MEASURED, [metric], run_id=run_id)["n"][0].as_py() > 0
        if has_rows:
            what, table = _FUNCTIONS[function], "metrics"
        else:
            what, table = _PRUNED.get(function, "NULL"), "summaries"
        sql = _VALUES.format(n=len(tags), table=table, carried=_CARRIED * len(tags), what=what)
        parameters = [metric, *(text for pair in tags.items() for text in pair)]
        values = lake.query(sql, parameters, run_id=run_id)["value"]
        value = values[0].as_py() if len(values) else None
        return None if value is None else float(value)

    return lookup
