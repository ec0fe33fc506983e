"""Open span: a span of ours and the context in which it is the current one."""

from __future__ import annotations

from opentelemetry import context, trace

_OPENED = context.create_key("entrenar-open-span")
#: Where OpenTelemetry has the current span.
(_CURRENT,) = trace.set_span_in_context(trace.INVALID_SPAN, context.Context())


class OpenSpan:
    """A span of ours, current in the context where it was started, until `leave`.

    It is not left with `context.detach`: a generator may be finalised in another context, whose token
    is then not this one's, and OpenTelemetry logs an error. Instead the former context comes back
    where this span is still the current one, and nothing happens where it is not. Where the span that
    was current then has ended since (another run's), the context before that one comes back.

    `anchor_ns` is the clock's at its beginning; its end is told with the same one, so that its length is
    right whatever becomes of the machine's clock meanwhile. `batches` is how many it was said to have.
    """

    __slots__ = ("anchor_ns", "batches", "before", "key", "span", "within")

    def __init__(self, span: trace.Span, key: str, anchor_ns: int) -> None:
        self.span = span
        self.batches: int | None = None
        self.anchor_ns = anchor_ns
        self.key = key
        self.before = before = context.get_current()
        self.within = context.Context({**before, _CURRENT: span, key: span, _OPENED: self})
        context.attach(self.within)

    def leave(self) -> None:
        current = context.get_current()
        if current is self.within:
            context.attach(self._outer())
            return
        # Somebody has set another value since, or a span within this one was ended from elsewhere.
        span = trace.get_current_span(current)
        is_stale = span is context.get_value(self.key, current) and not span.is_recording()
        if span is self.span or is_stale:
            before = self._outer()
            within = trace.set_span_in_context(trace.get_current_span(before), current)
            for key in (self.key, _OPENED):
                within = context.set_value(key, context.get_value(key, before), within)
            context.attach(within)

    def _outer(self) -> context.Context:
        """The context from before this span, and before those in it that have ended."""
        before = self.before
        while isinstance(opened := context.get_value(_OPENED, before), OpenSpan):
            if opened.span.is_recording():
                break
            before = opened.before
        return before


def live(within: context.Context) -> trace.Span | None:
    """The current span, unless there is none or it has ended."""
    span = trace.get_current_span(within)
    if not span.get_span_context().is_valid or getattr(span, "end_time", None) is not None:
        return None
    return span
