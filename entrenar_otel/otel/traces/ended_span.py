"""Ended span: what exporters get of a noted span that ended as it is, made whole when somebody looks."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from entrenar_otel.otel.traces.noted_span import NotedSpan


class EndedSpan(ReadableSpan):
    """The SDK's span for whoever reads it, which `span_request` does not: attributes and events with locks
    and limits take as long as a span's own notes."""

    def __init__(self, noted: NotedSpan, told: Resource) -> None:
        """`told`: the resource that exporters are told."""
        self.noted, self.told = noted, told

    def is_like(self, other: EndedSpan) -> bool:
        """Whether it is of the same resource and scope."""
        scope = self.noted.instrumentation_scope
        return self.told is other.told and scope is other.noted.instrumentation_scope

    @property
    def context(self) -> trace.SpanContext:
        return self.noted.context

    def get_span_context(self) -> trace.SpanContext:
        return self.noted.context

    def __getattr__(self, name: str) -> Any:
        """What the SDK's own methods look for."""
        own = self.__dict__
        if name.startswith("__") or "noted" not in own:
            raise AttributeError(name)
        if "_context" not in own:
            own.update(vars(self.noted.readable(self.told)))
        try:
            return own[name]
        except KeyError:
            raise AttributeError(name) from None
