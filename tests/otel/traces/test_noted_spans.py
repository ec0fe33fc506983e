"""Spans of epochs that are their notes alone: nobody can tell them from the SDK's by what they leave."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel.clock import RunClock
from entrenar_otel.otel.traces import ids
from entrenar_otel.otel.traces.noted_span import NotedSpan
from entrenar_otel.otel.traces.noted_spans import MAX_WAITING
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.recording.notes import SPAN_STARTED, note_text
from tests.otel.traces.conftest import Notes, maker, spans

pytestmark = pytest.mark.usefixtures("clean_context")

Script = Callable[[RunSpans], None]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Standing:
    """A clock that stands still."""

    monotonic_ns = staticmethod(lambda: 5_000_000)
    time_ns = staticmethod(lambda: 1_700_000_000_000_000_000)


def left_by(script: Script, *, noted: bool, **settings: Any) -> tuple[Notes, Any]:
    """The notes and the exported document of what a script does in a run."""
    notes: Notes = []
    memory = InMemorySpanExporter()
    ids._random.seed(7)
    tracing = maker(notes, memory, noted=noted)(clock=RunClock(Standing()), **settings)
    tracing.start({"training.model.id": "digits"})
    script(tracing)
    tracing.end("completed")
    ids._random.seed()
    return notes, encode_spans(sorted(memory.get_finished_spans(), key=lambda span: span.context.span_id))


def epochs(tracing: RunSpans) -> None:
    for epoch in range(3):
        tracing.begin_epoch(epoch, 3)
        for batches in (28, 28, 7, 28):
            tracing.expect_batches(batches)
        tracing.end_epoch(28)


def counted_by_steps(tracing: RunSpans) -> None:
    tracing.begin_epoch(0)
    for step in range(4):
        tracing.begin_step(0, step, step)
        tracing.end_step()
    tracing.end_epoch()


def left_open(tracing: RunSpans) -> None:
    tracing.begin_epoch(0, 2)
    tracing.begin_epoch(1, 2)


def with_something_within(tracing: RunSpans) -> None:
    tracing.begin_epoch(4)
    with tracing.span("evaluate", split="test"):
        tracing.event("training.finding", {"metric": "loss"}, severity="ERROR", body="a spike")
    tracing.end_epoch(2)


def told_of_something(tracing: RunSpans) -> None:
    tracing.begin_epoch(0)
    tracing.event("training.warning", {"text": "odd"}, body="100 % odd")
    tracing.end_epoch(1)


def touched(tracing: RunSpans) -> None:
    tracing.begin_epoch(0, 5)
    tracing.expect_batches(7)
    span = trace.get_current_span()
    span.set_attribute("lr", 0.1)
    span.set_attributes({"phase": "train", "sizes": [1, 2]})
    span.add_event("seen", {"a": 1}, 17)
    span.add_link(trace.SpanContext(3, 4, is_remote=True), {"why": "resumed"})
    span.record_exception(KeyError("k"), timestamp=18)
    span.set_status(trace.StatusCode.ERROR, "it failed")
    span.update_name("epoch 0")
    tracing.end_epoch(3)


def in_error(tracing: RunSpans) -> None:
    tracing.begin_epoch(0)
    tracing.end_epoch(3, error=ValueError("expected 3"))


def ended_by_somebody(tracing: RunSpans) -> None:
    tracing.begin_epoch(0)
    trace.get_current_span().end(1_800_000_000_000_000_000)
    tracing.end_epoch(3)


def in_a_users_span(tracing: RunSpans) -> None:
    with TracerProvider(id_generator=ids.OwnIds()).get_tracer("users").start_as_current_span("fit"):
        tracing.begin_epoch(0)
        tracing.end_epoch(3)


def with_odd_numbers(tracing: RunSpans) -> None:
    for epoch in (True, 1 << 63, -1, "seven"):
        tracing.begin_epoch(epoch)  # type: ignore[arg-type]
        tracing.end_epoch(3)


PLAIN = [epochs, counted_by_steps]
SCRIPTS = [
    *(*PLAIN, left_open, with_something_within, told_of_something, touched, in_error),
    *(ended_by_somebody, in_a_users_span, with_odd_numbers),
]
ENVIRONMENTS = [
    {},
    {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01", "TRACESTATE": "a=b"},
    {"TRACEPARENT": f"00-{TRACE}-{PARENT}-00"},
]


@pytest.mark.parametrize("environ", ENVIRONMENTS, ids=["alone", "sampled", "not sampled"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_notes_and_exports_are_those_of_the_sdk_s_spans(script: Script, environ: dict[str, str]) -> None:
    """Ids, links, trace state, sampling, times and attributes; a span that becomes the SDK's starts again."""
    at = 3, None, 17
    theirs, exported_theirs = left_by(script, noted=False, environ=environ, at=at)
    ours, exported = left_by(script, noted=True, environ=environ, at=at)
    assert exported == exported_theirs
    assert bool(exported.resource_spans) == (not environ.get("TRACEPARENT", "").endswith("-00"))
    if script in PLAIN:
        assert ours == theirs
    again: set[str] = set()  # of two notes of one start the later one counts
    for notes in (theirs, ours):
        for kind, document in reversed(notes.copy()):
            if kind == SPAN_STARTED and document["span_id"] in again:
                notes.remove((kind, document))
            again |= {document["span_id"]} if kind == SPAN_STARTED else set()
        again.clear()
    by_id = lambda note: (note[1]["span_id"] or "", note[0], str(note[1]))  # noqa: E731
    assert sorted(ours, key=by_id) == sorted(theirs, key=by_id)


@given(
    epoch=st.integers(-(1 << 63), (1 << 63) - 1),
    total=st.none() | st.integers(0, 1 << 40),
    batches=st.none() | st.integers(0, 1 << 40),
    steps=st.integers(0, 1 << 40),
    at=st.tuples(*[st.none() | st.integers(0, 1 << 40)] * 3),
)
def test_the_text_is_json_s(
    epoch: int, total: int | None, batches: int | None, steps: int, at: tuple[int | None, ...]
) -> None:
    """Byte for byte, so that no reader sees which way a note was written."""

    def script(tracing: RunSpans) -> None:
        tracing.begin_epoch(epoch, total)
        if batches is not None:
            tracing.expect_batches(batches)
        tracing.end_epoch(steps)

    texts: list[bytes] = []

    def put_texts(more: Any, span_id: str, *, has_parent: bool) -> bool:
        texts.extend(text for _, text in more)
        return True

    theirs, _ = left_by(script, noted=False, at=at)
    left_by(script, noted=False, at=at, put_texts=put_texts)
    ours = [note_text(document, clean=True) for _, document in theirs]
    assert texts == ours[4:-2]


def test_it_is_a_note_until_it_is_touched() -> None:
    """Code within the epoch finds it as the current span, and as the parent of what it begins."""
    notes: Notes = []
    memory = InMemorySpanExporter()
    tracing = maker(notes, memory, noted=True)()
    tracing.start()
    tracing.begin_epoch(2, 3)
    span = trace.get_current_span()
    assert isinstance(span, NotedSpan)
    assert span.is_recording()
    assert f"-{span.get_span_context().span_id:016x}-" in (tracing.traceparent or "")
    with tracing.span("inner"):
        pass
    assert not span.is_whole
    assert span.attributes == {"training.epoch": 2, "training.epochs": 3}
    assert span.is_whole
    tracing.begin_epoch(3)
    left = trace.get_current_span()
    tracing.end_epoch(5)
    left.set_attribute("late", 1)  # of one that has ended nothing changes
    left.end()
    assert isinstance(left, NotedSpan)
    assert (left.is_recording(), left.is_whole) == (False, False)
    assert left.attributes == {"training.epoch": 3, "training.epoch.steps": 5}
    with pytest.raises(AttributeError):
        _ = left.nothing
    tracing.end("completed")
    found = spans(notes)
    assert found["inner"]["parent_span_id"] == f"{span.get_span_context().span_id:016x}"
    assert sorted(one.name for one in memory.get_finished_spans()) == [
        *("inner", "training.epoch", "training.epoch", "training.run", "training.run.started"),
    ]


def test_an_exception_that_leaves_the_span_is_recorded() -> None:
    """`with` on the current span, as some instrumentations have it."""
    notes: Notes = []
    tracing = maker(notes, InMemorySpanExporter(), noted=True)()
    tracing.start()
    tracing.begin_epoch(0)
    with pytest.raises(KeyError), trace.get_current_span():
        raise KeyError("k")
    tracing.end_epoch(1)
    tracing.end("completed")
    epoch = spans(notes)["training.epoch"]
    assert (epoch["status"], [event["name"] for event in epoch["events"]]) == ("ERROR", ["exception"])


class Ends(SpanProcessor):
    """Sees what ends."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        assert span.start_time is not None
        assert span.end_time is not None
        assert dict(span.attributes or {}) is not None
        self.ended.append(span.name)


class Starts(Ends):
    """Sees what begins, and may ask anything of it."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        assert isinstance(span, Span)


@pytest.mark.parametrize("kind", [Ends, Starts])
def test_a_processor_sees_what_it_asks_for(kind: type[Ends]) -> None:
    """Who sees spans that begin gets the SDK's own."""
    notes: Notes = []
    seen = kind()
    tracing = maker(notes, InMemorySpanExporter(), noted=True)(processors=[seen])
    tracing.start()
    tracing.begin_epoch(0)
    assert isinstance(trace.get_current_span(), NotedSpan) == (kind is Ends)
    tracing.end_epoch(1)
    tracing.hand_on()
    assert seen.ended == ["training.run.started", "training.epoch"]
    tracing.end("completed")


def test_those_that_end_wait_for_the_heartbeat() -> None:
    """But not without end, and not for who flushes."""
    notes: Notes = []
    memory = InMemorySpanExporter()
    tracing = maker(notes, memory, noted=True)()
    tracing.start()
    for epoch in range(MAX_WAITING + 5):
        tracing.begin_epoch(epoch)
        tracing.end_epoch(1)
    assert tracing.flush(20.0)
    found = [span for span in memory.get_finished_spans() if span.name == "training.epoch"]
    assert len(found) == MAX_WAITING + 5
    assert found[-1].resource == Resource({"training.run.id": "r"})
    tracing.end("completed")


def test_threads_that_touch_an_epoch_as_it_ends() -> None:
    """It ends once, whoever comes first."""
    notes: Notes = []
    memory = InMemorySpanExporter()
    tracing = maker(notes, memory, noted=True)()
    tracing.start()
    current: list[trace.Span] = []
    is_over = threading.Event()

    def touch() -> None:
        while not is_over.is_set():
            with contextlib.suppress(IndexError):
                current[-1].set_attribute("touched", True)

    threads = [threading.Thread(target=touch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for epoch in range(200):
        tracing.begin_epoch(epoch)
        current.append(trace.get_current_span())
        tracing.end_epoch(1)
    is_over.set()
    for thread in threads:
        thread.join()
    assert tracing.flush(20.0)
    tracing.end("completed")
    ended = [span.attributes for span in memory.get_finished_spans() if span.name == "training.epoch"]
    assert sorted(one["training.epoch"] for one in ended if one) == list(range(200))  # type: ignore[type-var]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking beside threads
def test_a_forked_child_tells_nobody() -> None:
    """What waits is the parent's to tell."""
    notes: Notes = []
    tracing = maker(notes, memory := InMemorySpanExporter(), noted=True)()
    tracing.start()
    try:
        tracing.begin_epoch(0)
        tracing.end_epoch(1)
        assert tracing.flush(60.0)  # from here on the exporter's thread rests
        tracing.begin_epoch(1)
        tracing.end_epoch(1)
        known, told = len(notes), len(memory.get_finished_spans())
        if (pid := os.fork()) == 0:
            try:
                tracing.abandon()
                tracing.hand_on()
                tracing.begin_epoch(2)
                tracing.end_epoch(1)
                os._exit((len(notes), len(memory.get_finished_spans())) != (known, told))
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        tracing.end("completed")
    assert [span.name for span in memory.get_finished_spans()].count("training.epoch") == 2


@pytest.fixture(autouse=True)
def other_ids() -> Iterator[None]:
    """Ids are drawn anew after a test that has fixed them."""
    yield
    ids._random.seed()
