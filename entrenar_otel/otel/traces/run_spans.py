"""Run spans: a run, its epochs and what happens in them as OpenTelemetry spans."""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from opentelemetry import context, trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.errors import guard
from entrenar_otel.otel.attributes import clean_attributes, clean_text
from entrenar_otel.otel.traces.global_provider import (
    SCOPE,
    Guarded,
    UsersSpans,
    install_global,
    processors_for_ours,
    release,
)
from entrenar_otel.otel.traces.ids import OwnIds
from entrenar_otel.otel.traces.open_span import OpenSpan, live
from entrenar_otel.otel.traces.restored_span import restored
from entrenar_otel.otel.traces.span_export import SpanPipeline
from entrenar_otel.otel.traces.span_journal import JournalProcessor, Note
from entrenar_otel.recording.notes import EVENT

#: How long the end of a run may take for exporters that do not answer.
_END_SECONDS = 2.0
#: Events that wait for their spans to end.
_MAX_EVENTS = 20_000
_SEVERITIES = ("INFO", "WARNING", "ERROR", "CRITICAL")

Coordinates = Callable[[], tuple[int | None, int | None, int | None]]


class RunSpans:
    """The spans of one run. No method raises, stalls, or does anything in a forked child.

    Args:
        note: takes what must survive the process, see `span_journal`.
        resource: of our spans.
        coordinates: the current epoch, batch and step, for events.
        step_spans: whether `begin_step` makes spans; thousands of them are rarely what one wants.
        exporters: each gets a daemon thread; they are shut down with the run, or at exit.
        environ: where TRACEPARENT and TRACESTATE of whoever started this process are.
        set_global: whether users' spans become part of the run, see `install_global`.
        export_settings: of SpanPipeline, see `environment.span_export_settings`.
        processors: further ones that see every span of the run, users' too; what they raise stops there.
        failures: counts failed exports by the exporter's name.
        losses: counts what was not exported, not noted, or cut.

    >>> tracing = RunSpans(lambda kind, document: True, Resource({}), lambda: (0, None, None),
    ...                      environ={}, set_global=False)
    >>> tracing.start({"training.model.id": "digits"})
    >>> with tracing.span("evaluate", split="test") as span:
    ...     f"{span.get_span_context().span_id:016x}" in tracing.traceparent
    True
    >>> tracing.end("completed", None)
    """

    def __init__(
        self,
        note: Note,
        resource: Resource,
        coordinates: Coordinates,
        *,
        step_spans: bool = False,
        exporters: Sequence[SpanExporter] = (),
        environ: Mapping[str, str] = os.environ,
        set_global: bool = True,
        export_settings: Mapping[str, Any] | None = None,
        processors: Sequence[SpanProcessor] = (),
        failures: Counter[str] | None = None,
        losses: Losses | None = None,
    ) -> None:
        losses = Losses() if losses is None else losses
        self._journal = JournalProcessor(note)
        self._users_journal = JournalProcessor(note, leave_out=SCOPE)
        self._processors = [Guarded(one) for one in processors]
        self._users_spans = UsersSpans(self._users_journal, self._processors)
        self._resource = resource
        self._coordinates = coordinates
        self._step_spans = step_spans
        self._pipeline = SpanPipeline(exporters, **(export_settings or {}), failures=failures, losses=losses)
        self._environ = environ
        self._set_global = set_global
        self._pid = os.getpid()
        self._key = context.create_key("entrenar-span")
        self._tracer: trace.Tracer | None = None  # None: not started, ended, or a forked child's
        self._run: OpenSpan | None = None
        self._epoch: OpenSpan | None = None
        self._step: OpenSpan | None = None
        self._steps = 0
        # Span events that are still to be added to their spans, see `event`.
        self._events: deque[tuple[trace.Span, str, dict[str, Any], int]] = deque(maxlen=_MAX_EVENTS)
        self._lost_event = losses.counter("span events", "training.run")
        losses.watch("notes", "journal", lambda: self._journal.lost + self._users_journal.lost)
        losses.watch("notes cut", "journal", lambda: self._journal.shortened + self._users_journal.shortened)
        self._ended = False
        #: Told how many seconds the beginnings and ends of spans take, for `entrenar.overhead`.
        self.spent: Callable[[float], None] = lambda _seconds: None

    # -- the run --------------------------------------------------------------------------------

    def start(self, run_attributes: Mapping[str, Any] | None = None) -> None:
        """Start `training.run`, make it the current span, and let the world know."""
        if self._tracer is not None or self._ended or self._pid != os.getpid():
            return
        with guard("tracing"):
            self._tracer = self._make_tracer()
            attributes = clean_attributes(run_attributes)
            self._run = self._open("training.run", attributes, self._run_parent())
            self.event("training.run.started", attributes)
            now = time.time_ns()  # a span leaves only when it ends, that of the run in days perhaps
            started = self._tracer.start_span("training.run.started", self._run.within, start_time=now)
            started.end(now)
            self._pipeline.hurry()

    def _make_tracer(self) -> trace.Tracer:
        provider = TracerProvider(
            # Nobody's sampler or limits: these few spans are the run.
            sampler=sampling.ALWAYS_ON,
            resource=self._resource,
            shutdown_on_exit=False,
            span_limits=_limits(),
            meter_provider=NoOpMeterProvider(),
            id_generator=OwnIds(),
        )
        processors: list[SpanProcessor | None] = [self._journal, *self._processors]
        if self._set_global:
            with guard("global tracing"):
                install_global(self._users_spans, self._pipeline, self._resource)
            processors.append(processors_for_ours())
        for processor in (*processors, self._pipeline):
            if processor is not None:
                provider.add_span_processor(processor)
        return provider.get_tracer(SCOPE)

    def _run_parent(self) -> context.Context:
        """TRACEPARENT's span, else the current one. Baggage is not ours to take from anywhere."""
        carrier = {
            key.lower(): self._environ[key] for key in ("TRACEPARENT", "TRACESTATE") if key in self._environ
        }
        current = context.get_current()
        found = TraceContextTextMapPropagator().extract(carrier, context.Context())
        span = trace.get_current_span(found)
        if not span.get_span_context().is_valid:
            span = live(current) or trace.INVALID_SPAN
        return trace.set_span_in_context(span, current)

    def end(self, state: str, reason: str | None = None) -> None:
        """End all that is open; bounded, whatever the exporters do."""
        if self._ended or self._pid != os.getpid():
            return
        self._ended = True
        run = self._run
        if run is not None:
            with guard("tracing"):
                severity = {"completed": "INFO", "stopped": "WARNING"}.get(state, "ERROR")
                attributes = {"training.run.state": state, "training.run.reason": reason}
                self.event("training.run.ended", attributes, severity=severity, body=reason, on=run.span)
                for opened in (self._step, self._epoch, run):
                    if opened is not None:
                        if opened is run:
                            run.span.set_attribute("training.run.state", clean_text(state))
                        _set_status(opened.span, None if state == "completed" else reason or state)
                        self._close(opened)
        self._tracer = self._run = self._epoch = self._step = None
        with guard("tracing"):
            if release(self._users_spans, self._pipeline):
                self._pipeline.flush(_END_SECONDS)
            else:
                self._pipeline.close(_END_SECONDS)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the exporters had what has ended up to now; False where that took longer."""
        return self._pipeline.flush(timeout_seconds)

    def abandon(self) -> None:
        """In a forked child: the spans, threads and exporters are the parent's."""
        self._ended = True
        self._tracer = self._run = self._epoch = self._step = None
        self._events.clear()

    # -- epochs and steps -----------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Start `training.epoch`; one that is open still (a loop that was left) ends."""
        if not self._is_on():
            return
        with guard("tracing"):
            self.end_epoch()
            self._steps = 0
            self._epoch = self._open("training.epoch", {"training.epoch": epoch})

    def end_epoch(self, steps: int | None = None, *, error: BaseException | None = None) -> None:
        """End `training.epoch`, after `steps` steps, by default as many as were begun in it."""
        opened, self._epoch = self._epoch, None
        if opened is None or not self._is_on():
            return
        with guard("tracing"):
            self.end_step()
            span, count = opened.span, self._steps if steps is None else steps
            span.set_attribute("training.epoch.steps", count)
            number = getattr(span, "attributes", {}).get("training.epoch")
            attributes = {"training.epoch": number, "training.epoch.steps": count}
            self.event("training.epoch.ended", attributes, on=span)
            if error is not None:
                _set_status(span, _describe(error))
            self._close(opened)

    def begin_step(self, epoch: int | None = None, batch: int | None = None, step: int | None = None) -> None:
        """Count a step of the epoch, and start `training.step` where step spans are wanted."""
        self._steps += 1
        if not self._step_spans or not self._is_on():
            return
        with guard("tracing"):
            self.end_step()
            attributes = {"epoch": epoch, "batch": batch, "step": step}
            self._step = self._open("training.step", clean_attributes(attributes))

    def end_step(self) -> None:
        """End `training.step`, if one is open."""
        opened, self._step = self._step, None
        if opened is not None and self._is_on():
            with guard("tracing"):
                self._close(opened)

    # -- what happens in them -------------------------------------------------------------------

    def span(self, name: str, /, **attributes: Any) -> SpanBlock:
        """A span around a block: child of the current span, else of the epoch's or the run's.

        What leaves the block as an exception is recorded, and goes on as it is.
        """
        return SpanBlock(self, name, attributes)

    def open_block(self, name: str, attributes: Mapping[str, Any]) -> OpenSpan | None:
        """What a SpanBlock begins with; None: nothing is recorded."""
        if not self._is_on():
            return None
        try:
            return self._open(clean_text(name), clean_attributes(attributes))
        except Exception:
            with guard("tracing"):  # entered for failures only: it costs a microsecond
                raise
            return None

    def close_block(self, opened: OpenSpan, error: BaseException | None) -> None:
        """What a SpanBlock ends with. A generator that is finalised has not failed."""
        if error is not None and not isinstance(error, GeneratorExit) and self._pid == os.getpid():
            with guard("tracing"):
                opened.span.record_exception(error)
                _set_status(opened.span, _describe(error))
        self._close(opened)

    def event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        severity: str = "INFO",
        body: str | None = None,
        on: trace.Span | None = None,
        at: tuple[int | None, int | None, int | None] | None = None,
    ) -> None:
        """Something happened: noted at once, and an event of our innermost open span.

        `at`: the epoch, batch and step that it is about, by default those that the loop is in.

        To the span it is added when the span ends. This may be called from a log call, and that may
        be the SDK's own within the lock of this very span (an attribute of a type that it refuses).
        """
        if self._tracer is None or self._pid != os.getpid():
            return
        with guard("tracing"):
            now = time.time_ns()
            span, cleaned = on or self._innermost(), clean_attributes(attributes)
            ids = span.get_span_context() if span else trace.INVALID_SPAN_CONTEXT
            epoch, batch, step = self._coordinates() if at is None else at
            text = clean_text(name)
            document = {
                "name": text,
                "time_ns": now,
                "trace_id": f"{ids.trace_id:032x}" if ids.is_valid else None,
                "span_id": f"{ids.span_id:016x}" if ids.is_valid else None,
                "epoch": epoch,
                "batch": batch,
                "step": step,
                "severity": severity if severity in _SEVERITIES else "INFO",
                "body": None if body is None else clean_text(body),
                "attributes": cleaned,
            }
            if span is not None:
                if len(self._events) >= _MAX_EVENTS:  # the oldest goes; it is in the lake
                    self._lost_event(1)
                self._events.append((span, text, cleaned, now))
            self._journal.put(EVENT, document)

    def export_documents(self, documents: Iterable[Mapping[str, Any]], resource: Resource) -> None:
        """Export spans of a dead run, from their notes."""
        for document in documents if self._is_on() else ():
            with guard("recovered spans"):
                self._pipeline.on_end(restored(document, resource))

    @property
    def traceparent(self) -> str | None:
        """The innermost open span as W3C text, for child processes and requests; None outside of a run."""
        if self._run is None or self._pid != os.getpid():
            return None
        span = trace.get_current_span(self._parent()).get_span_context()
        return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"

    # -- spans and the current context ----------------------------------------------------------

    def _is_on(self) -> bool:
        return self._run is not None and self._pid == os.getpid()

    def _parent(self) -> context.Context:
        """The current context where its span is open, else with the epoch's or the run's span."""
        current = context.get_current()
        if live(current) is None and (opened := self._epoch or self._run) is not None:
            return trace.set_span_in_context(opened.span, current)
        return current

    def current_attributes(self) -> dict[str, Any]:
        """The attributes of the innermost span that a block made; none outside of one."""
        span = context.get_value(self._key)
        if not isinstance(span, trace.Span) or not span.is_recording():
            return {}
        if any(opened is not None and opened.span is span for opened in (self._run, self._epoch, self._step)):
            return {}
        return dict(getattr(span, "attributes", None) or {})

    def _innermost(self) -> trace.Span | None:
        span = context.get_value(self._key)
        if isinstance(span, trace.Span) and span.is_recording():
            return span
        opened = self._epoch or self._run
        return opened.span if opened is not None else None

    def _open(
        self, name: str, attributes: Mapping[str, Any], parent: context.Context | None = None
    ) -> OpenSpan:
        assert self._tracer is not None
        begun = time.perf_counter()
        span = self._tracer.start_span(name, parent or self._parent(), attributes=attributes)
        opened = OpenSpan(span, self._key)
        self.spent(time.perf_counter() - begun)
        return opened

    def _close(self, opened: OpenSpan) -> None:
        if self._pid != os.getpid():
            return
        begun = time.perf_counter()
        try:
            if self._events:
                self._add_events()
            if opened.span.is_recording():
                opened.span.end()
        except Exception:
            with guard("tracing"):
                raise
        finally:
            opened.leave()
            self.spent(time.perf_counter() - begun)

    def _add_events(self) -> None:
        while self._events:
            try:
                span, name, attributes, at = self._events.popleft()
            except IndexError:  # another thread took it
                return
            if span.is_recording():
                span.add_event(name, attributes, at)


class SpanBlock:
    """`with tracing.span(...) as span`: what a generator would do at twice the cost."""

    __slots__ = ("_attributes", "_name", "_opened", "_tracing")

    def __init__(self, tracing: RunSpans, name: str, attributes: Mapping[str, Any]) -> None:
        self._tracing = tracing
        self._name = name
        self._attributes = attributes
        self._opened: OpenSpan | None = None

    def __enter__(self) -> trace.Span:
        opened = self._opened = self._tracing.open_block(self._name, self._attributes)
        return trace.INVALID_SPAN if opened is None else opened.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            self._tracing.close_block(opened, error)


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


def _set_status(span: trace.Span, problem: str | None) -> None:
    if problem is None:
        span.set_status(trace.StatusCode.OK)
    else:
        span.set_status(trace.StatusCode.ERROR, clean_text(problem))


def _describe(error: BaseException) -> str:
    text = clean_text(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
