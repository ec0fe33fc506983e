"""Made-up runs to look at: three ordinary ones, and spans and events at chosen times."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED
from entrenar_otel.testing import recorded_run

START_NS = 1_790_000_000_000_000_000
TRACE = "cd" * 16


@pytest.fixture
def shown(cli: Callable[..., Any]) -> Callable[..., str]:
    """What a command that must succeed prints, without the spaces at the ends of lines."""

    def call(*arguments: str) -> str:
        answer = cli(*arguments)
        assert not answer.code
        return "\n".join(line.rstrip() for line in answer.out.splitlines())

    return call


@pytest.fixture
def runs(lake_of: Callable[..., None]) -> None:
    """`digits-7` and `digits-8`, completed; `other [/bold]`, stopped by a NaN loss."""
    lake_of("three-runs", _write_runs)


def _write_runs() -> None:
    _record("digits-7", model_id="digits-mlp", version="1.0.0", config={"lr": 0.1, "clip": math.inf})
    _record("digits-8")
    with pytest.raises(AndonStop):
        _record_nan("other [/bold]")


def _record(run_id: str, **settings: Any) -> None:
    with Monitor(run_id, lake="lake", quiet=True, **settings) as monitor:
        for epoch in range(2):
            for batch in range(10):
                monitor.log(loss=1 / (1 + 10 * epoch + batch), lr=0.1, epoch=epoch, batch=batch)
            monitor.log(accuracy=0.5 + epoch / 4, epoch=epoch, tags={"split": "validation"})


def _record_nan(run_id: str) -> None:
    with Monitor(run_id, lake="lake", quiet=True, model_id="m" * 30) as monitor:
        monitor.log(loss=1.0, big=123_456)
        monitor.log(loss=math.nan)


class Script:
    """Notes spans and events into a run, at seconds after the start."""

    def __init__(self, monitor: Monitor) -> None:
        self.note = recorded_run(monitor).recorder.note
        self.number = 0

    def span(
        self, name: str, at: float, took: float | None, parent: Any = None, *, status: str = "OK",
        message: str | None = None, events: tuple[Any, ...] = (), attributes: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        self.number += 1
        started = {
            "trace_id": TRACE, "span_id": f"{self.number:016x}", "name": name, "kind": "INTERNAL",
            "parent_span_id": parent and parent["span_id"], "start_ns": START_NS + round(at * 1e9),
            "scope": "test", "attributes": attributes or {}, "links": [],
        }  # fmt: skip
        self.note(SPAN_STARTED, started)
        if took is not None:
            end_ns = START_NS + round((at + took) * 1e9)
            end = {"end_ns": end_ns, "status": status, "status_message": message, "events": list(events)}
            self.note(SPAN_ENDED, started | end)
        return started

    def event(self, name: str, at: float, span: Any = None, severity: str = "INFO", **more: Any) -> None:
        ids = {"trace_id": TRACE, "span_id": span["span_id"]} if span else {}
        time = {"name": name, "time_ns": START_NS + round(at * 1e9), "severity": severity}
        self.note(EVENT, {**time, **ids, **more})


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Monitor], Script]:
    """Writes a script into a run, which then has no spans of its own among those that are counted."""
    monkeypatch.setattr("entrenar_otel.otel.traces.run_spans.RunSpans.start", lambda *_: None)
    return Script


@pytest.fixture
def script(scripted: Callable[[Monitor], Script]) -> Iterator[Script]:
    """The script of a run `night` that is open."""
    with Monitor("night", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
        yield scripted(monitor)


@pytest.fixture
def night(script: Script) -> Callable[..., None]:
    """Writes what happens in a night: three epochs, of which the last fails, and what was noted."""

    def write(took: float | None = 31) -> None:
        run = script.span("training.run", 0, took, attributes={"training.run.id": "night", "model": "m"})
        script.event("training.run.started", 0.01, run, body="on 4 GPUs")
        same = {"name": "training.finding", "time_ns": START_NS + 14_000_000_000, "attributes": {"z": 1}}
        for i in range(3):
            status, message = ("ERROR", "NaN in\ngradient") if i == 2 else ("OK", None)
            events = (same, {**same, "name": "only.here"}) if i == 1 else ()
            epoch = script.span(
                "training.epoch", 10 * i, 10, run, status=status, message=message, events=events,
                attributes={"epoch": i, "training.run.id": "night"},
            )  # fmt: skip
            if i == 1:
                script.event(
                    "training.finding", 14, epoch, "WARNING", epoch=1, step=140, body="loss is high",
                    attributes={"metric": "loss", "score": 4.123456789},
                )  # fmt: skip
                script.span("validation", 18, 1.5, epoch, attributes={"batches": 12})
        script.event("training.warning", 30.5, severity="CRITICAL", body="out of \x1b[31mmemory")

    return write
