"""Spans of a run: their tree, their notes, their ends, wherever the loop goes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from entrenar_otel import AndonStop
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED
from tests.otel.traces.conftest import Make, Notes, spans

pytestmark = pytest.mark.usefixtures("clean_context")


def test_the_tree_of_a_run(make: Make, notes: Notes, memory: InMemorySpanExporter) -> None:
    """run ▸ started, epoch ▸ step ▸ span; each is noted when it starts, and exported when it ends."""
    tracing = make(step_spans=True, at=(3, 4, 5))
    tracing.start({"training.model.id": "digits", "nothing": None})
    assert [(kind, one["name"]) for kind, one in notes] == [
        (SPAN_STARTED, "training.run"),
        (EVENT, "training.run.started"),
        (SPAN_STARTED, "training.run.started"),
        (SPAN_ENDED, "training.run.started"),
    ]
    tracing.begin_epoch(3)
    tracing.begin_step(3, 4, 5)
    with tracing.span("evaluate", split="test"):
        tracing.event("training.finding", {"metric": "loss"}, severity="ERROR", body="a spike")
    tracing.end_step()
    tracing.end_epoch()
    tracing.end("completed")
    found = spans(notes)
    run = found["training.run"]
    assert {one["trace_id"] for one in found.values()} == {run["trace_id"]}
    by_id = {one["span_id"]: name for name, one in found.items()}
    assert {name: by_id.get(one["parent_span_id"]) for name, one in found.items()} == {
        "training.run.started": "training.run",
        "evaluate": "training.step",
        "training.step": "training.epoch",
        "training.epoch": "training.run",
        "training.run": None,
    }
    assert (run["status"], run["attributes"]) == (
        "OK",
        {"training.model.id": "digits", "training.run.state": "completed"},
    )
    assert [event["name"] for event in run["events"]] == ["training.run.started", "training.run.ended"]
    epoch = found["training.epoch"]
    assert (epoch["status"], epoch["attributes"]) == (
        "UNSET",
        {"training.epoch": 3, "training.epoch.steps": 1},
    )
    assert found["training.step"]["attributes"] == {"epoch": 3, "batch": 4, "step": 5}
    (event,) = (one for kind, one in notes if kind == EVENT and one["name"] == "training.finding")
    assert event["span_id"] == found["evaluate"]["span_id"]
    assert (event["epoch"], event["batch"], event["step"], event["severity"], event["body"]) == (
        *(3, 4, 5, "ERROR", "a spike"),
    )
    assert found["evaluate"]["events"][0]["time_ns"] == event["time_ns"]
    assert sorted(span.name for span in memory.get_finished_spans()) == sorted(found)
    assert tracing.traceparent is None


@pytest.mark.parametrize(("state", "severity"), [("stopped", "WARNING"), ("crashed", "ERROR")])
def test_an_end_that_is_none(make: Make, notes: Notes, state: str, severity: str) -> None:
    """What was open gets the reason as its status, once."""
    tracing = make()
    tracing.start()
    tracing.begin_epoch(0)
    tracing.end(state, "disk full")
    tracing.end("completed")
    for name in ("training.run", "training.epoch"):
        assert (spans(notes)[name]["status"], spans(notes)[name]["status_message"]) == ("ERROR", "disk full")
    assert notes[-1][1]["attributes"]["training.run.state"] == state
    (ended,) = (one for kind, one in notes if kind == EVENT and one["name"] == "training.run.ended")
    assert (ended["severity"], ended["body"]) == (severity, "disk full")
    tracing.begin_epoch(1)
    tracing.event("late")
    with tracing.span("late") as span:
        assert not span.is_recording()
    tracing.start()
    assert "late" not in {one["name"] for _, one in notes}


@pytest.mark.parametrize("error", [ValueError("bad"), AndonStop("loss is nan"), KeyboardInterrupt()])
def test_an_exception_goes_through_a_span(make: Make, notes: Notes, error: BaseException) -> None:
    """It is recorded, and leaves as it came."""
    tracing = make()
    tracing.start()
    with pytest.raises(type(error)) as caught, tracing.span("fit"):
        raise error
    assert caught.value is error
    tracing.end("completed")
    fit = spans(notes)["fit"]
    assert fit["status"] == "ERROR"
    assert fit["status_message"].startswith(type(error).__name__)
    assert [event["name"] for event in fit["events"]] == ["exception"]
    assert fit["attributes"]["error.type"] == fit["events"][0]["attributes"]["exception.type"]


def test_odd_names_and_attributes(make: Make, notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    """Anything is text in the end, nothing raises, and the SDK has nothing to complain of."""

    class Silent:
        def __str__(self) -> str:
            raise RuntimeError

    tracing = make()
    odd: dict[str, Any] = {"": 1, "a": Silent(), "b": {1: 2}, "c": [1, None], "d": 2**70, "e": "\ud800"}
    tracing.start({**odd, 7: object})  # type: ignore[dict-item]
    with tracing.span("\ud800ä", name="n", self="s", **odd):
        tracing.event("", odd, severity="LOUD")
    tracing.end("completed", None)
    assert spans(notes)["?ä"]["attributes"] == {
        "name": "n",
        "self": "s",
        "_": 1,
        "a": "<Silent that cannot be printed>",
        "b": '{"1": 2}',
        "c": ["1", "null"],
        "d": str(2**70),
        "e": "?",
    }
    assert [one["severity"] for kind, one in notes if kind == EVENT and not one["name"]] == ["INFO"]
    assert caplog.text == ""


def test_five_thousand_events_and_limits_of_the_environment(
    make: Make, memory: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours are not cut, whatever limits and sampler others are given by the environment."""
    for name in ("SPAN_EVENT_COUNT", "SPAN_ATTRIBUTE_COUNT", "ATTRIBUTE_VALUE_LENGTH"):
        monkeypatch.setenv(f"OTEL_{name}_LIMIT", "1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing = make()
    tracing.start({"a": "long", "b": "text"})
    for number in range(5_000):
        tracing.event("tick", {"number": number, "text": "long"})
    tracing.end("completed")
    run = memory.get_finished_spans()[-1]
    assert len(run.events) == 5_002
    assert run.attributes is not None
    assert (run.attributes["a"], run.attributes["b"]) == ("long", "text")
    assert run.events[4_999].attributes == {"number": 4_998, "text": "long"}


def test_parent_from_the_environment(make: Make, notes: Notes) -> None:
    """TRACEPARENT comes first, and what cannot be read is as if it were not there."""
    trace_id, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    environ = {"TRACEPARENT": f"00-{trace_id}-{parent}-00", "TRACESTATE": "a=b", "BAGGAGE": "c=d"}
    tracing = make(environ=environ)
    tracing.start()
    assert tracing.traceparent is not None
    assert tracing.traceparent.startswith(f"00-{trace_id}-")
    tracing.end("completed")
    assert spans(notes)["training.run"]["parent_span_id"] == parent
    other = make(environ={"TRACEPARENT": "nonsense"})
    tracer = TracerProvider().get_tracer("users")
    with tracer.start_as_current_span("fit") as fit:
        other.start()
        other.end("completed")
        assert trace.get_current_span() is fit
    assert int(spans(notes)["training.run"]["parent_span_id"], 16) == fit.get_span_context().span_id


def test_users_spans_and_ours_nest(make: Make, notes: Notes) -> None:
    """A user's span is the parent of ours within it; events go to the innermost span."""
    tracing = make()
    tracing.start()
    tracing.begin_epoch(0)
    tracer = TracerProvider().get_tracer("users")
    with tracer.start_as_current_span("fit") as fit:
        tracing.event("training.warning")
        with tracing.span("inner"):
            assert trace.get_current_span() is not fit
        assert trace.get_current_span() is fit
    tracing.end("completed")
    found = spans(notes)
    assert int(found["inner"]["parent_span_id"], 16) == fit.get_span_context().span_id
    assert "training.warning" in {event.name for event in fit.events}  # type: ignore[attr-defined]
    assert [one["name"] for one in found["training.epoch"]["events"]] == []


def test_threads_have_the_epoch_as_parent(make: Make, notes: Notes) -> None:
    """A thread's context has none of our spans."""
    tracing = make()
    tracing.start()
    tracing.begin_epoch(0)

    def work(number: int) -> None:
        with tracing.span(f"load {number}"):
            tracing.event("loaded")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracing.end("completed")
    found = spans(notes)
    assert {found[f"load {n}"]["parent_span_id"] for n in range(8)} == {found["training.epoch"]["span_id"]}
    assert [len(found[f"load {n}"]["events"]) for n in range(8)] == [1] * 8


def test_a_generator_that_is_finalised_elsewhere(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """No token is detached where it does not belong, and what others have made current stays."""
    tracing = make()

    def epochs() -> Iterator[int]:
        for epoch in range(3):
            tracing.begin_epoch(epoch)
            try:
                with tracing.span("body"):
                    yield epoch
            finally:
                tracing.end_epoch()

    tracing.start()
    left: Any = epochs()
    next(left)
    thread = threading.Thread(target=left.close)
    thread.start()
    thread.join()
    assert not trace.get_current_span().is_recording()  # the ended one is still current here,
    for _ in epochs():  # and is nobody's parent
        break
    tracing.end("completed")
    assert caplog.records == []


def test_an_attribute_that_the_sdk_complains_of_does_not_wait_for_itself(
    make: Make, relayed: Callable[[RunSpans], None]
) -> None:
    """The SDK logs within the lock of a span; whoever makes an event of that log must not need the lock."""
    tracing = make()
    tracing.start()

    relayed(tracing)
    with tracing.span("odd") as span:
        thread = threading.Thread(target=span.set_attribute, args=("x", object()), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    tracing.end("completed")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking beside threads
def test_a_forked_child_does_nothing(make: Make, notes: Notes, memory: InMemorySpanExporter) -> None:
    """No note, no export, no thread, whatever is called on what it inherited."""
    tracing = make()
    tracing.start()
    tracing.begin_epoch(0)
    inside = tracing.span("across")
    with inside:
        known = len(notes)
        if (pid := os.fork()) == 0:
            code = 1
            try:
                with tracing.span("child"):
                    tracing.event("child")
                tracing.begin_step()
                trace.get_current_span().end()
                tracing.end_epoch()
                tracing.end("completed")
                tracing.abandon()
                inside.__exit__(None, None, None)
                code = 0 if len(notes) == known and threading.active_count() == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    tracing.end("completed")
    assert "across" in spans(notes)
    assert "child" not in {span.name for span in memory.get_finished_spans()}
