"""Span request: what leaves is what the SDK's own encoder makes of the same spans."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from entrenar_otel.otel.sdk_seams import encode_spans_by
from entrenar_otel.otel.traces.ended_span import EndedSpan
from entrenar_otel.otel.traces.noted_span import NotedSpan
from entrenar_otel.otel.traces.span_request import SpanRequests
from tests.otel.traces.conftest import Notes, maker

pytestmark = pytest.mark.usefixtures("clean_context")

RESOURCE, SCOPE = Resource({"training.run.id": "r"}, "https://schema"), InstrumentationScope("s", "1")
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TIMES = st.integers(0, (1 << 64) - 1)


def ended(
    *,
    name: str = "training.epoch",
    ids: tuple[int, int, int] = (1, 2, 3),
    flags: int = 1,
    state: Sequence[tuple[str, str]] = (),
    is_remote: bool = False,
    values: dict[str, int] | None = None,
    times: tuple[int, int, int] = (5, 6, 7),
    resource: Resource = RESOURCE,
    has_event: bool = True,
) -> EndedSpan:
    trace_id, span_id, parent_id = ids
    more: Any = (trace.TraceFlags(flags), trace.TraceState(state))
    context = trace.SpanContext(trace_id, span_id, False, *more)
    parent = trace.SpanContext(trace_id, parent_id, is_remote, *more)
    known = {"training.epoch": 1} if values is None else values
    lock: Any = None
    span = NotedSpan(name, context, parent, times[0], known, SCOPE, lambda _span: None, lock)
    span.end_time = times[1]
    span.last_event = (f"{name}.ended", known, times[2]) if has_event else None
    return EndedSpan(span, resource)


SPANS = st.builds(
    ended,
    name=st.text(max_size=150),
    ids=st.tuples(st.integers(1, (1 << 128) - 1), *[st.integers(1, (1 << 64) - 1)] * 2),
    flags=st.sampled_from([0, 1, 3]),
    state=st.sampled_from([(), (("a", "1"), ("b", "2"))]),
    is_remote=st.booleans(),
    values=st.dictionaries(st.text("abc.é", min_size=1, max_size=140), INT64, max_size=4),
    times=st.tuples(TIMES, TIMES, TIMES),
    has_event=st.booleans(),
)


def told(spans: Iterable[ReadableSpan]) -> list[bytes]:
    """Each span with its resource and scope, in any order."""
    return sorted(encode_spans([span]).SerializeToString() for span in spans)


def read(request: Any) -> list[bytes]:
    """The same of a request."""
    found = []
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                one = type(request)()
                about = one.resource_spans.add(resource=resource.resource, schema_url=resource.schema_url)
                about.scope_spans.add(scope=scope.scope, spans=[span], schema_url=scope.schema_url)
                found.append(one.SerializeToString())
    return sorted(found)


@given(st.lists(SPANS, max_size=6))
def test_it_says_the_same(spans: list[EndedSpan]) -> None:
    """Whatever their names, numbers and flags: one resource, one scope, and the same order."""
    assert SpanRequests(encode_spans)(spans) == encode_spans(spans)


def test_the_sdks_encoder_is_asked_once_for_each_kind() -> None:
    """And not for each span."""
    asked: list[int] = []

    def encode(spans: Sequence[ReadableSpan]) -> Any:
        asked.append(len(spans))
        return encode_spans(spans)

    requests = SpanRequests(encode)
    spans = [ended(ids=(1, number, 3)) for number in range(1, 30)]
    for _ in range(3):
        assert read(requests(spans)) == told(spans)
    assert asked == [1, 1, 0, 0, 0]  # the envelope, the kind, and what else there is


@pytest.mark.parametrize(
    "odd",
    [
        ended(values={"training.epoch": 1, "steps": True}),
        ended(values={"training.epoch": 1, "steps": 1.5}),  # type: ignore[dict-item]
    ],
)
def test_what_is_no_number_is_the_sdks(odd: EndedSpan) -> None:
    spans = [ended(), odd]
    assert SpanRequests(encode_spans)(spans) == encode_spans(spans)


def test_among_others() -> None:
    """Users' spans and another run's go as they did."""
    notes: Notes = []
    memory = InMemorySpanExporter()
    tracing = maker(notes, memory, noted=True)()
    tracing.start({"training.model.id": "digits"})
    for epoch in range(3):
        tracing.begin_epoch(epoch)
        with tracing.span("evaluate", split="test"):
            pass
        tracing.end_epoch(2)
    tracing.end("completed")
    spans = [*memory.get_finished_spans(), ended(resource=Resource({"training.run.id": "other"}))]
    assert sum(isinstance(span, EndedSpan) for span in spans) == 4 < len(spans)
    assert read(SpanRequests(encode_spans)(spans)) == told(spans)


def test_the_exporters_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both protocols', from when a run has exporters; put there once."""
    used = [
        sys.modules[f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter"]
        for protocol in ("grpc", "http")
        if __import__(f"opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter")
    ]
    for module in used:
        monkeypatch.setattr(module, "encode_spans", encode_spans)
    maker([], InMemorySpanExporter(), noted=True)()
    now: list[Any] = [vars(module)["encode_spans"] for module in used]
    assert all(isinstance(encode, SpanRequests) for encode in now)
    encode_spans_by(SpanRequests)
    assert [vars(module)["encode_spans"] for module in used] == now
