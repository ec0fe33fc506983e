"""The commands `spans` and `events`: whole outputs of a made-up run, and what becomes of very much."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.cli.events import clean, events_table, facts, what_of
from entrenar_otel.cli.spans import Fold, folded, forest
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED
from entrenar_otel.testing import recorded_run

START = 1_790_000_000_000_000_000
TRACE = "cd" * 16


class Script:
    """Notes spans and events at seconds after the start."""

    def __init__(self, monitor: Monitor) -> None:
        self.note = recorded_run(monitor).recorder.note
        self.number = 0

    def span(
        self, name: str, at: float, took: float | None, parent: Any = None, status: str = "OK",
        message: str | None = None, events: tuple[Any, ...] = (), **attributes: Any,
    ) -> dict[str, Any]:  # fmt: skip
        self.number += 1
        started = {
            "trace_id": TRACE, "span_id": f"{self.number:016x}", "name": name, "kind": "INTERNAL",
            "parent_span_id": parent and parent["span_id"], "start_ns": START + round(at * 1e9),
            "scope": "test", "attributes": attributes, "links": [],
        }  # fmt: skip
        self.note(SPAN_STARTED, started)
        if took is not None:
            end = {"end_ns": START + round((at + took) * 1e9), "status": status, "status_message": message}
            self.note(SPAN_ENDED, started | end | {"events": list(events)})
        return started

    def event(self, name: str, at: float, span: Any = None, severity: str = "INFO", **more: Any) -> None:
        ids = {"trace_id": TRACE, "span_id": span["span_id"]} if span else {}
        time = {"name": name, "time_ns": START + round(at * 1e9), "severity": severity}
        self.note(EVENT, {**time, **ids, **more})


@pytest.fixture(autouse=True)
def no_spans_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own spans and events would be among those that are counted here."""
    monkeypatch.setattr("entrenar_otel.otel.traces.run_spans.RunSpans.start", lambda *_: None)


@pytest.fixture
def script() -> Iterator[Script]:
    with Monitor("night", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
        yield Script(monitor)


@pytest.fixture
def cli(cli: Callable[..., Any]) -> Callable[..., str]:
    """What a command that must succeed prints, without the spaces at the ends of lines."""

    def call(*arguments: str) -> str:
        answer = cli(*arguments)
        assert not answer.code
        return "\n".join(line.rstrip() for line in answer.out.splitlines())

    return call


def record(script: Script, took: float | None = 31) -> None:
    run = script.span("training.run", 0, took, None, **{"training.run.id": "night", "model": "m"})
    script.event("training.run.started", 0.01, run, body="on 4 GPUs")
    same = {"name": "training.finding", "time_ns": START + 14_000_000_000, "attributes": {"z": 1}}
    for i in range(3):
        failed = {"status": "ERROR", "message": "NaN in\ngradient"} if i == 2 else {}
        events = (same, {**same, "name": "only.here"}) if i == 1 else ()
        tags = {"epoch": i, "training.run.id": "night"}
        epoch = script.span("training.epoch", 10 * i, 10, run, events=events, **failed, **tags)
        if i == 1:
            script.event(
                "training.finding", 14, epoch, "WARNING", epoch=1, step=140, body="loss is high",
                attributes={"metric": "loss", "score": 4.123456789},
            )  # fmt: skip
            script.span("validation", 18, 1.5, epoch, batches=12)
    script.event("training.warning", 30.5, severity="CRITICAL", body="out of \x1b[31mmemory")


SPANS = """\
night  5 spans, 3 events, 1 failed

span                        start   took
training.run                 +0 s   31 s  ━━━━━━━━━━━━━━  1 event  run.id=night model=m
├─ training.epoch            +0 s   10 s  ━━━━━           epoch=0
├─ ◆ training.run.started  +10 ms         ◆               on 4 GPUs
├─ training.epoch           +10 s   10 s      ━━━━━━      2 events  epoch=1
│  ├─ ◆ training.finding    +14 s               ◆         loss is high  step=140  metric=loss score…
│  ├─ ◆ only.here           +14 s               ◆         z=1
│  └─ validation            +18 s  1.5 s          ━       batches=12
└─ training.epoch           +20 s   10 s           ━━━━━  ✗ NaN in gradient  epoch=2"""

EVENTS = """\
time (UTC)    severity  name                  what                                    span
14:13:20.010  info      training.run.started  on 4 GPUs                               training.run
14:13:34.000  warning   training.finding      loss is high  epoch=1 step=140          training.epoch
                                              metric=loss score=4.123
14:13:50.500  critical  training.warning      out of [31mmemory"""


def test_they_look_like_this(script: Script, cli: Callable[..., str]) -> None:
    """Live, at 100 columns; nothing is wider than the terminal at any width."""
    record(script)
    assert cli("spans") == SPANS
    assert cli("events", "night") == EVENTS
    assert cli("events", "-n", "1").splitlines()[-1].split() == EVENTS.splitlines()[-1].split()


def test_an_open_span_says_so(script: Script, cli: Callable[..., str]) -> None:
    """Its bar goes on to the right edge."""
    record(script, None)
    (line,) = [line for line in cli("spans").splitlines() if line.startswith("training.run ")]
    assert re.search(r"\+0 s +open +━+▸ +1 event", line)


def test_no_line_is_too_wide(
    script: Script, cli: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with deep trees and long names."""
    record(script)
    parent = None
    for depth in range(12):
        parent = script.span("deep " * (depth % 5 + 1), depth, 20, parent, long="x" * 300)
    for width in (60, 80, 100, 130, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        for command in ("spans", "events"):
            assert max(map(len, cli(command).splitlines())) <= width


def test_rows_as_json(script: Script, cli: Callable[..., str]) -> None:
    """Attributes are objects at every depth; an event of both kinds is there once."""
    record(script)
    spans = json.loads(cli("spans", "--json"))
    assert [(one["name"], one["end_time"] is None) for one in spans][:2] == [
        ("training.run", False), ("training.epoch", False)]  # fmt: skip
    second = next(one for one in spans if one["attributes"].get("epoch") == "1")
    assert [one["name"] for one in second["events"]] == ["only.here", "training.finding"]
    assert second["events"][0]["attributes"] == {"z": "1"}
    events = json.loads(cli("--json", "events", "-n", "2"))
    assert [one["severity"] for one in events] == ["WARNING", "CRITICAL"]
    assert events[0]["attributes"] == {"metric": "loss", "score": "4.123456789"}


def test_many_siblings_and_events_are_folded(script: Script, cli: Callable[..., str]) -> None:
    """The first and last five; the most severe of the events stay; failures within are told."""
    run = script.span("run", 0, 131)
    for i in range(130):
        script.span("epoch", i, 1, run, status="ERROR" if i in (40, 41) else "OK", epoch=i)
    script.span("other", 130.5, 0.1, run)
    for i in range(25):
        script.event("tick", i / 100, run, "ERROR" if i == 24 else "INFO", attributes={"i": i})
    lines = cli("spans").splitlines()[4:]
    assert [int(n) for line in lines if (n := (re.findall(r"epoch=(\d+)", line) or [""])[0])] == [
        *range(5), *range(125, 130)]  # fmt: skip
    (fold,) = [line for line in lines if "more epoch" in line]
    assert re.match(r"├─ … 120 more epoch +2:00 .*1 s each  2 failed", fold)
    ticks = [int(n) for line in lines if (n := (re.findall(r" i=(\d+)", line) or [""])[0])]
    assert ticks == [*range(19), 24]
    assert sum("… and 5 more" in line for line in lines) == 1


def test_several_processes_and_odd_parents() -> None:
    """A parent that is not there makes a root; a circle of parents hides nobody."""

    def row(span: str, parent: str | None, name: str = "n") -> dict[str, Any]:
        return {"trace_id": "t", "span_id": span, "parent_span_id": parent, "name": name, "events": []}

    roots = forest([row("a", "b"), row("b", "a"), row("c", "gone"), row("d", "c"), row("e", "e")])
    assert {node.row["span_id"] for node in roots} == {"a", "b", "c", "e"}
    assert [node.row["span_id"] for node in roots[2].children] == ["d"]
    nodes = forest([row(f"{i}", None) for i in range(30)])
    assert list(folded(nodes)) == nodes
    more = list(folded(forest([row(f"{i}", None) for i in range(31)])))
    assert [len(one.nodes) for one in more if isinstance(one, Fold)] == [21]


def test_a_run_without_any(cli: Callable[..., str]) -> None:
    """It says so; attempts and ranks of a run have a tree each."""
    for _ in range(2):
        with Monitor("night", lake="lake", quiet=True) as monitor:
            monitor.log(loss=1.0)
    assert cli("spans") == "night  0 spans\nno spans were recorded"
    assert cli("events") == "no events were recorded"
    assert cli("spans", "--json") == cli("events", "--json") == "[]"
    for _ in range(2):
        with Monitor("night", lake="lake", quiet=True) as monitor:
            Script(monitor).span("run", 0, 1)
    assert re.findall("attempt.*", cli("spans")) == ["attempt 3, rank 0", "attempt 4, rank 0"]


def test_telling_attributes() -> None:
    """Known ones are left out, numbers are short, nothing moves the cursor."""
    assert facts({"b": "1", "training.epoch": "3", "x": "null", "t": "a b"}) == 'epoch=3 b=1 t="a b"'
    assert facts({"epoch": 3, "n": "1281167", "v": "-0.00012345678"}, {"training.epoch": "3"}) == (
        "n=1,281,167 v=-0.0001235")  # fmt: skip
    assert clean("a\n\tb\x1b[0m\u202e") == "a b [0m"
    assert "no events" in str(events_table([], {}))


def test_an_event_is_told_once() -> None:
    """Its body is not said again as an attribute; numbers for machines stay in the JSON."""
    event = {
        "body": "Spike: loss is 3",
        "epoch": 1,
        "attributes": {
            "summary": "Spike: loss is 3",
            "epoch": "1",
            "score": "3.5",
            "started_ns": "1796",
            "seq": "4",
            "tags": "{}",
        },
    }
    assert str(what_of(event)) == "Spike: loss is 3  epoch=1  score=3.5"
    assert str(what_of({"attributes": {"summary": "x"}})) == "summary=x"


@pytest.mark.parametrize("command", ["spans", "events"])
def test_help_has_an_example(command: str, cli: Callable[..., str]) -> None:
    """As every command's."""
    assert re.search(rf"Examples?:\s+entrenar-otel {command}", cli(command, "-h"))
