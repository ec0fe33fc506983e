"""Run values: of each series of a run the last, best and final value, and the batches of its end, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from entrenar_processors.metric_names import is_better, known_as, split_of
from entrenar_processors.samples import Floats, Series

from entrenar_otel.compare.batch_means import MOST
from entrenar_otel.compare.reader import RunReader
from entrenar_otel.semconv import MACHINE

#: The share of a run's values that are its end.
END_SHARE = 0.1

#: Of each series the rank with the lowest number; its last tenth in 32 batches, as far as it has as many
#: values. `value`, `least` and `most` of samples are all the same.
_VALUES = f"""
WITH chosen AS (
    SELECT * FROM ({{source}}) WHERE list_contains(?, run_id) {{where}}
), numbered AS (
    SELECT run_id, metric, tags, step, value, least, most,
        count(*) OVER (PARTITION BY run_id, metric, tags) AS n,
        row_number() OVER (PARTITION BY run_id, metric, tags ORDER BY place) - 1 AS nth
    FROM (
        SELECT *, rank = min(rank) OVER (PARTITION BY run_id, metric, tags) AS is_first
        FROM chosen WHERE isfinite(value)
    ) WHERE is_first
), placed AS (
    SELECT *, greatest(1, CAST(floor(n * {END_SHARE}) AS BIGINT)) AS many,
        CASE WHEN nth >= n - many
            THEN CASE WHEN many >= {MOST}
                THEN (nth - n + many) * {MOST} // many ELSE 0 END END AS batch
    FROM numbered
), batched AS (
    SELECT run_id, metric, tags, batch, any_value(n) AS n, any_value(many) AS many,
        arg_max(value, nth) AS last, max(nth) AS nth, min(step) AS first_step, max(step) AS last_step,
        min(least) AS min, max(most) AS max,
        arg_min_null(step, (least, nth)) AS min_step, arg_min_null(step, (-most, nth)) AS max_step,
        avg(value) AS mean, count(*) AS rows
    FROM placed GROUP BY run_id, metric, tags, batch
), valued AS (
SELECT run_id, metric, tags, any_value(n) AS count,
    arg_max(last, nth) AS last, min(first_step) AS first_step, max(last_step) AS last_step,
    min(min) AS min, arg_min_null(min_step, min) AS min_step,
    max(max) AS max, arg_max_null(max_step, max) AS max_step,
    sum(mean * rows) FILTER (batch IS NOT NULL) / sum(rows) FILTER (batch IS NOT NULL) AS final,
    list(mean ORDER BY batch) FILTER (batch IS NOT NULL) AS batches
FROM batched GROUP BY run_id, metric, tags
), odd AS (
    SELECT run_id, metric, tags, count(*) AS nonfinite FROM chosen WHERE NOT isfinite(value)
    GROUP BY run_id, metric, tags
)
SELECT * REPLACE (coalesce(nonfinite, 0) AS nonfinite) FROM valued FULL JOIN odd USING (run_id, metric, tags)
"""
OF_SAMPLES = "SELECT *, value AS least, value AS most, (attempt, seq) AS place FROM {table}"
OF_CURVES = "SELECT *, mean AS value, min AS least, max AS most, (attempt, timestamp) AS place FROM curves"

#: A series as it is compared: the name it is known by, its split, its other tags.
Key = tuple[str, str | None, tuple[tuple[str, str], ...]]


class RunValues:
    """The values of all series of one run, NaN where there is none.

    In the order of `series`, the arrays are `(k,)`, and `batches` is `(k, 32)`.
    """

    def __init__(self, run_id: str, table: pa.Table, is_pruned: bool) -> None:
        self.run_id = run_id
        self.is_pruned = is_pruned
        rows = zip(table["metric"].to_pylist(), table["tags"].to_pylist(), strict=True)
        self.series = [Series.of(metric, dict(tags or ())) for metric, tags in rows]
        self.keys: list[Key] = [key_of(series) for series in self.series]
        self.nonfinite = _floats(table, "nonfinite")
        self.count, self.last, self.final = (_floats(table, name) for name in ("count", "last", "final"))
        self.first_step, self.last_step = (_floats(table, name) for name in ("first_step", "last_step"))
        ways = np.array([is_better(series.metric) or "" for series in self.series], object)
        self.best, self.best_step = (
            np.select(
                [ways == "less", ways == "more"],
                [_floats(table, f"min{what}"), _floats(table, f"max{what}")],
                np.nan,
            )
            for what in ("", "_step")
        )
        self.batches = np.full((len(self.series), MOST), np.nan)
        lists = table["batches"].combine_chunks()
        sizes = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        starts = np.concatenate([[0], np.cumsum(sizes)])[:-1][sizes == MOST]
        whole = np.flatnonzero(sizes == MOST)
        self.batches[whole] = np.asarray(lists.flatten())[starts[:, None] + np.arange(MOST)]


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), np.float64)


def values_of(
    reader: RunReader, runs: Sequence[dict[str, Any]], metrics: Sequence[str] | None = None
) -> list[RunValues]:
    """The values of runs, as `lake.overview.runs_of` has them, of these metrics only. Raises QueryError."""
    where = f"AND {'' if metrics else 'NOT'} list_contains(?, metric)"  # the machine's only where asked for
    parameters: list[Any] = [list(metrics or MACHINE)]
    ids = [run["run_id"] for run in runs]
    table = reader.ask(_VALUES.format(source=samples_of(runs), where=where), parameters, ids)
    found = []
    for run_id in ids:
        values = _of(table, run_id)
        is_pruned = not len(values) and reader.lake.is_pruned(run_id)
        if is_pruned:
            values = reader.ask(_VALUES.format(source=OF_CURVES, where=where), parameters, [run_id])
        found.append(RunValues(run_id, values, is_pruned))
    return found


def samples_of(runs: Sequence[dict[str, Any]]) -> str:
    """The samples of these runs in SQL, with their place in the order of recording."""
    return OF_SAMPLES.format(
        table="metrics_latest" if any(run["attempts"] > 1 for run in runs) else "metrics"
    )


def _of(table: pa.Table, run_id: str) -> pa.Table:
    return table.filter(pc.equal(table["run_id"], run_id))


def key_of(series: Series) -> Key:
    """By which a series is the same as one of another run, whatever either calls it.

    >>> key_of(Series("val_acc")), key_of(Series.of("accuracy", {"split": "validation"}))
    (('accuracy', 'validation', ()), ('accuracy', 'validation', ()))
    """
    tags = tuple(pair for pair in series.tags if pair[0] != "split")
    return known_as(series.metric)[0], split_of(series), tags
