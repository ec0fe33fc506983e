"""Note texts: the notes of noted spans, whose texts differ in nothing but numbers.

JSON's encoder and the documents for it take ten times as long as filling in a template. The templates are
made of the same documents, with marks for the numbers, so both ways write the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from entrenar_otel.otel.traces.noted_span import NotedSpan
from entrenar_otel.otel.traces.span_events import Place, event_document
from entrenar_otel.otel.traces.span_journal import ended, started
from entrenar_otel.recording.notes import note_text

_TRACE, _SPAN, _PARENT = 0xA0A0 << 112 | 1, 0xA0A0 << 48 | 2, 0xA0A0 << 48 | 3
#: Marks of decimal numbers count down from here; no two are each other's beginning.
_DECIMAL = (1 << 63) - 1
_IDS = {f"{_TRACE:032x}": b"%032x", f"{_SPAN:016x}": b"%016x", f"{_PARENT:016x}": b"%016x"}
_ABSENT = b"null"


class NoteTexts:
    """Of the noted spans of one run, whose flags are all the same: a template per set of attributes."""

    def __init__(self) -> None:
        self._templates: dict[tuple[Any, ...], bytes] = {}

    def started(self, span: NotedSpan) -> bytes:
        """The note of its start."""
        values = span.values
        key = ("started", span.name, *values)
        template = self._templates.get(key) or self._make(key, span)
        return template % (*span.numbers, *values.values())

    def ended(self, span: NotedSpan, at: Place) -> tuple[bytes, bytes]:
        """The notes of its last event, in this place, and of its end."""
        values = span.values
        assert span.last_event is not None
        name, attributes, at_ns = span.last_event
        key = ("event", name, *attributes)
        template = self._templates.get(key) or self._make(key, span)
        trace_id, span_id, _, _ = span.numbers
        epoch, batch, step = at
        event = template % (
            at_ns,
            trace_id,
            span_id,
            _ABSENT if epoch is None else b"%d" % epoch,
            _ABSENT if batch is None else b"%d" % batch,
            _ABSENT if step is None else b"%d" % step,
            *attributes.values(),
        )
        key = ("ended", span.name, *values, name, *attributes)
        template = self._templates.get(key) or self._make(key, span)
        end = template % (*span.numbers, *values.values(), span.end_time, at_ns, *attributes.values())
        return event, end

    def _make(self, key: tuple[Any, ...], span: NotedSpan) -> bytes:
        document, fields = getattr(self, f"_{key[0]}_like")(span)
        template = note_text(document).replace(b"%", b"%%")
        for mark, field in (_IDS | fields).items():
            template = template.replace(mark.encode(), field)
        self._templates[key] = template
        return template

    def _started_like(self, span: NotedSpan) -> tuple[dict[str, Any], dict[str, bytes]]:
        marks = _Marks()
        return started(_marked(span, marks, with_event=False).readable(Resource({}))), marks.fields

    def _ended_like(self, span: NotedSpan) -> tuple[dict[str, Any], dict[str, bytes]]:
        marks = _Marks()
        return ended(_marked(span, marks, with_event=True).readable(Resource({}))), marks.fields

    def _event_like(self, span: NotedSpan) -> tuple[dict[str, Any], dict[str, bytes]]:
        marks = _Marks()
        like = _marked(span, marks, with_event=True)
        assert like.last_event is not None
        name, attributes, at_ns = like.last_event
        epoch, batch, step = marks.next(b"%b"), marks.next(b"%b"), marks.next(b"%b")
        at = epoch, batch, step
        document = event_document(name, attributes, at_ns, severity="INFO", body=None, at=at, span=like)
        return document, marks.fields


class _Marks:
    """Numbers that stand for others in a template."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}

    def next(self, field: bytes = b"%d") -> int:
        mark = _DECIMAL - len(self.fields)
        self.fields[str(mark)] = field
        return mark

    def of(self, values: Mapping[str, int]) -> dict[str, int]:
        return {name: self.next() for name in values}


def _marked(span: NotedSpan, marks: _Marks, *, with_event: bool) -> NotedSpan:
    """A span like this one with marks for its numbers."""
    context = span.context
    like = NotedSpan(
        span.name,
        trace.SpanContext(_TRACE, _SPAN, is_remote=False, trace_flags=context.trace_flags),
        trace.SpanContext(_TRACE, _PARENT, is_remote=False, trace_flags=context.trace_flags),
        marks.next(),
        marks.of(span.values),
        span.instrumentation_scope,
        lambda _span: None,
        span.lock,
    )
    if with_event and span.last_event is not None:
        name, attributes, _ = span.last_event
        like.end_as_it_is(marks.next(), (name, marks.of(attributes), marks.next()))
    return like
