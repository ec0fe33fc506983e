"""Noted spans: what begins and ends the noted spans of a run, and hands them on to who sees only ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from entrenar_otel.otel.sdk_seams import encode_spans_by
from entrenar_otel.otel.traces.ended_span import EndedSpan
from entrenar_otel.otel.traces.ids import new_span_id
from entrenar_otel.otel.traces.note_texts import NoteTexts
from entrenar_otel.otel.traces.noted_span import Grow, NotedSpan
from entrenar_otel.otel.traces.span_events import Place
from entrenar_otel.otel.traces.span_export import SpanPipeline
from entrenar_otel.otel.traces.span_request import SpanRequests
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED

#: So many that ended wait for the heartbeat; then the loop's thread hands them on.
MAX_WAITING = 256
_INT64 = 1 << 63


class PutTexts(Protocol):
    """Keeps notes about one span whose texts are made; False: they could not be kept."""

    def __call__(self, texts: Sequence[tuple[int, bytes]], span_id: str, *, has_parent: bool) -> bool: ...


class NotedSpans:
    """The noted spans of one run.

    Args:
        put: keeps their notes.
        grow: makes the SDK's span of one, see NotedSpan.
        processors: see those that end; they need no beginning.
        pipeline: has the exporters.
        resource: what the exporters are told.
    """

    def __init__(
        self,
        put: PutTexts,
        grow: Grow,
        processors: Sequence[SpanProcessor],
        pipeline: SpanPipeline,
        resource: Resource,
    ) -> None:
        self.lost_count = 0
        #: What beginnings and ends took of the loop's thread, since the last who asked.
        self.seconds = 0.0
        self._put = put
        self._grow = grow
        self._processors = tuple(processors)
        self._pipeline = pipeline
        self._resource = resource
        self._texts = NoteTexts()
        self._lock = threading.RLock()
        self._scope: InstrumentationScope | None = None
        self._flags: tuple[trace.TraceFlags, trace.TraceFlags] | None = None  # None: no noted spans
        self._ended: deque[NotedSpan] = deque()
        if pipeline.has_exporters:
            encode_spans_by(SpanRequests)

    def learn(self, parent: trace.Span, child: trace.Span) -> None:
        """From here on there are noted spans, with the scope and the flags of this one below its parent."""
        self._scope = getattr(child, "instrumentation_scope", None)
        self._flags = parent.get_span_context().trace_flags, child.get_span_context().trace_flags

    def forget(self) -> None:
        """There are none any more, and nobody is told of those that ended."""
        self._flags = None
        self._ended.clear()

    def begin(self, name: str, values: dict[str, int], parent: trace.Span, now_ns: int) -> NotedSpan | None:
        """Begin one; None where it has to be the SDK's."""
        above, flags = parent.get_span_context(), self._flags
        trace_id, _, _, flags_above, state, is_valid = above
        if flags is None or flags_above != flags[0] or not is_valid:
            return None
        for value in values.values():
            if value.__class__ is not int or not -_INT64 <= value < _INT64:
                return None
        context = trace.SpanContext(trace_id, new_span_id(), False, flags[1], state)
        span = NotedSpan(name, context, above, now_ns, values, self._scope, self._grow, self._lock)
        self.note_start(span)
        return span

    def note_start(self, span: NotedSpan) -> None:
        """Note its start, also once more: a later note of the same start counts."""
        texts = ((SPAN_STARTED, self._texts.started(span)),)
        self.lost_count += not self._put(texts, f"{span.numbers[1]:016x}", has_parent=True)

    def end(self, span: NotedSpan, at: Place, end_ns: int, event: tuple[str, dict[str, int], int]) -> bool:
        """End one with its last event; False: it is the SDK's by now, or has ended."""
        if not span.end_as_it_is(end_ns, event):
            return False
        happened, ended = self._texts.ended(span, at)
        texts = ((EVENT, happened), (SPAN_ENDED, ended))
        if not self._put(texts, f"{span.numbers[1]:016x}", has_parent=True):
            self.lost_count += len(texts)
        if self._processors or self._pipeline.has_exporters:
            self._ended.append(span)
            if len(self._ended) > MAX_WAITING:
                self.hand_on()
        return True

    def hand_on(self) -> None:
        """Tell processors and exporters of those that have ended; the heartbeat's turn."""
        while self._ended:
            try:
                span = self._ended.popleft()
            except IndexError:  # another thread took it
                return
            for processor in self._processors:
                processor.on_end(span)  # type: ignore[arg-type]
            if self._pipeline.has_exporters:
                self._pipeline.on_end(EndedSpan(span, self._resource))


def needs_start(processor: SpanProcessor) -> bool:
    """Whether a processor wants to see spans that begin, and so the SDK's."""
    kind: Callable[..., None] = type(processor).on_start
    return kind is not SpanProcessor.on_start
