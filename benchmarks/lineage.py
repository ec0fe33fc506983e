"""Lineage: 100,000 versions of one model, each made from the one before, of which many were evaluated twice.

CPU time, medians: read through the view `lineage` and made a graph, from what was said by hand and from
spans; and the source of a regression over the whole ancestry, in a graph that is there. Then how often an
answer is wrong: chains of ten versions, evaluated three times each or, but for the first, once.
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
from entrenar_otel.lineage.by_hand import Statement
from entrenar_otel.lineage.graph import LineageGraph
from entrenar_otel.lineage.regression import find_source
from entrenar_otel.lineage.statements import Statements
from entrenar_otel.lineage.version_id import VersionId

VERSIONS, CHAINS = 100_000, 1_000
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
    random = np.random.default_rng(0)
    for first, others in ((3, 3), (5, 1)):
        what = f"{others} evaluation{'s' * (others > 1)} each" + f", {first} of the first" * (first > others)
        blamed = [_blamed(random, 0.0, first, others) is not None for _ in range(CHAINS)]
        yield Row(f"blamed though nothing changed, {what}", 5.0, 100 * float(np.mean(blamed)), "%")
        found = [_blamed(random, 5.0, first, others) == "m@5" for _ in range(CHAINS)]
        yield Row(
            f"missed drop of 5 standard deviations, {what}", None, 100 - 100 * float(np.mean(found)), "%"
        )


def _blamed(random: np.random.Generator, drop: float, first: int, others: int) -> str | None:
    """The version that a change made worse, of ten of which the sixth is worse by so many deviations."""
    rows = []
    for version in range(10):
        parents = ((f"m@{version - 1}", None),) if version else ()
        for value in random.normal(0.9 - 0.01 * drop * (version >= 5), 0.01, others if version else first):
            said = Statement(VersionId("m", str(version)), accuracy=float(value), parents=parents)
            rows.append(said.row() | {"source": "run"})
    graph = LineageGraph(Statements(pa.Table.from_pylist(rows, schema=LINEAGE)))
    lake = Lake("not-asked")
    found = find_source(lake, graph, "m@9", "accuracy", tolerance=None, better=None, alpha=0.05)
    return found.source.child if found.source else None


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
