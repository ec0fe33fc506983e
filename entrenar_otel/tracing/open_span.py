"""Open span: a span of ours and the context in which it is the current one."""

from __future__ import annotations

from opentelemetry import context, trace


class OpenSpan:
    """A span of ours, current in the context where it was started, until `leave`.

    It is not left with `context.detach`: a generator may be finalised in another context, whose token
    is then not this one's, and OpenTelemetry logs an error. Instead the former context comes back
    where this span is still the current one, and nothing happens where it is not.
    """

    __slots__ = ("before", "key", "span", "within")

    def __init__(self, span: trace.Span, key: str) -> None:
        self.span = span
        self.key = key
        self.before = context.get_current()
        self.within = context.set_value(key, span, trace.set_span_in_context(span, self.before))
        context.attach(self.within)

    def leave(self) -> None:
        current = context.get_current()
        if current is self.within:
            context.attach(self.before)
            return
        # Somebody has set another value since, or a span within this one was ended from elsewhere.
        span = trace.get_current_span(current)
        is_stale = span is context.get_value(self.key, current) and not span.is_recording()
        if span is self.span or is_stale:
            outer = context.get_value(self.key, self.before)
            span = trace.get_current_span(self.before)
            context.attach(context.set_value(self.key, outer, trace.set_span_in_context(span, current)))


def live(within: context.Context) -> trace.Span | None:
    """The current span, unless there is none or it has ended."""
    span = trace.get_current_span(within)
    if not span.get_span_context().is_valid or getattr(span, "end_time", None) is not None:
        return None
    return span
