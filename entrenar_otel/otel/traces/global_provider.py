"""Global tracing: how users' own spans find the open run, whoever set the tracer provider.

Process-wide, as OpenTelemetry's global provider is: it can be set once, while runs come and go. What
is added to a provider is therefore a route, which leads to the run that was opened last.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider, sampling

from entrenar_otel.errors import guard
from entrenar_otel.otel.sdk_seams import span_processor_of
from entrenar_otel.otel.traces.ids import OwnIds
from entrenar_otel.otel.traces.span_export import SpanPipeline, in_background
from entrenar_otel.otel.traces.span_journal import JournalProcessor

if TYPE_CHECKING:
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

#: The instrumentation scope of our own spans.
SCOPE = "entrenar_otel"


class UsersSpans(SpanProcessor):
    """The parts of a run that see users' spans: its journal, and the processors that see ours directly."""

    def __init__(self, journal: JournalProcessor, processors: Sequence[SpanProcessor] = ()) -> None:
        self._journal = journal
        self._processors = tuple(processors)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._journal.on_start(span, parent_context)
        if self._processors and not is_ours(span):
            for processor in self._processors:
                processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        self._journal.on_end(span)
        if self._processors and not is_ours(span):
            for processor in self._processors:
                processor.on_end(span)


class JournalRoute(SpanProcessor):
    """Hands users' spans to the run that was opened last; to none between runs."""

    def __init__(self) -> None:
        self._open: list[UsersSpans] = []

    def enter(self, journal: UsersSpans) -> None:
        self._open = [*self._open, journal]

    def leave(self, journal: UsersSpans) -> None:
        self._open = [other for other in self._open if other is not journal]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if is_open := self._open:
            is_open[-1].on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if is_open := self._open:
            is_open[-1].on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True  # nothing waits here


class ExportRoute(SpanProcessor):
    """Hands users' spans to the exporters of the last run, after its end too."""

    def __init__(self) -> None:
        self.pipeline: SpanPipeline | None = None
        self.resource: Resource | None = None

    def on_end(self, span: ReadableSpan) -> None:
        pipeline, resource = self.pipeline, self.resource
        if pipeline is not None:
            if resource is not None and span.resource is not resource:
                span = _with_resource(span, resource)  # the provider's is that of its first run
            pipeline.on_end(span)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self.pipeline is None or self.pipeline.force_flush(timeout_millis)

    def shutdown(self) -> None:
        if self.pipeline is not None:
            self.pipeline.close()


class ApartFromRun(sampling.Sampler):
    """The environment's sampler for users' spans, which decides as if they had no parent of ours.

    Our spans are sampled whatever it says, so that a parent-based sampler of any ratio would keep all below
    them. Where they are not, the trace was left out by whoever began it, and they are its parent.
    """

    def __init__(self, sampler: sampling.Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> sampling.SamplingResult:
        parent = trace.get_current_span(parent_context)
        if is_ours(parent) and parent.get_span_context().trace_flags.sampled:
            parent_context = Context()
        return self._sampler.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )

    def get_description(self) -> str:
        return f"ApartFromRun({self._sampler.get_description()})"


class Guarded(SpanProcessor):
    """Another provider's span processors, for our spans: they see none of a forked child, and may raise."""

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._pid = os.getpid()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self._pid == os.getpid():
            with guard("span processor"):
                self._processor.on_start(span, parent_context=parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self._pid == os.getpid():
            try:
                self._processor.on_end(span)
            except Exception:
                with guard("span processor"):  # entered for failures only: it costs a microsecond
                    raise

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True  # whoever set it flushes it


_journal_route = JournalRoute()
_export_route = ExportRoute()
_installed: TracerProvider | None = None
_exiting = False
_joined: weakref.WeakSet[Any] = weakref.WeakSet()


def is_ours(span: trace.Span | ReadableSpan) -> bool:
    """Whether this is a span that this package made."""
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name == SCOPE


def foreign_provider() -> trace.TracerProvider | None:
    """The global tracer provider that other code has set, if any.

    It has exporters of its own: those of the environment beside it would export our spans twice.
    """
    provider = trace.get_tracer_provider()
    if provider is _installed or isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider


def install_global(journal: UsersSpans, pipeline: SpanPipeline, resource: Resource) -> bool:
    """Make users' spans part of this run: seen by `journal`, exported as its own are.

    Where no global tracer provider is set, one is made, once per process, with the environment's sampler.
    Returns whether `pipeline` is now used by it; then `release` decides who closes it.
    """
    _journal_route.enter(journal)
    provider = foreign_provider()
    if provider is not None:
        add = getattr(provider, "add_span_processor", None)
        if provider not in _joined and callable(add):
            add(_journal_route)
            _joined.add(provider)
        return False
    if _installed is None and not _install(resource):
        return False
    before, _export_route.pipeline, _export_route.resource = _export_route.pipeline, pipeline, resource
    if before is not None and before.is_released:
        in_background(before.close)  # flushed when its run ended
    return True


def _install(resource: Resource) -> bool:
    global _installed
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return False  # tracing was switched off on purpose
    # Not shut down by its own atexit hook, which may run before a run that is still open ends.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=OwnIds())
    provider.sampler = ApartFromRun(provider.sampler)
    provider.add_span_processor(_journal_route)
    provider.add_span_processor(_export_route)
    _installed = provider
    trace.set_tracer_provider(provider)
    atexit.register(_at_exit)
    return True


def release(journal: UsersSpans, pipeline: SpanPipeline) -> bool:
    """The run has ended; whether its pipeline stays open for the spans that users make after it."""
    _journal_route.leave(journal)
    pipeline.is_released = True
    return _export_route.pipeline is pipeline and not _exiting


def processors_for_ours() -> SpanProcessor | None:
    """Where else our own spans go: to the span processors of a provider that other code has set."""
    provider = foreign_provider()
    processor = None if provider is None else span_processor_of(provider)
    return None if processor is None else Guarded(processor)


def _at_exit() -> None:
    global _exiting
    _exiting = True
    if not _journal_route._open:  # else the last run closes it
        _export_route.shutdown()


def _with_resource(span: ReadableSpan, resource: Resource) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
