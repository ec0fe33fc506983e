"""Panels and alerts of the Collector and the sink, with real faults of real ones: in Prometheus 2 and 3."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks.otlp_kills import Sink
from tests.ports import free_port
from tests.sink.wire import gauge, logs, metrics, resource, started, steps, traces

from .dashboards import Known, Table, check, panels
from .fast_rules import fast_rules
from .known_runs import between
from .process import Collector
from .prometheus import Both, Prometheus

#: Bytes, so that a few requests fill it.
QUEUE_BYTES = 4_000
RATE_SECONDS = 600


def span() -> Span:
    return Span(name="a", trace_id=b"t" * 16, span_id=b"s" * 8)


#: One of each signal: the last part of its address, and a request of one record.
REQUESTS = {
    "logs": logs([started()], resource("a run")),
    "metrics": metrics(gauge("a", 1))[1],
    "traces": traces([span()]),
}


def post(http: str, signal: str, content: bytes) -> int:
    """Send it by HTTP; the code of the answer."""
    headers = {"Content-Type": "application/x-protobuf"}
    return httpx.post(f"http://{http}/v1/{signal}", content=content, headers=headers).status_code


class Pipeline:
    """A sink that takes, and Collectors: `full` has a sink that is away, `barred` one that wants a token."""

    def __init__(self, folder: Path, make: Callable[..., Collector], monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = time.time()
        self.sink, self.lake = Sink(folder, f"127.0.0.1:{free_port()}"), folder / "sink-lake"
        (folder / "closed").mkdir()
        self.closed = Sink(folder / "closed")
        self.sink.start()
        with monkeypatch.context() as patch:
            patch.setenv("ENTRENAR_SINK_TOKEN", "of the test")
            self.closed.start()
        away = f"127.0.0.1:{free_port()}"
        self.full = make(
            "full", "all-in-one.yaml", SINK_ENDPOINT=away, COLLECTOR_QUEUE_BYTES=str(QUEUE_BYTES)
        )
        self.barred = make("barred", "all-in-one.yaml", SINK_ENDPOINT=f"127.0.0.1:{self.closed.port}")
        self.short = make("short", "all-in-one.yaml", SINK_ENDPOINT=away, COLLECTOR_MEMORY_MIB="1")
        self.collectors = (self.full, self.barred, self.short)
        for one in self.collectors:
            one.start()

    def end(self) -> None:
        for one in (self.sink, self.closed):
            if one.is_alive:
                one.end()

    @property
    def targets(self) -> dict[str, str]:
        """By the name of their job."""
        pages = ",".join(f"127.0.0.1:{one.self_port}" for one in self.collectors)
        return {"collector": pages, "sink": self.sink.http}


@pytest.fixture
def pipeline(
    make_collector: Callable[..., Collector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pipeline]:
    made = Pipeline(tmp_path, make_collector, monkeypatch)
    yield made
    made.end()


def rate(count: float) -> Callable[[float], bool]:
    """Of so many within the range, extrapolated at both ends by a scrape at most, of three or more."""
    return between(0.99 * count / RATE_SECONDS, 2.2 * count / RATE_SECONDS)


def refuse(pipeline: Pipeline, both: Both) -> dict[str, dict[str, Known]]:
    """Fill a queue, and ask for memory that there is not; what panels then show."""
    http = f"127.0.0.1:{pipeline.full.ports['HTTP']}"
    small = f"127.0.0.1:{pipeline.short.ports['HTTP']}"
    for signal, content in REQUESTS.items():
        assert post(http, signal, content) == 200
        assert post(small, signal, content) == 503
    names = {"logs": "log_records", "metrics": "metric_points", "traces": "spans"}
    for name in names.values():
        both.has(f"sum(otelcol_receiver_refused_{name})", 1)
    refused = dict.fromkeys(names, 0)
    for signal, content in REQUESTS.items():
        while post(http, signal, content) == 200:
            pass
        refused[signal] += 1
        for _ in range(3):
            assert post(small, signal, content) == 503
            refused[signal] += 1
    queues: dict[str, float] = {}
    for signal, name in names.items():
        both.has(f"sum(otelcol_receiver_refused_{name})", 1 + refused[signal])
    for signal in names:
        full = pipeline.full.own_metric("otelcol_exporter_queue_size", data_type=signal) / QUEUE_BYTES
        assert 1 - (len(REQUESTS[signal]) + 200) / QUEUE_BYTES <= full <= 1
        queues[f"{signal} otlp_grpc/sink"] = full
    return {
        "Collector: queue": {"A": queues},
        "Collector: refused": {
            letter: {"": rate(refused[signal])} for letter, signal in zip("ABC", names, strict=True)
        },
    }


def drop(pipeline: Pipeline, both: Both) -> dict[str, dict[str, Known]]:
    """Send what the sink refuses for good; what panels then show."""
    http = f"127.0.0.1:{pipeline.barred.ports['HTTP']}"
    counts = {"logs": 3, "metrics": 2, "traces": 1}
    for signal, count in counts.items():
        for _ in range(count):
            assert post(http, signal, REQUESTS[signal]) == 200
    both.has("sum(otelcol_exporter_send_failed_log_records)", 3)
    both.has("sum(otelcol_exporter_send_failed_metric_points)", 2)
    both.has("sum(otelcol_exporter_send_failed_spans)", 1)
    dropped: dict[str, Known] = {
        letter: {"": count} for letter, count in zip("ABC", counts.values(), strict=True)
    }
    return {"Collector: dropped": dropped}


def store(pipeline: Pipeline, both: Both) -> dict[str, dict[str, Known]]:
    """Send the sink what it stores, what it cannot store, and what it refuses; what panels then show."""
    http = pipeline.sink.http
    both.has("sum(entrenar_sink_samples_total)", 0)
    both.has("sum(entrenar_sink_unstorable_total)", 0)
    assert post(http, "logs", logs(steps(0, 10), resource("a run"))) == 200  # of five values each
    assert post(http, "logs", logs([started()], resource("x" * 2000))) == 200  # no run's id
    assert post(http, "logs", b"\xff\xff") == 400
    both.has("sum(entrenar_sink_samples_total)", 50)
    both.has("sum(entrenar_sink_unstorable_total)", 1)
    both.has("sum(entrenar_sink_refused_total)", 1)
    return {"Sink: stored": {"A": {"": rate(50)}, "B": {"": rate(1)}, "C": {"": rate(1)}}}


def wait_for_lake(pipeline: Pipeline, both: Both) -> dict[str, dict[str, Known]]:
    """Take the lake away and send; what panels show that long."""
    began = pipeline.began
    shutil.move(pipeline.lake, pipeline.lake.with_name("elsewhere"))
    pipeline.lake.write_text("no folder")
    content = logs(steps(10, 10), resource("a run"))
    assert post(pipeline.sink.http, "logs", content) == 200
    both.has("sum(entrenar_sink_lake_available)", 0)
    both.fires("SinkCannotWrite", pipeline.sink.http)
    both.fires("SinkBehind", pipeline.sink.http)
    place = pipeline.sink.http
    return {
        "Sink: behind the runs": {"A": {place: lambda value: 1 < value <= time.time() - began}},
        "Sink: waiting": {"A": {place: between(len(content), len(content) + 1000)}},
    }


def test_pipeline(pipeline: Pipeline, make_prometheus: Callable[..., Prometheus]) -> None:
    targets = pipeline.targets
    both = Both([make_prometheus(version, targets, rules=fast_rules()) for version in (2, 3)])
    both.has("sum(up)", 4)
    known = refuse(pipeline, both) | drop(pipeline, both) | store(pipeline, both)
    known |= wait_for_lake(pipeline, both)
    assert known.keys() == {panel.title for panel in panels() if panel.is_of_pipeline}
    table = Table({("fleet", title): of for title, of in known.items()}, {"fleet": ".*"})
    check(both.asked, [panel for panel in panels() if panel.is_of_pipeline], lambda _one, _at: [table])
    both.fires("CollectorQueueFull", f"127.0.0.1:{pipeline.full.self_port}")
    both.fires("CollectorDrops", f"127.0.0.1:{pipeline.barred.self_port}")
    both.fires("PipelineDown")
    pipeline.lake.unlink()
    shutil.move(pipeline.lake.with_name("elsewhere"), pipeline.lake)
    both.fires("SinkCannotWrite")
    both.fires("SinkBehind")
    pipeline.sink.end()
    pipeline.short.end()
    both.fires("PipelineDown", pipeline.sink.http, f"127.0.0.1:{pipeline.short.self_port}")
