"""The events of a run as a table, and what of their attributes is shown."""

from __future__ import annotations

import json
from collections.abc import Callable

from entrenar_otel import Monitor
from entrenar_otel.cli.events import facts, what_of

Shown = Callable[..., str]

EVENTS = """\
time (UTC)    severity  name                  what                                    span
14:13:20.010  info      training.run.started  on 4 GPUs                               training.run
14:13:34.000  warning   training.finding      loss is high  epoch=1 step=140          training.epoch
                                              metric=loss score=4.123
14:13:50.500  critical  training.warning      out of ?[31mmemory"""


def test_a_table_looks_like_this(night: Callable[..., None], shown: Shown) -> None:
    """Live, at 100 columns; `-n` takes the newest."""
    night()
    assert shown("events", "night") == EVENTS
    assert shown("events", "-n", "1").splitlines()[-1].split() == EVENTS.splitlines()[-1].split()


def test_rows_as_json(night: Callable[..., None], shown: Shown) -> None:
    """The newest, the newest last, with attributes as text."""
    night()
    events = json.loads(shown("--json", "events", "-n", "2"))
    assert [one["severity"] for one in events] == ["WARNING", "CRITICAL"]
    assert events[0]["attributes"] == {"metric": "loss", "score": "4.123456789"}


def test_a_run_without_events(scripted: object, shown: Shown) -> None:
    """It says so."""
    with Monitor("night", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    assert shown("events") == "no events were recorded"
    assert shown("events", "--json") == "[]"


def test_telling_attributes() -> None:
    """Known ones are left out, numbers are short, nothing moves the cursor."""
    assert facts({"b": "1", "training.epoch": "3", "x": "null", "t": "a b"}) == 'epoch=3 b=1 t="a b"'
    assert facts({"epoch": 3, "n": "1281167", "v": "-0.00012345678"}, {"training.epoch": "3"}) == (
        "n=1,281,167 v=-0.0001235")  # fmt: skip
    assert facts({"t\x1b[0m": "a\n\tb\x1b[0m\u202e"}) == 't?[0m="a b?[0m?"'


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
