"""Span events: what happened within spans that are still open, and how its note reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.sdk_seams import is_free

#: Events that wait for their spans to end; the oldest goes, and is in the lake.
MAX_WAITING = 20_000
_SEVERITIES = ("INFO", "WARNING", "ERROR", "CRITICAL")

#: Epoch, batch and step, None where not known.
Place = tuple[int | None, int | None, int | None]


class SpanEvents:
    """Events that wait to be added to their spans, from any thread.

    They are not added at once: an event may come from a log call, and that may be the SDK's own within
    the lock of this very span (an attribute of a type that it refuses).
    """

    def __init__(self, losses: Losses) -> None:
        self._waiting: deque[tuple[trace.Span, str, dict[str, Any], int]] = deque(maxlen=MAX_WAITING)
        self._lost = losses.counter("span events", "training.run")

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, span: trace.Span, name: str, attributes: dict[str, Any], time_ns: int) -> None:
        """Something happened in this span."""
        if len(self._waiting) >= MAX_WAITING:
            self._lost(1)
        self._waiting.append((span, name, attributes, time_ns))

    def add_to_other(self, span: trace.Span, name: str, attributes: dict[str, Any], time_ns: int) -> None:
        """Something happened in a span that is not ours; at once, unless this thread may be within it."""
        if is_free(span):
            span.add_event(name, attributes, time_ns)
        else:
            self._lost(1)

    def clear(self) -> None:
        """Forget them."""
        self._waiting.clear()

    def add_to_spans(self) -> None:
        """Add what waits to its spans, as far as they are open."""
        while self._waiting:
            try:
                span, name, attributes, time_ns = self._waiting.popleft()
            except IndexError:  # another thread took it
                return
            if span.is_recording():
                span.add_event(name, attributes, time_ns)


def event_document(
    name: str,
    attributes: Mapping[str, Any],
    time_ns: int,
    *,
    severity: str,
    body: str | None,
    at: Place,
    span: trace.Span | None,
) -> dict[str, Any]:
    """The note of an event; name, attributes and body are clean."""
    ids = span.get_span_context() if span else trace.INVALID_SPAN_CONTEXT
    epoch, batch, step = at
    return {
        "name": name,
        "time_ns": time_ns,
        "trace_id": f"{ids.trace_id:032x}" if ids.is_valid else None,
        "span_id": f"{ids.span_id:016x}" if ids.is_valid else None,
        "epoch": epoch,
        "batch": batch,
        "step": step,
        "severity": severity if severity in _SEVERITIES else "INFO",
        "body": body,
        "attributes": attributes,
    }
