"""Exporters in their threads: slow, hanging, raising, and none of it the loop's concern."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.delivery.losses import Loss
from entrenar_otel.otel.traces.span_export import SpanPipeline


class Hanging(SpanExporter):
    """Waits in `export`, and in `shutdown` too."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.released.wait()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.released.wait()


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    exporter = Hanging()
    yield exporter
    exporter.released.set()


def tracer_of(pipeline: SpanPipeline) -> Any:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(pipeline)
    tracer = provider.get_tracer("t")
    assert isinstance(tracer, Tracer)
    return tracer


def lost_spans(pipeline: SpanPipeline, exporter: str) -> int:
    return dict(pipeline.losses.snapshot())[Loss("spans", exporter)]


def test_batches_and_flush() -> None:
    """No more in a call than a batch, all of it after a flush, in order."""
    sizes: list[int] = []

    class Counting(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            sizes.append(len(spans))
            return super().export(spans)

    memory = Counting()
    pipeline = SpanPipeline([memory], delay_seconds=1000, max_batch=40)
    tracer = tracer_of(pipeline)
    for number in range(100):
        tracer.start_span(str(number)).end()
    assert pipeline.force_flush(20_000)
    assert [span.name for span in memory.get_finished_spans()] == [str(number) for number in range(100)]
    assert max(sizes) <= 40
    tracer.start_span("last").end()
    pipeline.close(20)
    pipeline.close()
    assert memory.get_finished_spans()[-1].name == "last"
    tracer.start_span("after").end()
    assert memory.get_finished_spans()[-1].name == "last"


def test_hurry_does_not_wait_for_the_batch() -> None:
    """What waits leaves at once."""
    arrived = threading.Event()

    class Telling(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            arrived.set()
            return super().export(spans)

    pipeline = SpanPipeline([Telling()], delay_seconds=1000)
    tracer_of(pipeline).start_span("a").end()
    pipeline.hurry()
    assert arrived.wait(20)
    pipeline.close()


def test_a_hanging_exporter_is_left_behind(hanging: Hanging, caplog: pytest.LogCaptureFixture) -> None:
    """The others get everything; what finds no room is counted; closing does not wait for ever."""
    memory = InMemorySpanExporter()
    pipeline = SpanPipeline([hanging, memory], delay_seconds=0.001, max_queue=10)
    tracer = tracer_of(pipeline)
    tracer.start_span("a").end()
    assert hanging.entered.wait(20)
    for number in range(12):
        tracer.start_span("b").end()
        while len(memory.get_finished_spans()) < 2 + number:
            time.sleep(0.001)
    assert lost_spans(pipeline, "Hanging") >= 2
    assert not pipeline.flush(0.01)
    pipeline.close(0.2)
    assert "Hanging is too slow" in caplog.text
    assert "Hanging did not finish within 0.2 s" in caplog.text
    assert "InMemory" not in caplog.text
    assert lost_spans(pipeline, "Hanging") == 13  # all: dropped, waiting in vain, or in the call that hangs
    assert lost_spans(pipeline, "InMemorySpanExporter") == 0


def test_an_exporter_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """It is warned of once, counted, and tried again with the next batch."""

    class Failing(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            if spans[0].name == "raise":
                raise ConnectionError("nobody there")
            return SpanExportResult.FAILURE

        def shutdown(self) -> None:
            raise OSError("already gone")

    pipeline = SpanPipeline([Failing()])
    tracer = tracer_of(pipeline)
    for name in ("raise", "fail", "raise"):
        tracer.start_span(name).end()
        assert pipeline.flush(20)
    pipeline.shutdown()
    assert pipeline.failures == {"Failing": 3}
    assert lost_spans(pipeline, "Failing") == 3
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "Failing could not export spans (ConnectionError: nobody there)",
        "Failing could not be shut down (OSError: already gone)",
    ]


def test_no_thread_without_a_span() -> None:
    """Nothing is started for exporters that get nothing."""
    pipeline = SpanPipeline([InMemorySpanExporter()])
    pipeline.hurry()
    assert pipeline.flush(0)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("entrenar-spans")] == []
