"""OpenTelemetry's SDK for JavaScript, by each protocol, into a sink and through a Collector before it."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ..process import SECONDS, built
from .conftest import Stored, Way

PROTOCOLS = ("grpc", "http/protobuf", "http/json")
CLIENT = Path(__file__).with_name("javascript") / "client.js"
START = datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)
METRICS = {
    ("temperature", ("floor", "2"), ("open", "true"), ("room", "été")): 21.5,
    ("orders",): 3.0,
    ("queue.depth",): -2.0,
    ("took.count",): 4.0,
    ("took.sum",): 10.75,
    ("took.min",): 0.25,
    ("took.max",): 8.0,
    ("took.bucket", ("le", "0.5")): 1.0,
    ("took.bucket", ("le", "2")): 3.0,
    ("took.bucket", ("le", "+Inf")): 4.0,
    ("basket.size.count",): 4.0,
    ("basket.size.sum",): 9.0,
    ("basket.size.min",): 0.0,
    ("basket.size.max",): 4.0,
    ("basket.size.bucket", ("le", "0")): 1.0,
    ("basket.size.bucket", ("le", "1")): 2.0,
    ("basket.size.bucket", ("le", "4")): 4.0,
    ("basket.size.bucket", ("le", "+Inf")): 4.0,
}


def send(way: Way) -> dict[str, dict[str, str]]:
    """A program for each protocol; the ids of its spans."""
    modules = built("test-program", "javascript")
    started = {}
    for protocol in PROTOCOLS:
        endpoint = way.grpc if protocol == "grpc" else way.http
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{endpoint}", "NODE_PATH": modules}
        started[protocol] = subprocess.Popen(
            ["node", str(CLIENT), protocol],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
        )
    ids = {}
    for protocol, process in started.items():
        out, err = process.communicate(timeout=SECONDS)
        assert (process.returncode, err) == (0, b""), err.decode()
        ids[protocol] = json.loads(out)
    return ids


def is_right(stored: Stored, run_id: str, ids: dict[str, str]) -> None:
    """What a program has sent is in the lake, as docs/otlp.md says."""
    assert stored.metrics(len(METRICS), run_id) == METRICS
    trace_id, span_id, child_id = ids["trace_id"], ids["span_id"], ids["child_id"]
    assert stored.rows("events", 2, run_id) == [
        {
            "timestamp": START,
            "run_id": run_id,
            "name": "",
            "body": "¡café! 🛒",
            "severity": "WARNING",
            "severity_number": 13,
            "attributes": [("user", "ana"), ("n", "3")],
            "trace_id": trace_id,
            "span_id": span_id,
        },
        {
            "timestamp": START + timedelta(milliseconds=1),
            "run_id": run_id,
            "name": "checkout",
            "body": '{"total":9.5,"paid":true}',
            "severity": "INFO",
            "severity_number": 9,
            "attributes": [],
            "trace_id": None,
            "span_id": None,
        },
    ]
    common: dict[str, Any] = {"start_time": START, "run_id": run_id, "trace_id": trace_id, "scope": "shop"}
    retried = {
        "timestamp": START + timedelta(milliseconds=1),
        "name": "retried",
        "attributes": [("times", "2")],
    }
    assert stored.rows("spans", 2, run_id) == [
        {
            **common,
            "end_time": START + timedelta(milliseconds=250),
            "duration_seconds": 0.25,
            "name": "query",
            "kind": "INTERNAL",
            "span_id": child_id,
            "parent_span_id": span_id,
            "status": "ERROR",
            "status_message": "no such table",
            "events": [retried],
            "links": [],
            "attributes": [("rows", "7"), ("tables", '["a","b"]')],
        },
        {
            **common,
            "end_time": START + timedelta(milliseconds=500),
            "duration_seconds": 0.5,
            "name": "GET /cart",
            "kind": "SERVER",
            "span_id": span_id,
            "parent_span_id": None,
            "status": "UNSET",
            "status_message": None,
            "events": [],
            "links": [],
            "attributes": [],
        },
    ]


@pytest.mark.parametrize("way", ["to_sink", "to_collector"])
def test_what_is_sent_is_in_the_lake(way: str, stored: Stored, request: pytest.FixtureRequest) -> None:
    for protocol, ids in send(request.getfixturevalue(way)).items():
        is_right(stored, f"shop/{protocol}", ids)
