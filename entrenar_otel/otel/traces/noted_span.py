"""Noted span: a span that is its notes alone, until somebody asks for more than its context.

A span of the SDK costs a hundred times what its notes do: locks, limits, processors. What a loop begins and
ends many times a second, and nobody touches, needs none of it. Whoever does touch it (`set_attribute` on the
current span, an exception, an attribute that is read) gets the SDK's own, with the same ids, start and
attributes, from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

#: Makes the SDK's span of a noted one; None: its run is over.
Grow = Callable[["NotedSpan"], trace.Span | None]


class NotedSpan(trace.Span):
    """A span of ours.

    Args:
        grow: makes the SDK's span of this one.
        lock: held while it changes from one to the other, and while it ends.
        values: its attributes.

    Attributes: `events`, of one that ended without the SDK's, are its name, time and attributes.
    """

    def __init__(
        self,
        name: str,
        context: trace.SpanContext,
        parent: trace.SpanContext,
        start_time: int,
        values: dict[str, int],
        scope: InstrumentationScope | None,
        grow: Grow,
        lock: threading.RLock,
    ) -> None:
        self.name = name
        self.context = context
        self.parent = parent
        #: What its notes begin with: the numbers of its trace, of itself and of its parent, and its start.
        self.numbers = context[0], context[1], parent[1], start_time
        self.start_time = start_time
        self.end_time: int | None = None
        self.values = values
        self.instrumentation_scope = scope
        #: The one event of a span that ended as it is: name, attributes, time.
        self.last_event: tuple[str, dict[str, int], int] | None = None
        self._grow = grow
        self.lock = lock
        self._whole: trace.Span | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is the SDK's by now."""
        return self._whole is not None

    def end_as_it_is(self, end_time: int, last_event: tuple[str, dict[str, int], int]) -> bool:
        """End without the SDK; False where it is the SDK's, or has ended."""
        with self.lock:
            if self._whole is not None or self.end_time is not None:
                return False
            self.end_time, self.last_event = end_time, last_event
            return True

    def readable(self, resource: Resource) -> ReadableSpan:
        """What exporters get of one that ended as it is."""
        events = () if self.last_event is None else (self.last_event,)
        return ReadableSpan(
            name=self.name,
            context=self.context,
            parent=self.parent,
            resource=resource,
            attributes=dict(self.values),
            events=[Event(name, dict(attributes), at) for name, attributes, at in events],
            kind=trace.SpanKind.INTERNAL,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )

    # -- without the SDK's ----------------------------------------------------------------------

    def get_span_context(self) -> trace.SpanContext:
        return self.context

    def is_recording(self) -> bool:
        return self.end_time is None if self._whole is None else self._whole.is_recording()

    # -- with it --------------------------------------------------------------------------------

    def whole(self) -> trace.Span:
        """The SDK's; one that records nothing where this one ended without."""
        with self.lock:
            if self._whole is None and self.end_time is None:
                self._whole = self._grow(self)
            return self._whole or trace.NonRecordingSpan(self.context)

    def end(self, end_time: int | None = None) -> None:
        whole = self.whole()
        whole.end(end_time)
        self.end_time = getattr(whole, "end_time", None) or self.end_time or end_time

    def set_attributes(self, attributes: Any) -> None:
        self.whole().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.whole().set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.whole().add_event(name, attributes, timestamp)

    def add_link(self, context: trace.SpanContext, attributes: Any = None) -> None:
        self.whole().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        whole = self.whole()
        whole.update_name(name)
        self.name = getattr(whole, "name", self.name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.whole().set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Any = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self.whole().record_exception(exception, attributes, timestamp, escaped)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        whole = self.whole()
        try:
            whole.__exit__(kind, error, traceback)
        finally:
            self.end_time = getattr(whole, "end_time", None) or self.end_time

    def __getattr__(self, name: str) -> Any:
        """What else the SDK's span has: attributes, events, status, its JSON."""
        if name.startswith("__") or "lock" not in self.__dict__:
            raise AttributeError(name)
        with self.lock:
            is_over = self._whole is None and self.end_time is not None
        return getattr(self.readable(Resource({})) if is_over else self.whole(), name)
