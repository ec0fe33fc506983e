"""Spans of a run whose notes and exports a test can see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.recording.notes import SPAN_ENDED

Notes = list[tuple[int, dict[str, Any]]]


@pytest.fixture
def clean_context() -> Iterator[None]:
    """No span is current before, and none after it."""
    before = context.get_current()
    yield
    assert not trace.get_current_span().get_span_context().is_valid, "a test left a span current"
    context.attach(before)


@pytest.fixture
def notes() -> Notes:
    return []


@pytest.fixture
def memory() -> InMemorySpanExporter:
    return InMemorySpanExporter()


Make = Callable[..., RunSpans]


@pytest.fixture
def make(notes: Notes, memory: InMemorySpanExporter) -> Make:
    def make(**settings: Any) -> RunSpans:
        def note(kind: int, document: dict[str, Any]) -> bool:
            notes.append((kind, document))
            return True

        at = settings.pop("at", (None, None, None))
        given: dict[str, Any] = {"exporters": [memory], "environ": {}, "set_global": False, **settings}
        return RunSpans(note, Resource({"training.run.id": "r"}), lambda: at, **given)

    return make


@pytest.fixture
def relayed() -> Iterator[Callable[[RunSpans], None]]:
    """Makes an event of each line that OpenTelemetry logs, as the capture of warnings does."""
    handlers: list[logging.Handler] = []

    def relay(tracing: RunSpans) -> None:
        class Relay(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                tracing.event("training.warning", body=record.getMessage())

        handlers.append(Relay())
        logging.getLogger("opentelemetry").addHandler(handlers[-1])

    yield relay
    for handler in handlers:
        logging.getLogger("opentelemetry").removeHandler(handler)


def spans(notes: Notes) -> dict[str, dict[str, Any]]:
    return {document["name"]: document for kind, document in notes if kind == SPAN_ENDED}
