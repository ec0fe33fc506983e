"""Names whose values were on a device before: their calls are as good as those that take the careful path."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from entrenar_otel import interruption
from entrenar_otel.errors import BadInput
from entrenar_otel.recording.device.late_form import MAX_FORMS
from tests.recording.device.devices import Array


class Split(enum.StrEnum):
    TRAIN = "train"


class Odd(enum.Enum):
    TRAIN = "train"


@pytest.fixture
def known(recorder: Any) -> Any:
    """A recorder that has learnt loss, lr; it has one row of them."""
    recorder.log(loss=Array(0.0, looks=5), lr=0.0)
    recorder.log(loss=Array(0.0, looks=1), lr=0.0)
    assert recorder.settle(60.0)
    assert len(recorder.rows()) == 2
    return recorder


def careful_calls(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What takes the careful path from here on."""
    calls: list[Any] = []
    record = recorder._record

    def noted(*given: Any) -> Any:
        calls.append(given)
        return record(*given)

    monkeypatch.setattr(recorder, "_record", noted)
    return calls


@pytest.mark.parametrize("way", ["log", "bind", "tags", "mapping"])
def test_only_the_first_call_takes_the_careful_path(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    bound = recorder.bind(["loss", "lr"], None)
    calls: dict[str, Callable[[Any], None]] = {
        "log": lambda loss: recorder.log(loss=loss, lr=0.5),
        "bind": lambda loss: bound(loss, 0.5),
        "tags": lambda loss: recorder.log(loss=loss, lr=0.5, tags={"split": "train"}),
        "mapping": lambda loss: recorder.log({"loss": loss, "lr": 0.5}),
    }
    careful = careful_calls(recorder, monkeypatch)
    given = [Array(0.0, looks=5), Array(1.0).done(), 2.0, np.float32(3.0), 4, True, Array(6.0, looks=5)]
    for step, value in enumerate(given):
        recorder.set_coordinates(epoch=1, batch=step, step=step)
        calls[way](value)
    assert recorder.settle(60.0)
    assert len(careful) == 1
    rows = recorder.rows()
    assert [row[:3] for row in rows] == [(1, step, step) for step in range(len(given))]
    assert [[*row[3].values()] for row in rows] == [[float(x), 0.5] for x in (0, 1, 2, 3, 4, 1, 6)]


def test_no_call_looks_through_the_signal_handlers(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes a hundred times as long as a call: what the fast path refuses, it refuses in C."""
    before, after = recorder.bind(["a"], None), recorder.bind(["b"], None)
    before(0.0)
    for loss in (Array(0.0, looks=3), Array(0.0, looks=3)):
        recorder.log(a=loss)
        recorder.log({"b": loss})
        before(loss)
        after(loss)
    looked: list[int] = []
    handlers = interruption._handlers
    monkeypatch.setattr(interruption, "_handlers", lambda: looked.append(1) or handlers())
    for value in (Array(0.0, looks=3), Array(1.0).done(), 2.0):
        recorder.log(a=value)
        recorder.log({"b": value})
        before(value)
        after(value)
    assert recorder.settle(60.0)
    assert not looked


def test_other_names_stay_on_the_fast_path(known: Any) -> None:
    bound = known.bind(["c"], None)
    for _ in range(2):
        known.log(accuracy=1.0)
        bound(1.0)
    known.without_slow_path()
    known.log(accuracy=2.0)
    bound(2.0)
    assert known.values()[-2:] == [{"accuracy": 2.0}, {"c": 2.0}]


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_no_number_is_refused_here_too(
    make: Callable[..., Any], caplog: pytest.LogCaptureFixture, strict: bool
) -> None:
    recorder = make(raise_on_bad_value=strict)
    for looks in (2, 2):
        recorder.log(loss=Array(0.0, looks=looks), lr=0.1)
    two = Array(1.0, error=TypeError("only one element")).done()
    two.size = 2
    for given in ({"loss": two, "lr": 0.2}, {"loss": 0.5, "lr": two}, {"loss": two, "lr": two}):
        if strict:
            with pytest.raises(BadInput, match="must be one number"):
                recorder.log(**given)
        else:
            recorder.log(**given)
    assert recorder.settle(60.0)
    assert recorder.values()[2:] == [{"lr": 0.2}, {"loss": 0.5}]
    assert recorder.bad == 4
    assert len(caplog.messages) == (0 if strict else 2)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({"epoch": 3, "batch": 4, "step": 5}, (3, 4, 5)),
        ({"epoch": np.int64(3), "batch": 4.5, "step": True}, (3, 4, 1)),
        ({"epoch": -1, "batch": 2**31, "step": "5"}, (-1, -1, -1)),
        ({"step": 2**63 - 1}, (-1, -1, 2**63 - 1)),
    ],
)
def test_coordinates_are_looked_at(known: Any, place: dict[str, Any], expected: tuple[int, int, int]) -> None:
    known.log(loss=Array(1.0, looks=2), lr=0.1, **place)
    assert known.settle(60.0)
    assert known.rows()[2] == (*expected, {"loss": 1.0, "lr": 0.1})


def test_tags_that_are_equal_but_not_the_same_text_are_told_apart(recorder: Any) -> None:
    tags: list[dict[Any, Any]] = [
        {"a": "1"},
        {"a": 1},
        {"a": True},
        {"a": 1.0},
        {"a": Split.TRAIN},
        {"a": Odd.TRAIN},
        {"a": [1]},
        {1: "x"},
        {},
    ]
    for _ in range(3):
        for one in tags:
            recorder.log(x=Array(1.0, looks=2), tags=one)
    assert recorder.settle(60.0)
    named = [name for row in recorder.rows() for name in row[3]]
    texts = ['{a="1"}'] * 2 + ['{a="True"}', '{a="1.0"}', '{a="train"}', '{a="Odd.TRAIN"}', '{a="[1]"}']
    assert named == [f"x{text}" for text in [*texts, '{1="x"}', ""]] * 3


def test_what_is_nested_under_a_known_name_is_unfolded(known: Any) -> None:
    known.log(loss={"a": Array(1.0, looks=2)}, lr=0.1)
    known.log({"loss": Array(2.0, looks=2)}, lr=0.1)
    assert known.settle(60.0)
    assert known.values()[2:] == [{"loss/a": 1.0, "lr": 0.1}, {"loss": 2.0, "lr": 0.1}]


def test_a_bad_loss_stops_and_a_held_line_obeys(known: Any) -> None:
    known.log(loss=math.nan, lr=0.1, step=1)
    known.log(loss=Array(math.inf, looks=2), lr=0.1, step=2)
    assert known.settle(60.0)
    assert [(str(value), *place) for value, *place in known.stops] == [
        ("nan", None, None, 1),
        ("inf", None, None, 2),
    ]
    obeyed: list[int] = []
    known._on_held = lambda: obeyed.append(1)
    known.hold()
    known.log(loss=Array(1.0, looks=2), lr=0.1)
    assert obeyed == [1]
    assert known.settle(60.0)
    assert known.values()[-1] == {"loss": 1.0, "lr": 0.1}


def test_after_the_end_it_is_dropped_and_counted(known: Any, caplog: pytest.LogCaptureFixture) -> None:
    known.end("completed")
    known.log(loss=Array(1.0, looks=2), lr=0.1)
    assert known.dropped == 2
    assert "log() after the run ended (completed)" in caplog.messages[0]


def test_full_segments_are_followed_by_others(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from entrenar_otel.recording.segment import Segment

    monkeypatch.setattr(Segment.create.__func__, "__defaults__", (64 << 10,))  # type: ignore[attr-defined]
    recorder = make()
    for step in range(2000):
        recorder.log(loss=Array(step, looks=2), step=step)
    assert recorder.settle(60.0)
    assert len(recorder.segments) > 1
    assert [(row[2], row[3]["loss"]) for row in recorder.rows()] == [(i, float(i)) for i in range(2000)]


def test_more_names_than_are_kept_are_all_recorded(recorder: Any) -> None:
    for _ in range(2):
        for i in range(MAX_FORMS + 10):
            recorder.log({f"m{i}": Array(i, looks=2)})
    assert recorder.settle(60.0)
    assert recorder.values() == [{f"m{i}": float(i)} for i in range(MAX_FORMS + 10)] * 2


def test_what_fails_in_us_is_counted_and_stays_here(
    known: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("entrenar_otel.errors._strict", False)
    monkeypatch.setattr("entrenar_otel.errors.failures", Counter())
    monkeypatch.setattr(known, "_add_late", None)
    known.log(loss=Array(1.0, looks=2), lr=0.1)
    assert known.dropped == 2
    assert "monitoring failed in log (TypeError" in caplog.messages[0]
