"""The private names that we use are where we look for them, and their absence is no error."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.otel import sdk_seams


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_seams, "_warned", set())


def test_span_processor_of_a_provider() -> None:
    """It stands for all that were added, and for those that will be."""
    provider, memory = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    found = sdk_seams.span_processor_of(provider)
    assert found is not None
    provider.add_span_processor(SimpleSpanProcessor(memory))
    other = TracerProvider(shutdown_on_exit=False)
    other.add_span_processor(found)
    other.get_tracer("t").start_span("a").end()
    assert [span.name for span in memory.get_finished_spans()] == ["a"]


def test_modules_that_come_while_they_are_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of garbage lets in a thread that imports; a run would not start with what that raised."""
    here: dict[str, Any] = dict(sys.modules)
    modules = len(here)

    def another(phase: str, _info: Any) -> None:
        here[f"{phase} {len(here)}"] = gc

    monkeypatch.setattr(sys, "modules", here)
    before = gc.get_threshold()
    gc.callbacks.append(another)
    gc.set_threshold(1)
    try:
        sdk_seams.leave_random_alone()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(another)
    assert len(here) > modules


def test_a_provider_without_it(caplog: pytest.LogCaptureFixture) -> None:
    """One warning that says what does not happen now."""
    assert sdk_seams.span_processor_of(object()) is None
    assert sdk_seams.span_processor_of(object()) is None
    (record,) = caplog.records
    assert "has no object._active_span_processor: the run's own spans do not reach" in record.getMessage()


def test_suppression(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The key that instrumentations ask for is set within it, and only there."""
    key = context._SUPPRESS_INSTRUMENTATION_KEY
    with sdk_seams.suppress_instrumentation():
        assert context.get_value(key) is True
    assert context.get_value(key) is None
    monkeypatch.delattr(context, "_SUPPRESS_INSTRUMENTATION_KEY")
    with sdk_seams.suppress_instrumentation():
        assert context.get_value(key) is None
    assert "our exports may be traced" in caplog.text
