"""Foreign clients: what OpenTelemetry's own SDK sends becomes rows by the mapping that docs/otlp.md has."""

from __future__ import annotations

import math
from typing import Any

import pytest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from entrenar_otel.sink.request_log import Signal

from .wire import CLIENT, CLOCK_NS, attributes, event, gauge, logs, metrics, resource, started, steps, traces


def rows(lake: Any, table: Any = "otel_metrics") -> Any:
    return lake.query(f"SELECT * FROM {table} ORDER BY ALL").to_pylist()


def named(lake: Any) -> Any:
    return {(row["metric"], *row["tags"]): row["value"] for row in rows(lake)}


def test_a_gauge_is_a_row(receive: Any, lake: Any, cli: Any) -> None:
    receive(metrics(gauge("temperature", 21.5, room="a")))
    (row,) = rows(lake)
    assert (row["metric"], row["value"], row["run_id"]) == ("temperature", 21.5, "web/7")
    assert row["tags"] == [("room", "a")]
    assert row["timestamp"].timestamp() == CLOCK_NS / 1e9
    assert (row["rank"], row["attempt"], row["step"]) == (0, 1, None)
    assert "web" not in cli("ls").out
    assert lake.query("SELECT count(*) FROM metrics").to_pylist() == [{"count_star()": 0}]


def test_sums_histograms_and_summaries_are_rows_by_name(receive: Any, lake: Any) -> None:
    point = pb.NumberDataPoint(as_int=3, time_unix_nano=CLOCK_NS)
    delta = pb.Metric(
        name="calls",
        sum=pb.Sum(data_points=[point], aggregation_temporality=pb.AGGREGATION_TEMPORALITY_DELTA),
    )
    histogram = pb.HistogramDataPoint(
        time_unix_nano=CLOCK_NS, count=6, sum=9.5, min=0.25, explicit_bounds=[0.5, 2], bucket_counts=[1, 2, 3]
    )
    summary = pb.SummaryDataPoint(time_unix_nano=CLOCK_NS, count=2, sum=3.0)
    summary.quantile_values.add(quantile=0.5, value=1.5)
    receive(
        metrics(
            delta,
            pb.Metric(name="took", histogram=pb.Histogram(data_points=[histogram])),
            pb.Metric(name="old", summary=pb.Summary(data_points=[summary])),
        )
    )
    assert named(lake) == {
        ("calls", ("otel.temporality", "delta")): 3.0,
        ("took.count",): 6.0,
        ("took.sum",): 9.5,
        ("took.min",): 0.25,
        ("took.bucket", ("le", "0.5")): 1.0,
        ("took.bucket", ("le", "2")): 3.0,
        ("took.bucket", ("le", "+Inf")): 6.0,
        ("old.count",): 2.0,
        ("old.sum",): 3.0,
        ("old", ("quantile", "0.5")): 1.5,
    }


def test_an_exponential_histogram_has_the_bounds_of_its_buckets(receive: Any, lake: Any) -> None:
    point = pb.ExponentialHistogramDataPoint(time_unix_nano=CLOCK_NS, count=7, scale=0, zero_count=1)
    point.positive.offset, point.negative.offset = 1, 0
    point.positive.bucket_counts.extend([2, 0, 1])  # (2, 4], (4, 8], (8, 16]
    point.negative.bucket_counts.extend([3])  # [-2, -1)
    receive(metrics(pb.Metric(name="e", exponential_histogram=pb.ExponentialHistogram(data_points=[point]))))
    assert named(lake) == {
        ("e.count",): 7.0,
        ("e.bucket", ("le", "-1")): 3.0,
        ("e.bucket", ("le", "0")): 4.0,
        ("e.bucket", ("le", "4")): 6.0,
        ("e.bucket", ("le", "16")): 7.0,
        ("e.bucket", ("le", "+Inf")): 7.0,
    }


def test_a_request_that_comes_again_is_stored_once(receive: Any, lake: Any) -> None:
    request = metrics(gauge("g", 1.0), gauge("g", math.nan))
    receive(request, request)
    receive(request, metrics(gauge("g", 2.0)))
    assert sorted(map(str, (row["value"] for row in rows(lake)))) == ["1.0", "2.0", "nan"]


def test_logs_and_spans_are_rows_of_their_own_tables(receive: Any, lake: Any) -> None:
    span = Span(
        name="GET /",
        kind=Span.SPAN_KIND_SERVER,
        trace_id=b"t" * 16,
        span_id=b"s" * 8,
        start_time_unix_nano=CLOCK_NS,
        end_time_unix_nano=CLOCK_NS + 1500,
        attributes=attributes(code=200),
    )
    receive(
        logs([event("login", body="hello", attributes={"user": "ana", "n": 3})], CLIENT, scope="app"),
        (Signal.TRACES, traces([span], CLIENT)),
    )
    (told,), (seen,) = rows(lake, "otel_events"), rows(lake, "otel_spans")
    assert (told["name"], told["body"], told["run_id"], told["severity"]) == (
        "login",
        "hello",
        "web/7",
        "INFO",
    )
    assert dict(told["attributes"]) == {"user": "ana", "n": "3"}
    assert (seen["name"], seen["kind"], seen["duration_seconds"]) == ("GET /", "SERVER", 1.5e-6)


@pytest.mark.parametrize(("sent", "kept"), [("blocks", 0), ("events", 0), ("off", 1)])
def test_aggregates_of_a_run_are_kept_only_where_it_sends_no_samples(
    receive: Any, lake: Any, roller: Any, sent: Any, kept: Any
) -> None:
    whose = resource()
    receive(logs([started(**{"training.otlp.samples": sent}), *steps(0, 3)], whose))
    receive(metrics(gauge("training.loss", 0.5), of=whose))
    assert len(rows(lake)) == kept
    assert roller.left_out == 1 - kept


def test_other_metrics_of_a_run_are_kept_whatever_it_sends(receive: Any, lake: Any, roller: Any) -> None:
    """Instruments that are not recorded sample by sample are nowhere else."""
    receive(logs([started(), *steps(0, 3)]))
    receive(
        metrics(
            gauge("training.loss", 0.5), gauge("entrenar.overhead", 0.1), gauge("queue", 3.0), of=resource()
        )
    )
    assert named(lake) == {("queue",): 3.0}
    assert (roller.left_out, roller.foreign_rows) == (2, 1)


def test_many_files_of_a_client_become_one(receive: Any, lake: Any, roller: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("entrenar_otel.sink.storing.watch.MANY_FILES", 3)
    for number in range(5):
        receive(metrics(gauge("g", float(number))))
    roller.settle()
    assert len(list((lake.storage.root / "otel/metrics").rglob("*.parquet"))) == 1
    assert [row["value"] for row in rows(lake)] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_what_is_no_metric_is_refused_and_the_rest_stored(
    receive: Any, lake: Any, roller: Any, caplog: Any
) -> None:
    wrong = pb.HistogramDataPoint(count=1, bucket_counts=[1, 2, 3], explicit_bounds=[1.0])
    receive(
        metrics(
            pb.Metric(name="none"),
            pb.Metric(name="wrong", histogram=pb.Histogram(data_points=[wrong])),
            gauge("right", 1.0),
        )
    )
    assert list(named(lake)) == [("right",)]
    assert roller.unstorable.counts == {"metrics": 2}
    assert "no run" not in caplog.text


def test_more_than_10_000_series_of_a_client_are_left_out_and_counted(
    receive: Any, lake: Any, roller: Any, caplog: Any
) -> None:
    """Those of others, of the same client later, and of a run are stored."""
    receive(
        metrics(*(gauge(f"g{i}", 1.0) for i in range(10_005))),
        metrics(gauge("other", 2.0), of={"service.name": "other"}),
        logs([started(), *steps(0, 3)]),
    )
    counts = "SELECT run_id, count(*) AS n FROM otel_metrics GROUP BY ALL ORDER BY 1"
    assert [tuple(row.values()) for row in lake.query(counts).to_pylist()] == [
        ("other", 1),
        ("web/7", 10_000),
    ]
    assert roller.unstorable.counts == {"metrics": 5}
    assert "more than 10,000 series at a time" in caplog.text
    receive(metrics(gauge("g10004", 1.0)))
    assert len(rows(lake)) == 10_002
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 15}]


def test_many_logs_and_spans_of_a_client_are_all_there_in_order(
    receive: Any, lake: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("entrenar_otel.sink.decoding.foreign._HELD", 10)
    told = [
        event("e", time_ns=CLOCK_NS + 1000 * (i * 7 % 25), attributes={"i": i * 7 % 25}) for i in range(25)
    ]
    spans = [
        Span(name="s", trace_id=b"t" * 16, span_id=bytes([i + 1] * 8), start_time_unix_nano=CLOCK_NS - i)
        for i in range(20)
    ]
    receive(logs(told, CLIENT, scope="app"), (Signal.TRACES, traces(spans, CLIENT)))
    answer = lake.query("SELECT attributes['i'] AS i, run_id FROM otel_events").to_pylist()
    assert [(row["i"], row["run_id"]) for row in answer] == [(str(i), "web/7") for i in range(25)]
    (counted,) = lake.query(
        "SELECT count(DISTINCT span_id) AS n, min(run_id) AS r FROM otel_spans"
    ).to_pylist()
    assert counted == {"n": 20, "r": "web/7"}
