"""Span request: noted spans as OTLP has them, without the SDK's objects and protobuf's for each.

Thirty epochs in two seconds took the SDK's exporter 64 µs each. What does not change from span to span, such
as name, kind and flags, is what the SDK's own encoder makes of the first of them; the rest are a few numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from entrenar_otel.otel.traces.ended_span import EndedSpan
from entrenar_otel.otel.wire import attribute_field, field

Encode = Callable[[Sequence[ReadableSpan]], Any]

#: Tags of protobuf, of ids with their lengths. Of ExportTraceServiceRequest, ResourceSpans and ScopeSpans; of
#: Span; of Event.
_RESOURCE_SPANS, _SCOPE_SPANS, _SPANS = b"\x0a", b"\x12", b"\x12"
_TRACE_ID, _SPAN_ID, _PARENT_ID, _START, _END = b"\x0a\x10", b"\x12\x08", b"\x22\x08", b"\x39", b"\x41"
_ATTRIBUTES, _EVENTS = b"\x4a", b"\x5a"
_TIME, _NAME, _OF_EVENT = b"\x09", b"\x12", b"\x1a"
_OURS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_time_unix_nano",
    "end_time_unix_nano",
    "attributes",
    "events",
)
_INT64 = 1 << 63
#: Kinds of spans that are remembered; a run has one.
_MOST_KINDS = 64


class _Odd(ValueError):
    """A span for the SDK's encoder: a number that protobuf does not take, say."""


class SpanRequests:
    """In place of the SDK's `encode_spans`, which it calls for all that is not ours."""

    is_ours = True

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._lock = threading.Lock()  # of what follows: each exporter has a thread
        self._about: tuple[Any, Any] = (None, None)  # the resource and the scope of what is remembered
        self._resource = self._scope = b""
        self._kinds: dict[tuple[Any, ...], bytes] = {}

    def __call__(self, spans: Sequence[ReadableSpan]) -> Any:
        first = next((span for span in spans if isinstance(span, EndedSpan)), None)
        if first is None:
            return self._encode(spans)
        mine: list[EndedSpan] = []
        others: list[ReadableSpan] = []
        for span in spans:
            if isinstance(span, EndedSpan) and span.is_like(first):
                mine.append(span)
            else:
                others.append(span)
        try:
            with self._lock:
                made = self._made(mine)
        except (ValueError, OverflowError):
            return self._encode(spans)
        request = self._encode(others)
        request.MergeFromString(made)
        return request

    def _made(self, spans: Sequence[EndedSpan]) -> bytes:
        """The bytes of a request with these, of one resource and one scope."""
        about = spans[0].told, spans[0].noted.instrumentation_scope
        if about[0] is not self._about[0] or about[1] is not self._about[1]:
            self._about, self._kinds = (None, None), {}
            (resource,) = self._encode(spans[:1]).resource_spans
            (scope,) = resource.scope_spans
            scope.ClearField("spans")
            self._scope = scope.SerializeToString()
            resource.ClearField("scope_spans")
            self._resource = resource.SerializeToString()
            self._about = about
        scoped = b"".join([self._scope, *(field(_SPANS, self._span(span)) for span in spans)])
        return field(_RESOURCE_SPANS, self._resource + field(_SCOPE_SPANS, scoped))

    def _span(self, span: EndedSpan) -> bytes:
        noted = span.noted
        context, parent = noted.context, noted.parent
        state = context.trace_state.to_header() if context.trace_state else ""
        kind = noted.name, context.trace_flags, state, parent.is_remote
        rest = self._kinds.get(kind) or self._learn(kind, span)
        trace_id, span_id, parent_id, start = noted.numbers
        if noted.end_time is None:
            raise _Odd
        parts = [
            *(_TRACE_ID, trace_id.to_bytes(16, "big"), _SPAN_ID, span_id.to_bytes(8, "big")),
            *(_PARENT_ID, parent_id.to_bytes(8, "big"), _START, start.to_bytes(8, "little")),
            *(_END, noted.end_time.to_bytes(8, "little"), rest, _attributes(_ATTRIBUTES, noted.values)),
        ]
        if noted.last_event is not None:
            name, values, at_ns = noted.last_event
            about = _TIME + at_ns.to_bytes(8, "little") + field(_NAME, name.encode())
            parts.append(field(_EVENTS, about + _attributes(_OF_EVENT, values)))
        return b"".join(parts)

    def _learn(self, kind: tuple[Any, ...], span: EndedSpan) -> bytes:
        """What spans of a kind have in common, from the SDK's encoder."""
        ((scope,),) = [resource.scope_spans for resource in self._encode([span]).resource_spans]
        (message,) = scope.spans
        for name in _OURS:
            message.ClearField(name)
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[kind] = rest = bytes(message.SerializeToString())
        return rest


def _attributes(tag: bytes, values: Mapping[str, int]) -> bytes:
    for value in values.values():
        if value.__class__ is not int or not -_INT64 <= value < _INT64:
            raise _Odd
    return b"".join([attribute_field(tag, key, value) for key, value in values.items()])
