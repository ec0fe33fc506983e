"""Ended span: whoever reads it finds the SDK's own."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.otel.traces.ended_span import EndedSpan
from tests.otel.traces.conftest import Notes, maker

pytestmark = pytest.mark.usefixtures("clean_context")


def test_all_of_it_is_there() -> None:
    """Its public attributes, its JSON; what is not there is an AttributeError, as ever."""
    notes: Notes = []
    memory = InMemorySpanExporter()
    tracing = maker(notes, memory, noted=True)()
    tracing.start()
    tracing.begin_epoch(3, 5)
    tracing.end_epoch(28)
    tracing.end("completed")
    (span,) = [span for span in memory.get_finished_spans() if isinstance(span, EndedSpan)]
    whole = span.noted.readable(Resource({"training.run.id": "r"}))
    assert span.context == span.get_span_context() == whole.context
    assert span.attributes == {"training.epoch": 3, "training.epochs": 5, "training.epoch.steps": 28}
    assert [event.name for event in span.events] == ["training.epoch.ended"]
    assert span.to_json() == whole.to_json()
    with pytest.raises(AttributeError, match="nothing"):
        span.nothing  # noqa: B018
