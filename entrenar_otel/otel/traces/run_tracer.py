"""Run tracer: the tracer of a run's own spans, with a sampler and limits of its own, and their parent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry import context, trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from entrenar_otel.otel.traces.global_provider import SCOPE
from entrenar_otel.otel.traces.ids import OwnIds
from entrenar_otel.otel.traces.open_span import live


def run_tracer(resource: Resource, processors: Iterable[SpanProcessor]) -> trace.Tracer:
    """A tracer whose spans are all sampled, and seen by these processors in turn."""
    provider = TracerProvider(
        sampler=sampling.ALWAYS_ON,  # these few spans are the run
        resource=resource,
        shutdown_on_exit=False,
        span_limits=_limits(),
        meter_provider=NoOpMeterProvider(),
        id_generator=OwnIds(),
    )
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer(SCOPE)


def _limits() -> SpanLimits:
    """Ours, each named: what is not given is read from the environment."""
    return SpanLimits(
        max_attributes=1_000,
        max_events=10_000,
        max_links=1_000,
        max_span_attributes=1_000,
        max_event_attributes=1_000,
        max_link_attributes=1_000,
        max_attribute_length=SpanLimits.UNSET,
        max_span_attribute_length=SpanLimits.UNSET,
    )


def run_parent(environ: Mapping[str, str]) -> context.Context:
    """TRACEPARENT's span, else the current one. Baggage is not ours to take from anywhere."""
    carrier = {key.lower(): environ[key] for key in ("TRACEPARENT", "TRACESTATE") if key in environ}
    current = context.get_current()
    span = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, context.Context()))
    if not span.get_span_context().is_valid:
        span = live(current) or trace.INVALID_SPAN
    return trace.set_span_in_context(span, current)
