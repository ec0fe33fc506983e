"""Spans of a run whose notes and exports a test can see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.recording.notes import SPAN_ENDED, parse_note, text_record

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


def maker(notes: Notes, memory: InMemorySpanExporter, *, noted: bool) -> Make:
    """Makes the spans of a run; `noted`: those of epochs are their notes alone, as far as they can be."""

    def note(kind: int, document: dict[str, Any]) -> bool:
        notes.append((kind, document))
        return True

    def put_texts(texts: Sequence[tuple[int, bytes]], span_id: str, *, has_parent: bool) -> bool:
        for kind, text in texts:
            document = parse_note(text_record(kind, text)[:-8]).document
            assert (document["span_id"], has_parent) == (span_id, True)
            notes.append((kind, document))
        return True

    def make(**settings: Any) -> RunSpans:
        at = settings.pop("at", (None, None, None))
        given: dict[str, Any] = {"exporters": [memory], "environ": {}, "set_global": False, **settings}
        if noted:
            given["put_texts"] = put_texts
        return RunSpans(note, Resource({"training.run.id": "r"}), lambda: at, **given)

    return make


@pytest.fixture(params=["sdk", "noted"])
def make(request: pytest.FixtureRequest, notes: Notes, memory: InMemorySpanExporter) -> Make:
    return maker(notes, memory, noted=request.param == "noted")


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
