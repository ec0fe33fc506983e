"""Lineage: 100,000 versions of one model, each made from the one before, of which many were evaluated twice.

CPU time, medians: read through the view `lineage` and made a graph, from what was said by hand and from
spans; and the source of a regression over the whole ancestry, in a graph that is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.harness import Row, temporary
from entrenar_otel import semconv
from entrenar_otel.identity.process import new_process_name
from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.catalog import run_folder
from entrenar_otel.lake.tables.schema import LINEAGE, SPANS
from entrenar_otel.lineage import Lineage

VERSIONS = 100_000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def measure() -> Iterator[Row]:
    with temporary() as folder:
        for what, write in (("by hand", _by_hand), ("spans", _as_spans)):
            lake = Lake(folder / what, folder / "live")
            write(lake)
            seconds, lineage = _cpu_seconds(partial(Lineage.open, lake), 5)
            assert len(lineage) == VERSIONS
            yield Row(f"rebuild of 100,000 versions from Parquet, {what}", 3.0, seconds, "s", "CPU time")
        seconds, found = _cpu_seconds(lambda: lineage.find_regression_source(f"m@{VERSIONS - 1}"), 5)
        assert found.source is not None
        yield Row("source of a regression, 100,000 ancestors", 0.2, seconds, "s", "CPU time")


def _cpu_seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        made = call()
        times.append(time.process_time() - start)
    return float(np.median(times)), made


def _accuracies() -> np.ndarray:
    values = 0.9 + np.random.default_rng(0).normal(0, 0.001, VERSIONS)
    values[VERSIONS // 2 :] -= 0.1
    return values


def _write(lake: Lake, kind: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    name = f"{run_folder(kind, '2026-01-01', 'm')}/{new_process_name()}-000000.parquet"
    lake.storage.write(name, schema, iter(table.to_batches()))


def _by_hand(lake: Lake) -> None:
    rows = [
        {
            "model_id": "m",
            "version": str(at),
            "accuracy": float(value),
            "created_at": NOW,
            "config_hash": f"{at:016x}",
            "config_group": f"{at:016x}",
            "metrics": [("loss", 0.1), ("latency", 0.2)],
            "parents": [{"parent_id": f"m@{at - 1}", "change_type": "tune"}] if at else [],
            "source": "hand",
        }
        for at, value in enumerate(_accuracies())
    ]
    _write(lake, "lineage", rows, LINEAGE)


def _as_spans(lake: Lake) -> None:
    rows = [
        {
            "run_id": f"run-{at}",
            "attempt": 1,
            "rank": 0,
            "name": semconv.MODEL_VERSION,
            "trace_id": f"{at:032x}",
            "span_id": f"{2 * at + 1:016x}",
            "parent_span_id": f"{2 * at + 2:016x}",
            "start_time": NOW,
            "end_time": NOW,
            "kind": "INTERNAL",
            "status": "OK",
            "scope": "entrenar_otel",
            "attributes": [
                (semconv.MODEL_ID, "m"),
                (semconv.MODEL_VERSION_NAME, str(at)),
                (semconv.MODEL_ACCURACY, str(value)),
                (semconv.MODEL_CONFIG_HASH, f"{at:016x}"),
                (semconv.MODEL_CONFIG_GROUP, f"{at:016x}"),
                (f"{semconv.MODEL_METRIC}loss", "0.1"),
                (semconv.MODEL_PARENTS, f'["m@{at - 1}"]'),
                (semconv.MODEL_CHANGES, '["tune"]'),
            ][: 8 if at else 6],
            "events": [],
            "links": [],
        }
        for at, value in enumerate(_accuracies())
    ]
    _write(lake, "spans", rows, SPANS)
