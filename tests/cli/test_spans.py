"""The spans of a run as a tree beside a timeline: whole outputs, and what becomes of very many."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.cli.spans import Fold, folded, forest

Shown = Callable[..., str]

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


def test_a_tree_looks_like_this(night: Callable[..., None], shown: Shown) -> None:
    """Live, at 100 columns."""
    night()
    assert shown("spans") == SPANS


def test_the_sign_of_life_is_no_line_of_its_own(shown: Shown) -> None:
    """A real run has that span for other backends: a person sees the event of the same name."""
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    lines = shown("spans").splitlines()
    assert lines[0] == "r  1 span, 3 events"  # and what is installed
    assert sum("training.run.started" in line for line in lines) == 1
    assert "training.run.started" in {span["name"] for span in json.loads(shown("spans", "--json"))}


def test_an_open_span_says_so(night: Callable[..., None], shown: Shown) -> None:
    """Its bar goes on to the right edge."""
    night(None)
    (line,) = [line for line in shown("spans").splitlines() if line.startswith("training.run ")]
    assert re.search(r"\+0 s +open +━+▸ +1 event", line)


def test_no_line_is_too_wide(
    night: Callable[..., None], script: Any, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with deep trees and long names."""
    night()
    parent = None
    for depth in range(12):
        name = "deep " * (depth % 5 + 1)
        parent = script.span(name, depth, 20, parent, attributes={"long": "x" * 300})
    for width in (60, 80, 100, 130, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        for command in ("spans", "events"):
            assert max(map(len, shown(command).splitlines())) <= width


def test_rows_as_json(night: Callable[..., None], shown: Shown) -> None:
    """Attributes are objects at every depth; an event of both kinds is there once."""
    night()
    spans = json.loads(shown("spans", "--json"))
    assert [(one["name"], one["end_time"] is None) for one in spans][:2] == [
        ("training.run", False), ("training.epoch", False)]  # fmt: skip
    second = next(one for one in spans if one["attributes"].get("epoch") == "1")
    assert [one["name"] for one in second["events"]] == ["only.here", "training.finding"]
    assert second["events"][0]["attributes"] == {"z": "1"}


def test_many_siblings_and_events_are_folded(script: Any, shown: Shown) -> None:
    """The first and last five; the most severe of the events stay; failures within are told."""
    run = script.span("run", 0, 131)
    for i in range(130):
        status = "ERROR" if i in (40, 41) else "OK"
        script.span("epoch", i, 1, run, status=status, attributes={"epoch": i})
    script.span("other", 130.5, 0.1, run)
    for i in range(25):
        script.event("tick", i / 100, run, "ERROR" if i == 24 else "INFO", attributes={"i": i})
    lines = shown("spans").splitlines()[4:]
    assert [int(n) for line in lines if (n := (re.findall(r"epoch=(\d+)", line) or [""])[0])] == [
        *range(5), *range(125, 130)]  # fmt: skip
    (fold,) = [line for line in lines if "more epoch" in line]
    assert re.match(r"├─ … 120 more epoch +2m .*1 s each  2 failed", fold)
    ticks = [int(n) for line in lines if (n := (re.findall(r" i=(\d+)", line) or [""])[0])]
    assert ticks == [*range(19), 24]
    assert sum("… and 5 more" in line for line in lines) == 1


def test_odd_parents_and_folds() -> None:
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


def test_a_tree_per_process(scripted: Callable[[Monitor], Any], shown: Shown) -> None:
    """A run without spans says so; attempts and ranks have a tree each."""
    for _ in range(2):
        with Monitor("night", lake="lake", quiet=True) as monitor:
            monitor.log(loss=1.0)
    assert shown("spans") == "night  0 spans\nno spans were recorded"
    assert shown("spans", "--json") == "[]"
    for _ in range(2):
        with Monitor("night", lake="lake", quiet=True) as monitor:
            scripted(monitor).span("run", 0, 1)
    assert re.findall("attempt.*", shown("spans")) == ["attempt 3, rank 0", "attempt 4, rank 0"]
