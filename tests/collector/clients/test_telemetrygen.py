"""telemetrygen, OpenTelemetry's own generator of traffic, through a Collector into a sink."""

from __future__ import annotations

import math
import subprocess
from collections import Counter

from ..process import SECONDS, built
from .conftest import Stored, Way

KINDS = ("Gauge", "Sum", "Histogram", "ExponentialHistogram")
TAGS = [("n", "3"), ("shelf", "été")]


def send(way: Way, signal: str, *more: str) -> str:
    """So much of a signal, by gRPC or HTTP in turn; its `run_id`."""
    name = "-".join((signal, *more[:1]))
    by_http = len(name) % 2 == 0
    command = [built("test-program", "telemetrygen"), signal, "--otlp-insecure", "--rate=0", "--service=gen"]
    command += [f"--otlp-endpoint={way.http if by_http else way.grpc}", *["--otlp-http"] * by_http]
    command += [f'--otlp-attributes=service.instance.id="{name}"']
    command += ['--telemetry-attributes=shelf="été"', "--telemetry-attributes=n=3", *more[1:]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return f"gen/{name}"


def test_what_is_sent_is_in_the_lake(to_collector: Way, stored: Stored) -> None:
    metrics_are_right(to_collector, stored)
    logs_are_right(to_collector, stored)
    traces_are_right(to_collector, stored)


def metrics_are_right(way: Way, stored: Stored) -> None:
    """As many as were made, of every kind, each with what it has."""
    made = {
        kind: send(
            way,
            *("metrics", kind, "--metrics=50", f"--metric-type={kind}", f"--otlp-metric-name=gen.{kind}"),
        )
        for kind in KINDS
    }
    for kind in ("Gauge", "Sum"):
        rows = stored.rows("metrics", 50, made[kind])
        assert {(row["metric"], *row["tags"]) for row in rows} == {(f"gen.{kind}", *TAGS)}
        assert sorted(row["value"] for row in rows) == list(map(float, range(50)))
    assert [len(buckets) for buckets in histograms(stored, made["Histogram"])] == [16] * 50
    assert all(2 <= len(buckets) <= 20 for buckets in histograms(stored, made["ExponentialHistogram"]))


def histograms(stored: Stored, run_id: str) -> list[list[tuple[float, float]]]:
    """Buckets of each of the 50 that were made: bound and how many values were at most that, up to all."""
    sql = f"SELECT metric, tags, value FROM otel_metrics WHERE run_id = '{run_id}' ORDER BY seq"
    rows = stored.wait_for(sql, lambda rows: sum(row["metric"].endswith(".count") for row in rows) == 50)
    found: list[list[tuple[float, float]]] = []
    for row in rows:
        name, tags = row["metric"].rpartition(".")[2], dict(row["tags"])
        assert {key: tags[key] for key in ("n", "shelf")} == dict(TAGS)
        if name == "count":
            found.append([])
            count = row["value"]
        elif name == "bucket":
            found[-1].append((float(tags["le"]), row["value"]))
            assert tags["le"] != "+Inf" or row["value"] == count > 0
        else:
            assert name == "sum"
    assert all(buckets == sorted(buckets) and buckets[-1][0] == math.inf for buckets in found)
    assert all(values == sorted(values) for values in ([value for _, value in one] for one in found))
    return found


def logs_are_right(way: Way, stored: Stored) -> None:
    severity = ("--severity-number=17", "--severity-text=Error")
    rows = stored.rows("events", 200, send(way, "logs", "", "--logs=200", "--body=¡hola!", *severity))
    told = {
        (row["body"], row["severity"], row["severity_number"], *sorted(row["attributes"])) for row in rows
    }
    assert told == {("¡hola!", "ERROR", 17, ("app", "server"), *TAGS)}
    assert len({row["timestamp"] for row in rows}) > 1


def traces_are_right(way: Way, stored: Stored) -> None:
    """Each a tree of three spans, of the duration that was asked for."""
    more = ("--traces=50", "--child-spans=2", "--span-duration=1500us", "--status-code=Error")
    rows = stored.rows("spans", 150, send(way, "traces", "", *more))
    by_id = {row["span_id"]: row for row in rows}
    children = [row for row in rows if row["parent_span_id"] is not None]
    assert (len(by_id), len(children), len({row["trace_id"] for row in rows})) == (150, 100, 50)
    assert {by_id[row["parent_span_id"]]["trace_id"] == row["trace_id"] for row in children} == {True}
    assert Counter(row["name"] for row in rows) == dict.fromkeys(
        ("lets-go", "okey-dokey-0", "okey-dokey-1"), 50
    )
    assert {row["duration_seconds"] for row in children} == {0.0015}
    assert {(row["status"], row["scope"]) for row in rows} == {("ERROR", "telemetrygen")}
    assert all(set(TAGS) <= set(row["attributes"]) for row in rows)
