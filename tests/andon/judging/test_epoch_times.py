"""Epoch times: how much of an epoch's steps was data wait, and when that is told."""

from __future__ import annotations

from typing import Any

import pytest
from entrenar_processors import Finding, Samples, Series
from entrenar_processors.config.models import DataWaitSettings

from entrenar_otel.andon.judging.epoch_times import EpochTimes

Events = list[tuple[str, dict[str, Any], str, Any]]


def watch(**settings: Any) -> tuple[EpochTimes, Events]:
    events: Events = []

    def event(name: str, attributes: dict[str, Any], *, body: str, at: Any) -> None:
        events.append((name, attributes, body, at))

    return EpochTimes(DataWaitSettings(**settings), event), events


def steps(count: int, wait: float, *epochs: int, at: int = 0) -> Samples:
    """Steps of a second, of which each waits so long, `count` in each of these epochs; none: no epochs."""
    places = [epoch for epoch in epochs or (-1,) for _ in range(count)]
    n = len(places)
    columns = {"step_duration": [1.0] * n, "data_wait": [wait] * n}
    return Samples.from_columns(columns, epoch=places, seq=range(at, at + n))


def texts(found: list[Finding]) -> list[str]:
    return [("resolved: " if one.resolved else "") + one.text for one in found]


def test_an_epoch_is_recorded_as_the_next_one_begins_and_the_last_at_the_end() -> None:
    """From several ticks, and ticks with several epochs; on the epoch's own span."""
    made, events = watch()
    assert made.update(steps(30, 0.1, 0)) == []
    assert made.update(steps(30, 0.1, 0, 1, at=30)) == []
    assert [(name, body, at) for name, _, body, at in events] == [
        ("training.epoch.data_wait", "data wait 10% of step time in epoch 0", (0, None, None))
    ]
    assert made.end() == []
    assert events[1][1] == {
        "training.epoch": 1,
        "training.epoch.steps": 30,
        "training.epoch.step_seconds": 30.0,
        "training.epoch.data_wait_seconds": pytest.approx(3.0),
        "training.epoch.data_wait_ratio": pytest.approx(0.1),
    }
    assert made.end() == []
    assert len(events) == 2


def test_what_waits_too_long_is_found_in_each_epoch_where_it_is_only_logged() -> None:
    made, _ = watch()
    found = [*made.update(steps(40, 0.43, 0, 1)), *made.update(steps(40, 0.1, 2, at=80)), *made.end()]
    assert texts(found) == [
        "data wait is 43% of the step time in epoch 0 (17.2 s of 40 s, 40 steps)",
        "data wait is 43% of the step time in epoch 1 (17.2 s of 40 s, 40 steps)",
    ]
    assert [(one.value, one.expected, one.at.epoch) for one in found] == [
        (pytest.approx(0.43), 0.3, 0),
        (pytest.approx(0.43), 0.3, 1),
    ]


def test_who_is_told_is_told_once_and_when_it_is_over() -> None:
    made, _ = watch(action="notify", max_ratio=0.2)
    found = [*made.update(steps(40, 0.25, 0, 1)), *made.update(steps(40, 0.1, 2, 3, at=80)), *made.end()]
    assert texts(found) == [
        "data wait is 25% of the step time in epoch 0 (10 s of 40 s, 40 steps)",
        "resolved: data wait is 10% of the step time in epoch 2 (4 s of 40 s, 40 steps)",
    ]


def test_a_run_without_epochs_is_looked_at_as_it_goes() -> None:
    """After 1,000 steps, and each time they have doubled; it has no event of an epoch."""
    made, events = watch()
    found = [len(made.update(steps(250, 0.5, at=250 * tick))) for tick in range(16)]
    assert found == [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert len(made.end()) == 1
    assert events == []


@pytest.mark.parametrize(
    "settings", [{"enabled": False}, {"min_steps": 41}, {"max_ratio": 0.9}], ids=["off", "few", "less"]
)
def test_what_is_not_judged_is_recorded(settings: dict[str, Any]) -> None:
    made, events = watch(**settings)
    made.update(steps(40, 0.5, 0))
    assert (made.end(), len(events)) == ([], 1)


def test_only_steps_of_the_training_count() -> None:
    made, events = watch()
    for names in (("loss", "data_wait"), ("step_duration", "loss")):
        made.update(Samples.from_columns(dict.fromkeys(names, [1.0] * 50), epoch=[0] * 50))
    validation = [Series.of(name, {"split": "validation"}) for name in ("step_duration", "data_wait")]
    made.update(Samples.from_columns(dict.fromkeys(validation, [1.0] * 50), epoch=[0] * 50))
    assert (made.end(), events) == ([], [])
