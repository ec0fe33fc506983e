"""What a run would send: requests made of samples, notes and facts, by the protocol's own classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import adler32

import numpy as np
from entrenar_processors import Series
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb

from entrenar_otel.clock import Era
from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.otlp.blocks import EVENT_NAME, SCOPE, SampleBlock, encode_blocks
from entrenar_otel.recording.decode import scan
from entrenar_otel.recording.layout import ABSENT_32, ABSENT_64, Layout, packers
from entrenar_otel.sink.request_log import RequestLog, Signal

CLOCK_NS = 1_700_000_000 * 10**9
LAYOUT = Layout(1, tuple(Series(name) for name in ("loss", "accuracy", "grad_norm", "lr", "throughput")))
TAGGED = Layout(2, (Series("loss"), *(Series.of(name, {"split": "val"}) for name in ("loss", "accuracy"))))


def value(given: Any) -> AnyValue:
    if isinstance(given, bool):
        return AnyValue(bool_value=given)
    if isinstance(given, int):
        return AnyValue(int_value=given)
    if isinstance(given, float):
        return AnyValue(double_value=given)
    if isinstance(given, list):
        return AnyValue(array_value=ArrayValue(values=map(value, given)))
    return AnyValue(string_value=given)


def attributes(**given: Any) -> list[KeyValue]:
    return pairs(given)


def pairs(given: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(item)) for key, item in given.items()]


def resource(run_id: str = "r", process: str = "p", rank: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "service.name": "train",
        "service.instance.id": f"{run_id}/{process}/{rank}",
        "training.run.id": run_id,
        "training.process.rank": rank,
        "training.process.world_size": rank + 1,
        "training.process.id": process,
        "process.creation.time": "2023-11-14T22:13:20.000+00:00",
        "host.name": "elsewhere",
        **more,
    }


def records_of(
    first: int, count: int, layout: Layout = LAYOUT, values: Any = None, gap_ns: int = 1_000_000
) -> bytes:
    """The records of so many steps, as a segment has them; the value of step 7 is 7.0, 7.1, …"""
    pack, seal = packers(len(layout.series))
    made = []
    for step in range(first, first + count):
        row = [step + i / 10 for i in range(len(layout.series))] if values is None else values[step - first]
        body = pack(
            layout.head, 1 + step * gap_ns, ABSENT_32, ABSENT_32, step if step >= 0 else ABSENT_64, *row
        )
        made.append(seal(body, adler32(body)))
    return b"".join(made)


def blocks_of(
    data: bytes, first_seq: int = 0, layouts: tuple[Layout, ...] = (LAYOUT, TAGGED)
) -> list[SampleBlock]:
    words = np.frombuffer(data, "<u8")
    known = {layout.id: layout for layout in layouts}
    found = scan(words, known, start=0, first_seq=first_seq, eras=[Era(0, CLOCK_NS)])
    return [block for block in encode_blocks(words, found, known) if isinstance(block, SampleBlock)]


def block_record(block: SampleBlock) -> LogRecord:
    return LogRecord(
        event_name=EVENT_NAME,
        body=AnyValue(bytes_value=block.body),
        attributes=attributes(
            first_seq=block.first_seq, count=block.count, clock_ns=block.clock_ns, version=1
        ),
    )


def steps(first: int, count: int, layout: Layout = LAYOUT, values: Any = None) -> list[LogRecord]:
    """Steps as blocks; `seq` is the step."""
    return [block_record(block) for block in blocks_of(records_of(first, count, layout, values), first)]


def wide_record(step: int, given: dict[str, Any], **places: int) -> LogRecord:
    """A wide event; `seq` is the step."""
    return LogRecord(
        event_name=names.WIDE_EVENT,
        time_unix_nano=CLOCK_NS + 1 + step * 1_000_000,
        attributes=pairs({"step": step, "seq": step, **places, **given}),
    )


def event(
    name: str, identity: str = "", *, time_ns: int = CLOCK_NS, body: str = "", **more: Any
) -> LogRecord:
    given = dict(more.pop("attributes", {}))
    if identity:
        given[names.EVENT_ID] = identity
    record = LogRecord(
        event_name=name, time_unix_nano=time_ns, severity_text="INFO", attributes=pairs(given), **more
    )
    if body:
        record.body.string_value = body
    return record


def started(**more: Any) -> LogRecord:
    facts = {
        names.STARTED_AT: "2023-11-14T22:13:20+00:00",
        names.WORLD_SIZE: 1,
        names.CONFIG_HASH: "abc",
        names.MODEL_ID: "digits",
        names.HOST: "elsewhere",
        names.PID: 7,
        names.PYTHON: "3.11.9",
        names.SAMPLES: "blocks",
        **more,
    }
    return event(names.RUN_STARTED, "0:4096", attributes=facts)


def ended(state: str = "completed", **more: Any) -> LogRecord:
    facts = {names.STATE: state, names.ENDED_AT: "2023-11-14T23:13:20+00:00", names.DROPPED: 0, **more}
    return event(names.RUN_ENDED, "9:4096", time_ns=CLOCK_NS + 3600 * 10**9, attributes=facts)


def logs(records: list[LogRecord], of: dict[str, Any] | None = None, scope: str = SCOPE) -> bytes:
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add()
    entry.resource.attributes.extend(pairs(resource() if of is None else of))
    entry.scope_logs.add(log_records=records).scope.name = scope
    return bytes(request.SerializeToString())


def traces(spans: list[Any], of: dict[str, Any] | None = None, scope: str = "entrenar_otel") -> bytes:
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add()
    entry.resource.attributes.extend(pairs(resource() if of is None else of))
    entry.scope_spans.add(spans=spans).scope.name = scope
    return bytes(request.SerializeToString())


#: A client that is no run.
CLIENT = {"service.name": "web", "service.instance.id": "7"}


def gauge(name: str, number: float, **tags: Any) -> Any:
    point = pb.NumberDataPoint(as_double=number, time_unix_nano=CLOCK_NS, attributes=attributes(**tags))
    return pb.Metric(name=name, gauge=pb.Gauge(data_points=[point]))


def metrics(*given: Any, of: dict[str, Any] = CLIENT) -> tuple[Signal, bytes]:
    request = ExportMetricsServiceRequest()
    entry = request.resource_metrics.add()
    entry.resource.attributes.extend(pairs(of))
    entry.scope_metrics.add(metrics=given)
    return (Signal.METRICS, bytes(request.SerializeToString()))


def log_file(folder: Path, *requests: bytes | tuple[Signal, bytes]) -> Path:
    """A closed file of a request log with these requests, of logs where nothing else is said."""
    log = RequestLog(folder)
    try:
        for request in requests:
            log.append(*((Signal.LOGS, request) if isinstance(request, bytes) else request))
        path = log.rotate()
    finally:
        log.close()
    assert path is not None
    return path
