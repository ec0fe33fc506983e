"""Events of spans: they belong to the span that is current, whoever made it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.recording.notes import EVENT
from tests.otel.traces.conftest import Make, Notes, spans

pytestmark = pytest.mark.usefixtures("clean_context")


@pytest.fixture
def theirs(memory: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    yield provider.get_tracer("theirs")
    provider.shutdown()


def test_an_event_within_a_users_span(make: Make, notes: Notes, theirs: trace.Tracer) -> None:
    """It has that span's ids, and is in it; the innermost span counts, theirs or ours."""
    tracing = make()
    tracing.start()
    with theirs.start_as_current_span("request") as request:
        tracing.event("theirs", {"a": {"b": 1}})
        with tracing.span("ours"):
            tracing.event("within")
    tracing.event("after")
    tracing.end("completed")
    (event,) = request.events  # type: ignore[attr-defined]
    assert (event.name, dict(event.attributes)) == ("theirs", {"a": '{"b": 1}'})
    by_name = {one["name"]: one for kind, one in notes if kind == EVENT}
    ids = request.get_span_context()
    assert by_name["theirs"]["span_id"] == f"{ids.span_id:016x}"
    assert by_name["theirs"]["trace_id"] == f"{ids.trace_id:032x}"
    assert by_name["within"]["span_id"] == spans(notes)["ours"]["span_id"]
    assert by_name["after"]["span_id"] == spans(notes)["training.run"]["span_id"]


def test_a_span_that_is_over_or_not_recorded_gets_none(
    make: Make, notes: Notes, theirs: trace.Tracer
) -> None:
    """The event is the run's."""
    tracing = make()
    tracing.start()
    over = theirs.start_span("over")
    over.end()
    remote = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=True))
    for span in (over, remote):
        with trace.use_span(span):
            tracing.event("late")
    tracing.end("completed")
    run = spans(notes)["training.run"]["span_id"]
    assert [one["span_id"] for kind, one in notes if kind == EVENT and one["name"] == "late"] == [run, run]


def test_a_log_line_from_within_their_span(
    make: Make, notes: Notes, theirs: trace.Tracer, relayed: Callable[[RunSpans], None]
) -> None:
    """The SDK logs within a span's lock: the event waits for nobody, is in the lake, and counted as lost."""
    losses = Losses()
    tracing = make(losses=losses)
    tracing.start()

    relayed(tracing)

    def odd() -> None:
        with theirs.start_as_current_span("request") as span:
            span.set_attribute("x", object())  # type: ignore[arg-type]

    thread = threading.Thread(target=odd, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    tracing.end("completed")
    assert "training.warning" in {one["name"] for kind, one in notes if kind == EVENT}
    assert losses.text() == "1 span event (training.run)"
