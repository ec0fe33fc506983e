"""The run's tracer: its scope, and what becomes of a trace that somebody has decided not to sample."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel import __version__
from entrenar_otel.otel.traces.global_provider import ApartFromRun
from entrenar_otel.otel.traces.restored_span import restored
from tests.otel.traces.conftest import Make, Notes, spans

pytestmark = pytest.mark.usefixtures("clean_context")

TRACE, ABOVE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_decision_of_whoever_started_us(
    make: Make, notes: Notes, memory: InMemorySpanExporter, flags: str
) -> None:
    """All is in the lake in any case; exporters get nothing of an unsampled trace, nor do children."""
    tracing = make(environ={"TRACEPARENT": f"00-{TRACE}-{ABOVE}-{flags}", "TRACESTATE": "a=b"})
    tracing.start()
    assert (tracing.traceparent or "").endswith(f"-{flags}")
    with tracing.span("fit") as span:
        assert span.get_span_context().trace_state.get("a") == "b"
    tracing.end("completed")
    assert {one["trace_id"] for one in spans(notes).values()} == {TRACE}
    assert {"training.run", "fit"} <= set(spans(notes))
    exported = {one.name for one in memory.get_finished_spans()}
    assert exported == (set(spans(notes)) if flags == "01" else set())


def test_a_users_sampler_has_no_say(make: Make, memory: InMemorySpanExporter) -> None:
    """A span of this process that is not sampled: ours below it are exported all the same."""
    dropped = trace.NonRecordingSpan(
        trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(0))
    )
    with trace.use_span(dropped):
        tracing = make()
        tracing.start()
        tracing.end("completed")
    assert "training.run" in {one.name for one in memory.get_finished_spans()}


@pytest.mark.parametrize(("flags", "kept"), [("00", False), ("01", True)])
def test_users_spans_in_an_unsampled_trace(make: Make, flags: str, kept: bool) -> None:
    """They are left out with it, by the sampler that OpenTelemetry has by default."""
    from opentelemetry.sdk.trace import sampling

    tracing = make(environ={"TRACEPARENT": f"00-{TRACE}-{ABOVE}-{flags}"})
    tracing.start()
    with tracing.span("ours"):
        decided = ApartFromRun(sampling.DEFAULT_ON).should_sample(None, int(TRACE, 16), "theirs")
    tracing.end("completed")
    assert decided.decision.is_sampled() is kept


def test_scope(make: Make, notes: Notes, memory: InMemorySpanExporter) -> None:
    """Its name and version, in what is exported at once and in what recovery exports."""
    tracing = make()
    tracing.start()
    tracing.end("completed")
    later: list[Any] = [restored(one, Resource({})) for one in spans(notes).values()]
    for span in (*memory.get_finished_spans(), *later):
        scope = span.instrumentation_scope
        assert scope is not None
        assert (scope.name, scope.version) == ("entrenar_otel", __version__)
        assert span.context.trace_flags.sampled


def test_recovery_exports_no_unsampled_span(make: Make, notes: Notes) -> None:
    """The decision is in the note."""
    tracing = make(environ={"TRACEPARENT": f"00-{TRACE}-{ABOVE}-00"})
    tracing.start()
    tracing.end("completed")
    later = restored(spans(notes)["training.run"], Resource({}))
    assert later.context is not None
    assert not later.context.trace_flags.sampled
