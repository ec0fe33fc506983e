"""Exports: what other programs read back is what was recorded, to the last bit."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from entrenar_otel import ConfigError, MetricRecord, Monitor, RunError
from entrenar_otel.exporters import export_run, export_table
from entrenar_otel.lake import Lake
from entrenar_otel.semconv import DURATION_BOUNDS_SECONDS

ODD = [
    "val/loss",
    "Loss",
    'say "hi", \\ back',
    "two\nlines\r\n",
    "训练/損失",
    "comma,semi;colon",
    "'); DROP TABLE x",
]
DURATIONS = [0.00005, 0.0001, 0.00011, 0.004, 0.005, 3.0, 999.0, 5000.0]


@pytest.fixture
def run() -> tuple[Lake, list[MetricRecord]]:
    """A run with tags, odd names, values that are not finite, counters and histograms."""
    with Monitor("odd run/7", model_id='m"\n', lake="lake", quiet=True) as monitor:
        for i, name in enumerate(ODD):
            monitor.log({name: i + 0.1}, epoch=i, tags={"split": "val", 'a "b"\n': "ü,'\\"})
        monitor.log(loss=0.1, accuracy=math.nan, learning_rate=1e-310, epoch=1, batch=2, step=3)
        monitor.log(loss=1 / 3, accuracy=0.5, gradient_norm=math.inf)
        monitor.log({"down": -math.inf, "huge": 1.7976931348623157e308, "nothing": math.nan})
        for seconds in DURATIONS:
            monitor.log(step_duration=seconds)
        monitor.log(step_duration=0.2, tags={"phase": "eval", "le": "x", "rank": "y", "a b": "1", "a_b": "2"})
        for n in (32, 32, 7):
            monitor.log(samples=n, tokens=n * 100)
        monitor.log(samples=5, tags={"rank": "other"})
        records = monitor.to_records()
    return monitor.lake, records


def numbers(values: list[Any]) -> list[str]:
    return [repr(float(value)) for value in values]


def test_json_and_csv_round_trip(run: tuple[Lake, list[MetricRecord]], tmp_path: Path) -> None:
    """Both give every row, column, tag and value; NaN and Infinity as text; as a file and as text."""
    lake, records = run
    as_json = json.loads(export_run(lake, "odd run/7", "json") or "", parse_constant=lambda name: 1 / 0)
    as_csv = list(csv.DictReader(io.StringIO(export_run(lake, "odd run/7", "csv") or "", newline="")))
    for kind in ("json", "csv"):
        assert export_run(lake, "odd run/7", kind, tmp_path / "out") is None
        written = (tmp_path / "out").read_bytes().decode()
        assert written == export_run(lake, "odd run/7", kind)
    for found in (as_json, as_csv):
        assert [row["metric"] for row in found] == [record.metric for record in records]
        assert numbers([row["value"] for row in found]) == numbers([record.value for record in records])
        assert [row["timestamp"] for row in found] == [r.timestamp.isoformat() for r in records]
    assert list(as_csv[0]) == list(as_json[0]) == list(MetricRecord._fields)
    assert [row["tags"] for row in as_json] == [record.tags for record in records]
    assert [json.loads(row["tags"]) for row in as_csv] == [record.tags for record in records]
    assert [row["epoch"] for row in as_json] == [record.epoch for record in records]
    assert [row["epoch"] for row in as_csv] == ["" if r.epoch is None else str(r.epoch) for r in records]
    assert {row["run_id"] for row in as_json} == {"odd run/7"}


def test_parquet_round_trip(run: tuple[Lake, list[MetricRecord]], tmp_path: Path) -> None:
    """The lake's schema and exact rows; a NaN is found by readers that trust statistics."""
    lake, records = run
    export_run(lake, "odd run/7", "parquet", tmp_path / "run.parquet")
    table = pq.read_table(tmp_path / "run.parquet")
    assert table.schema.names == list(MetricRecord._fields)
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    found = [MetricRecord(**{**row, "tags": dict(row["tags"])}) for row in table.to_pylist()]
    assert repr(found) == repr(records)
    few = lake.query("SELECT value, tags FROM metrics WHERE metric = 'accuracy'")
    export_table(few, "parquet", tmp_path / "few.parquet")
    counted = duckdb.execute(f"SELECT count(*) FROM '{tmp_path}/few.parquet' WHERE isnan(value)").fetchall()
    assert counted == [(1,)]
    with pytest.raises(ConfigError, match="Parquet is not text: name a file with --output FILE"):
        export_run(lake, "odd run/7", "parquet")


def families(text: str) -> dict[str, Any]:
    found = list(text_string_to_metric_families(text))
    assert len({family.name for family in found}) == len(found)
    samples = [(one.name, tuple(sorted(one.labels.items()))) for family in found for one in family.samples]
    assert len(set(samples)) == len(samples), "a sample occurs twice"
    return {family.name: family for family in found}


def test_prometheus_values(run: tuple[Lake, list[MetricRecord]]) -> None:
    """Last values of gauges, totals of counters, cumulative buckets; labels for run, model, rank, tags."""
    lake, _ = run
    found = families(export_run(lake, "odd run/7", "prometheus") or "")
    base = {"run_id": "odd run/7", "model_id": 'm"\n', "rank": "0"}

    def values(name: str) -> list[tuple[dict[str, str], float]]:
        return [
            ({k: v for k, v in one.labels.items() if k not in base}, one.value) for one in found[name].samples
        ]

    assert {family.type for family in found.values()} == {"gauge", "counter", "histogram"}
    for family in found.values():
        assert all(base.items() <= one.labels.items() for one in family.samples)
        assert family.documentation
    assert values("training_loss") == [({}, 1 / 3)]
    assert values("training_accuracy") == [({}, 0.5)]
    assert values("training_learning_rate") == [({}, 1e-310)]
    assert values("training_gradient_norm") == [({}, math.inf)]
    assert values("training_down") == [({}, -math.inf)]
    assert values("training_huge") == [({}, 1.7976931348623157e308)]
    assert math.isnan(values("training_nothing")[0][1])
    assert values("training_val_loss") == [({"split": "val", "a__b__": "ü,'\\"}, 0.1)]
    assert values("training_user_loss") == [({"split": "val", "a__b__": "ü,'\\"}, 1.1)]
    assert found["training_two_lines"].documentation == "two\nlines\r\n, as reported by the training loop"
    assert values("training_samples") == [({"tag_rank": ""}, 71.0), ({"tag_rank": "other"}, 5.0)]
    assert values("training_tokens") == [({}, 7100.0)]

    duration = found["training_step_duration_seconds"]
    plain_ones = [one for one in duration.samples if not one.labels["phase"]]
    buckets = {one.labels["le"]: one.value for one in plain_ones if one.name.endswith("_bucket")}
    expected = {repr(b): sum(d <= b for d in DURATIONS) for b in DURATION_BOUNDS_SECONDS}
    assert {repr(float(bound)): n for bound, n in buckets.items() if bound != "+Inf"} == expected
    assert (buckets["+Inf"], len(buckets)) == (len(DURATIONS), 23)
    rest = {one.name.rpartition("_")[2]: one.value for one in plain_ones if "le" not in one.labels}
    assert rest == {"count": len(DURATIONS), "sum": pytest.approx(sum(DURATIONS), rel=1e-15)}
    other = next(one for one in duration.samples if one.labels["phase"] and one.labels.get("le") == "0.2")
    tags = {"phase": "eval", "tag_le": "x", "tag_rank": "y", "a_b": "1", "tag_a_b": "2"}
    assert (tags.items() <= other.labels.items(), other.value) == (True, 1.0)


def test_promtool_finds_nothing_to_complain_of(run: tuple[Lake, list[MetricRecord]]) -> None:
    """`promtool check metrics` parses the text and has no lint."""
    if shutil.which("promtool") is None:
        pytest.skip("NOT TESTED: promtool is missing (apt-get install prometheus)")
    text = export_run(run[0], "odd run/7", "prometheus") or ""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    bad = subprocess.run(
        ["promtool", "check", "metrics"], input="x_total 1\nx_total 2\n", capture_output=True, text=True
    )
    assert bad.returncode != 0, "promtool accepts anything"


@pytest.mark.parametrize(
    ("metrics", "kept", "told"),
    [
        (["eval/loss", "eval_loss"], {"training_eval_loss"}, "'eval/loss' and 'eval_loss'"),
        (["samples", "samples_total"], {"training_samples"}, "'samples' and 'samples_total'"),
        (["Step.duration_seconds_sum", "step_duration"], {"training_step_duration_seconds"}, "_sum"),
    ],
)
def test_names_that_clash(
    metrics: list[str], kept: set[str], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two metrics of one Prometheus name: the first (ours before a user's) is kept, and it is said."""
    caplog.set_level(logging.WARNING)
    with Monitor("r", lake="lake", quiet=True) as monitor:
        for metric in metrics:
            monitor.log({metric: 1.0})
    assert set(families(export_run(monitor.lake, "r", "prometheus") or "")) == kept
    assert told in caplog.text
    assert monitor.query("SELECT count(DISTINCT metric) n FROM metrics").to_pylist() == [{"n": 2}]


def test_counters_add_up_over_attempts_and_gauges_take_the_last() -> None:
    """Increments of all attempts count; a falling one does not."""
    for value in (5.0, 7.0):
        with Monitor("r", lake="lake", quiet=True) as monitor:
            monitor.log(samples=value, loss=value)
            monitor.log(samples=-3, loss=value / 2)
    found = families(export_run(monitor.lake, "r", "prometheus") or "")
    assert found["training_samples"].samples[0].value == 12.0
    assert found["training_loss"].samples[0].value == 3.5


def test_what_cannot_be_exported() -> None:
    """A wrong format, a run without metrics and an empty table say so, or are empty and valid."""
    lake = Lake("lake")
    with pytest.raises(ConfigError, match="expected one of json, csv, prometheus, parquet, got 'xml'"):
        export_run(lake, "r", "xml")
    with pytest.raises(RunError, match="run r has no metrics in"):
        export_run(lake, "r", "prometheus")
    empty = pa.table({"a": pa.array([], pa.int64())})
    assert json.loads(export_table(empty, "json", None) or "") == []
    assert export_table(empty, "csv", None) == "a\n"


def test_plain_says_every_value_that_sql_can_answer_with() -> None:
    """Dates, decimals, nested values and blobs become JSON without failing."""
    sql = (
        "SELECT DATE '2026-01-02' d, TIMESTAMP '2026-01-02 03:04:05' t, 1.50::DECIMAL(5, 2) n, [1, 2] l, "
        "{'x': 'nan'::DOUBLE, 'y': [true]} s, MAP {'k': 1} m, 'ab'::BLOB b, NULL z, INTERVAL 1 DAY i, "
        "MAP {}::MAP(VARCHAR, INT) e, [{'m': MAP {'k': 'nan'::FLOAT}}, {'m': MAP {}}, NULL] o"
    )
    answer = duckdb.sql(sql)
    assert answer is not None
    (row,) = json.loads(export_table(answer.to_arrow_table(), "json", None) or "")
    assert row.pop("i")
    assert row == {"d": "2026-01-02", "t": "2026-01-02T03:04:05", "n": "1.50", "l": [1, 2], "b": "b'ab'",
                   "s": {"x": "NaN", "y": [True]}, "m": {"k": 1}, "z": None, "e": {},
                   "o": [{"m": {"k": "NaN"}}, {"m": {}}, None]}  # fmt: skip
