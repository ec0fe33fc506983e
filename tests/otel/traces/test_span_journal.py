"""Notes of spans that do not fit, or cannot be kept."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.otel.traces.run_spans import RunSpans


def test_a_note_that_is_too_large_is_shortened() -> None:
    """The last events stay, it is said how many do not, and the export has all."""
    memory, kept = InMemorySpanExporter(), list[dict[str, Any]]()

    def note(kind: int, document: dict[str, Any]) -> bool:
        if len(str(document)) > 50_000:
            raise ValueError("too large")
        kept.append(document)
        return True

    losses = Losses()
    settings: dict[str, Any] = {"environ": {}, "exporters": [memory], "set_global": False, "losses": losses}
    tracing = RunSpans(note, Resource({}), lambda: (None,) * 3, **settings)
    tracing.start()
    for number in range(1_000):
        tracing.event("tick", {"number": number})
    tracing.end("completed")
    assert losses.text() == "1 note cut (journal)"
    assert len(kept[-1]["events"]) == 200
    assert kept[-1]["attributes"]["entrenar.left_out.events"] == 802
    assert len(memory.get_finished_spans()[-1].events) == 1_002


def test_a_journal_that_fails_is_not_the_loop_s_concern() -> None:
    """A note that could not be kept is counted; spans are exported all the same."""
    memory = InMemorySpanExporter()
    losses = Losses()
    settings: dict[str, Any] = {"environ": {}, "exporters": [memory], "set_global": False, "losses": losses}
    tracing = RunSpans(lambda *_: False, Resource({}), lambda: (None,) * 3, **settings)
    tracing.start()
    tracing.end("completed")
    assert losses.text() == "6 notes (journal)"
    assert len(memory.get_finished_spans()) == 2
