"""Run tracer: the tracer of a run's own spans, with a sampler and limits of its own, and their parent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from entrenar_otel._version import __version__
from entrenar_otel.otel.traces.global_provider import SCOPE
from entrenar_otel.otel.traces.ids import OwnIds
from entrenar_otel.otel.traces.open_span import live

if TYPE_CHECKING:
    from opentelemetry.util.types import Attributes


class RecordAll(sampling.Sampler):
    """Processors, the journal's too, see all spans; those of a trace that is not sampled are not exported.

    The environment's sampler has no say: these few spans are the run.
    """

    def __init__(self, *, is_sampled: bool) -> None:
        record, export = sampling.Decision.RECORD_ONLY, sampling.Decision.RECORD_AND_SAMPLE
        self._decision = export if is_sampled else record

    def should_sample(
        self,
        parent_context: context.Context | None,
        trace_id: int,
        name: str,
        kind: trace.SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[trace.Link] | None = None,
        trace_state: trace.TraceState | None = None,
    ) -> sampling.SamplingResult:
        state = trace.get_current_span(parent_context).get_span_context().trace_state
        return sampling.SamplingResult(self._decision, attributes, state)

    def get_description(self) -> str:
        return f"RecordAll({self._decision.name})"


def run_tracer(
    resource: Resource, processors: Iterable[SpanProcessor], parent: context.Context | None = None
) -> trace.Tracer:
    """A tracer whose spans are seen by these processors in turn.

    They are sampled unless whoever started this process has decided, for the trace that `parent` goes on
    with, that it is not.
    """
    above = trace.get_current_span(parent).get_span_context() if parent is not None else None
    is_sampled = above is None or not above.is_remote or above.trace_flags.sampled
    provider = TracerProvider(
        sampler=RecordAll(is_sampled=is_sampled),
        resource=resource,
        shutdown_on_exit=False,
        span_limits=_limits(),
        meter_provider=NoOpMeterProvider(),
        id_generator=OwnIds(),
    )
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer(SCOPE, __version__)


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
