"""Run spans: a run, its epochs and what happens in them as OpenTelemetry spans."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from entrenar_otel.clock import RunClock
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.errors import guard
from entrenar_otel.otel.attributes import clean_attributes, clean_text
from entrenar_otel.otel.traces.failure import describe, record, set_status
from entrenar_otel.otel.traces.global_provider import (
    SCOPE,
    Guarded,
    UsersSpans,
    install_global,
    is_ours,
    processors_for_ours,
    release,
)
from entrenar_otel.otel.traces.ids import given
from entrenar_otel.otel.traces.noted_span import NotedSpan
from entrenar_otel.otel.traces.noted_spans import NotedSpans, PutTexts, needs_start
from entrenar_otel.otel.traces.open_span import OpenSpan, live
from entrenar_otel.otel.traces.restored_span import restored
from entrenar_otel.otel.traces.run_tracer import run_parent, run_tracer
from entrenar_otel.otel.traces.span_block import SpanBlock
from entrenar_otel.otel.traces.span_events import Place, SpanEvents, event_document
from entrenar_otel.otel.traces.span_export import SpanPipeline
from entrenar_otel.otel.traces.span_journal import JournalProcessor, Note
from entrenar_otel.recording.notes import EVENT
from entrenar_otel.redact import redacted

#: How long the end of a run waits for exporters that do not answer.
_END_SECONDS = 2.0
#: Epochs of which something may still be found after they have ended.
MAX_RECENT = 64


class RunSpans:
    """The spans of one run. No method raises, stalls, or does anything in a forked child.

    Args:
        note: takes what must survive the process, see `span_journal`.
        put_texts: takes notes whose text is made already, see `noted_spans`; None: all spans are the SDK's.
        resource: of our spans.
        coordinates: the current epoch, batch and step, for events.
        step_spans: whether `begin_step` makes spans; thousands of them are rarely what one wants.
        exporters: each gets a daemon thread; they are shut down with the run, or at exit.
        environ: has TRACEPARENT and TRACESTATE of the process that started this one, if any.
        set_global: whether users' spans become part of the run, see `install_global`.
        export_settings: of SpanPipeline, see `environment.span_export_settings`.
        processors: further ones that see every span of the run, users' too; what they raise stops there.
        failures: counts failed exports by the exporter's name.
        losses: counts what was not exported, not noted, or cut.
        clock: of our spans and events, the run's.

    >>> spans = RunSpans(lambda kind, document: True, Resource({}), lambda: (0, None, None),
    ...                  environ={}, set_global=False)
    >>> spans.start({"training.model.id": "digits"})
    >>> with spans.span("evaluate", split="test") as span:
    ...     f"{span.get_span_context().span_id:016x}" in spans.traceparent
    True
    >>> spans.end("completed", None)
    """

    def __init__(
        self,
        note: Note,
        resource: Resource,
        coordinates: Callable[[], Place],
        *,
        put_texts: PutTexts | None = None,
        step_spans: bool = False,
        exporters: Sequence[SpanExporter] = (),
        environ: Mapping[str, str] = os.environ,
        set_global: bool = True,
        export_settings: Mapping[str, Any] | None = None,
        processors: Sequence[SpanProcessor] = (),
        failures: Counter[str] | None = None,
        losses: Losses | None = None,
        clock: RunClock | None = None,
    ) -> None:
        losses = Losses() if losses is None else losses
        self._journal = JournalProcessor(note)
        self._users_journal = JournalProcessor(note, leave_out=SCOPE)
        self._processors = [Guarded(processor) for processor in processors]
        self._users_spans = UsersSpans(self._users_journal, self._processors)
        self._resource = resource
        self._coordinates = coordinates
        self._clock = RunClock() if clock is None else clock
        self._step_spans = step_spans
        self._pipeline = SpanPipeline(exporters, **(export_settings or {}), failures=failures, losses=losses)
        self._noted: NotedSpans | None = None
        if put_texts is not None and not any(needs_start(processor) for processor in processors):
            self._noted = NotedSpans(put_texts, self._grow, self._processors, self._pipeline, resource)
            self._pipeline.fill = self._noted.hand_on
        self._environ = environ
        self._set_global = set_global
        self._pid = os.getpid()
        self._key = context.create_key("entrenar-span")
        self._tracer: trace.Tracer | None = None  # None: not started, ended, or a forked child's
        self._run: OpenSpan | None = None
        self._epoch: OpenSpan | None = None
        self._step: OpenSpan | None = None
        self._steps = 0
        self._recent: dict[int, trace.Span] = {}  # spans of the last epochs, ended ones too, by number
        self._events = SpanEvents(losses)
        losses.watch("notes", "journal", self._lost_notes)
        losses.watch("notes cut", "journal", lambda: self._journal.shortened + self._users_journal.shortened)
        self._is_ended = False
        #: Told how many seconds the beginnings and ends of spans take, for `entrenar.overhead`.
        self.spent: Callable[[float], None] = lambda _seconds: None

    # -- the run --------------------------------------------------------------------------------

    def start(
        self, run_attributes: Mapping[str, Any] | None = None, started: Mapping[str, Any] | None = None
    ) -> None:
        """Start `training.run`, make it the current span, and let the world know.

        `started`: what its event says besides.
        """
        if self._tracer is not None or self._is_ended or self._pid != os.getpid():
            return
        with guard("tracing"):
            parent = run_parent(self._environ)
            self._tracer = run_tracer(self._resource, self._all_processors(), parent)
            attributes = clean_attributes(run_attributes)
            self._run = self._open("training.run", attributes, parent)
            self.event("training.run.started", {**attributes, **clean_attributes(started)})
            now = self._clock.time_ns()  # a span leaves only when it ends, that of the run in days perhaps
            told = self._tracer.start_span("training.run.started", self._run.within, start_time=now)
            told.end(now)
            if self._noted is not None:
                self._noted.learn(self._run.span, told)
            self._pipeline.hurry()

    def _all_processors(self) -> Iterator[SpanProcessor]:
        """Who sees our spans: the journal first, exporters last."""
        yield self._journal
        yield from self._processors
        if self._set_global:
            with guard("global tracing"):
                install_global(self._users_spans, self._pipeline, self._resource)
            if (theirs := processors_for_ours()) is not None:
                self._noted = None  # they are shown each span as it begins
                yield theirs
        yield self._pipeline

    def end(
        self,
        state: str,
        reason: str | None = None,
        error: BaseException | None = None,
        ended: Mapping[str, Any] | None = None,
    ) -> None:
        """End all that is open, by `error` if there was one; bounded, whatever the exporters do."""
        if self._is_ended or self._pid != os.getpid():
            return
        self._is_ended = True
        reason = reason and redacted(clean_text(reason))
        run = self._run
        if run is not None:
            with guard("tracing"):
                severity = {"completed": "INFO", "stopped": "WARNING"}.get(state, "ERROR")
                attributes = {"training.run.state": state, "training.run.reason": reason, **(ended or {})}
                self.event("training.run.ended", attributes, severity=severity, body=reason, on=run.span)
                for opened in (self._step, self._epoch, run):
                    if opened is not None:
                        if opened is run:
                            run.span.set_attribute("training.run.state", clean_text(state))
                            if error is not None and state == "crashed":
                                record(run.span, error, self._clock.time_ns())
                        set_status(opened.span, None if state == "completed" else reason or state, error)
                        self._close(opened)
        with guard("tracing"):
            self.hand_on()
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
        self._is_ended = True
        self._tracer = self._run = self._epoch = self._step = None
        self._events.clear()
        if self._noted is not None:
            self._noted.forget()

    def hand_on(self) -> None:
        """The heartbeat's turn: exporters and processors get what ended since, as far as it is kept back."""
        if self._noted is not None and self._is_on():
            self._noted.hand_on()
            seconds, self._noted.seconds = self._noted.seconds, 0.0
            self.spent(seconds)

    # -- epochs and steps -----------------------------------------------------------------------

    def begin_epoch(self, epoch: int, epochs: int | None = None) -> None:
        """Start `training.epoch`, of `epochs` in all; one that is open still (a loop that was left) ends."""
        if not self._is_on():
            return
        try:
            if self._epoch is not None:
                self.end_epoch()
            self._steps = 0
            values = {"training.epoch": epoch}
            if epochs is not None:
                values["training.epochs"] = epochs
            self._epoch = self._open_as_notes("training.epoch", values) or self._open(
                "training.epoch", values
            )
            self._recent.pop(epoch, None)
            self._recent[epoch] = self._epoch.span
            while len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]
        except Exception:
            with guard("tracing"):  # entered for failures only: it costs a microsecond
                raise

    def expect_batches(self, count: int) -> None:
        """Say how many batches the open epoch, or the run without epochs, will have, while it has them."""
        opened = self._epoch or self._run
        if opened is None or opened.batches == count or not self._is_on():
            return
        try:
            opened.batches = count
            span: Any = opened.span
            if span.__class__ is NotedSpan and self._noted is not None and not span.is_whole:
                if span.values.get("training.batches") != count:
                    span.values["training.batches"] = count
                    self._noted.note_start(span)
            elif span.is_recording() and (span.attributes or {}).get("training.batches") != count:
                span.set_attribute("training.batches", count)
                self._journal.on_start(span)  # again: a later note of the same start counts
        except Exception:
            with guard("tracing"):
                raise

    def end_epoch(self, steps: int | None = None, *, error: BaseException | None = None) -> None:
        """End `training.epoch`, after `steps` steps, by default as many as were begun in it."""
        opened, self._epoch = self._epoch, None
        if opened is None or not self._is_on():
            return
        try:
            if self._step is not None:
                self.end_step()
            span, count = opened.span, self._steps if steps is None else steps
            if error is None and self._end_as_notes(opened, count):
                return
            span.set_attribute("training.epoch.steps", count)
            number = getattr(span, "attributes", {}).get("training.epoch")
            attributes = {"training.epoch": number, "training.epoch.steps": count}
            self.event("training.epoch.ended", attributes, on=span)
            if error is not None:
                set_status(span, describe(error), error)
            self._close(opened)
        except Exception:
            with guard("tracing"):
                raise

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
                record(opened.span, error, self._clock.time_ns())
                set_status(opened.span, describe(error), error)
        self._close(opened)

    def event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        severity: str = "INFO",
        body: str | None = None,
        on: trace.Span | None = None,
        at: Place | None = None,
    ) -> None:
        """Something happened: noted at once, and an event of the innermost open span.

        That is the current one, a user's too, else the epoch's or the run's. `at`: the epoch, batch and step
        that it is about, by default those that the loop is in; of another epoch than the loop's, it is an
        event of that one, in its note at least. To a span of ours it is added when that ends, see
        `SpanEvents`.
        """
        if self._tracer is None or self._pid != os.getpid():
            return
        with guard("tracing"):
            now, text, cleaned = self._clock.time_ns(), clean_text(name), clean_attributes(attributes)
            span = on or self._span_of(at) or self._innermost()
            document = event_document(
                text,
                cleaned,
                now,
                severity=severity,
                body=None if body is None else clean_text(body),
                at=self._coordinates() if at is None else at,
                span=span,
            )
            if span is not None and is_ours(span):
                self._events.put(span, text, cleaned, now)
            elif span is not None:  # we are not told before it ends
                self._events.add_to_other(span, text, cleaned, now)
            self._journal.put(EVENT, document)

    def point(
        self,
        name: str,
        attributes: Mapping[str, Any],
        links: Iterable[tuple[str, str, Mapping[str, Any]]] = (),
    ) -> None:
        """A span without length below the run's, and an event of the same name on the run.

        `links`: trace id and span id in hex, and attributes of each.
        """
        if self._run is None or self._tracer is None or self._pid != os.getpid():
            return
        with guard("tracing"):
            cleaned, now = clean_attributes(attributes), self._clock.time_ns()
            self.event(name, cleaned, on=self._run.span)
            linked = [
                trace.Link(
                    trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True),
                    clean_attributes(more),
                )
                for trace_id, span_id, more in links
            ]
            within = trace.set_span_in_context(self._run.span)
            span = self._tracer.start_span(name, within, attributes=cleaned, links=linked, start_time=now)
            span.set_status(trace.StatusCode.OK)
            span.end(now)

    def export_documents(self, documents: Iterable[Mapping[str, Any]], resource: Resource) -> None:
        """Export spans of a dead run, from their notes."""
        for document in documents if self._is_on() else ():
            with guard("recovered spans"):
                self._pipeline.on_end(restored(document, resource))

    @property
    def traceparent(self) -> str | None:
        """The innermost open span as W3C text, for child processes and requests; None outside a run."""
        if self._run is None or self._pid != os.getpid():
            return None
        return _w3c(trace.get_current_span(self._parent()).get_span_context())

    @property
    def run_traceparent(self) -> str | None:
        """The run's own span as W3C text; None outside a run."""
        if self._run is None or self._pid != os.getpid():
            return None
        return _w3c(self._run.span.get_span_context())

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

    def _span_of(self, at: Place | None) -> trace.Span | None:
        """The span of an epoch that the loop has left, if it is about that one."""
        span = self._recent.get(at[0]) if at is not None and at[0] is not None else None
        return None if self._epoch is not None and span is self._epoch.span else span

    def _innermost(self) -> trace.Span | None:
        span: Any = trace.get_current_span()
        if is_ours(span):  # another run's, perhaps
            span = context.get_value(self._key)
        if isinstance(span, trace.Span) and span.is_recording():
            return span
        opened = self._epoch or self._run
        return opened.span if opened is not None else None

    def _open(
        self,
        name: str,
        attributes: Mapping[str, Any],
        parent: context.Context | None = None,
    ) -> OpenSpan:
        assert self._tracer is not None
        start = time.perf_counter()
        now = self._clock.time_ns()
        span = self._tracer.start_span(name, parent or self._parent(), attributes=attributes, start_time=now)
        opened = OpenSpan(span, self._key, self._clock.anchor_ns)
        self.spent(time.perf_counter() - start)
        return opened

    def _open_as_notes(self, name: str, values: dict[str, int]) -> OpenSpan | None:
        """A span whose notes will do, if nobody wants more of it; None where it has to be the SDK's.

        A loop's thread finds cold caches here, so what is usual is done with few calls.
        """
        if (noted := self._noted) is None or (run := self._run) is None:
            return None
        start = time.perf_counter()
        parent = run.span if context.get_current() is run.within else trace.get_current_span(self._parent())
        span = noted.begin(name, values, parent, self._clock.time_ns())
        if span is None:
            return None
        opened = OpenSpan(span, self._key, self._clock.anchor_ns)
        noted.seconds += time.perf_counter() - start
        return opened

    def _end_as_notes(self, opened: OpenSpan, steps: int) -> bool:
        """End an epoch that is its notes alone; False where it has become the SDK's."""
        span, noted = opened.span, self._noted
        if noted is None or not isinstance(span, NotedSpan):
            return False
        start = time.perf_counter()
        if self._events:
            self._events.add_to_spans()
        span.values["training.epoch.steps"] = steps
        attributes = {"training.epoch": span.values["training.epoch"], "training.epoch.steps": steps}
        event = "training.epoch.ended", attributes, self._clock.time_ns()
        end_ns = self._clock.monotonic_ns() + opened.anchor_ns
        if not noted.end(span, self._coordinates(), end_ns, event):
            return False
        opened.leave()
        noted.seconds += time.perf_counter() - start
        return True

    def _grow(self, span: NotedSpan) -> trace.Span | None:
        """The SDK's span of one that is its notes alone."""
        if (tracer := self._tracer) is None:
            return None
        within = trace.set_span_in_context(trace.NonRecordingSpan(span.parent), context.Context())
        with given(span.context.span_id):
            return tracer.start_span(
                span.name, within, attributes=dict(span.values), start_time=span.start_time
            )

    def _lost_notes(self) -> int:
        noted = 0 if self._noted is None else self._noted.lost_count
        return self._journal.lost_count + self._users_journal.lost_count + noted

    def _close(self, opened: OpenSpan) -> None:
        if self._pid != os.getpid():
            return
        start = time.perf_counter()
        try:
            if self._events:
                self._events.add_to_spans()
            if opened.span.is_recording():
                opened.span.end(self._clock.monotonic_ns() + opened.anchor_ns)
        except Exception:
            with guard("tracing"):
                raise
        finally:
            opened.leave()
            self.spent(time.perf_counter() - start)


def _w3c(span: trace.SpanContext) -> str:
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
