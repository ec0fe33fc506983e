"""Alert, Action and Level: what is told, in which order of urgency."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from entrenar_processors import Coordinates, Series
from entrenar_processors.alert import Action, Alert, Level

BARE = Alert("floor", "threshold", Level.ERROR, Action.PAUSE, "It fell", "7", 123)


def test_actions_by_what_they_take_from_the_training() -> None:
    """Words of the file, in this order; from reduce_lr on it is the loop that does it."""
    assert [str(one) for one in Action] == ["log", "notify", "reduce_lr", "pause", "stop"]
    assert [one.rank for one in Action] == [0, 1, 2, 3, 4]
    assert [one.is_for_loop for one in Action] == [False, False, True, True, True]


def test_levels() -> None:
    """By urgency; that of an action for which none is named."""
    assert [str(one) for one in Level] == ["INFO", "WARNING", "ERROR", "CRITICAL"]
    assert [one.rank for one in Level] == [0, 1, 2, 3]
    assert {str(one): str(Level.of(one)) for one in Action} == {
        "log": "INFO",
        "notify": "WARNING",
        "reduce_lr": "WARNING",
        "pause": "ERROR",
        "stop": "ERROR",
    }


def test_state() -> None:
    """An end at time 0 is an end."""
    assert (BARE.is_resolved, BARE.state) == (False, "firing")
    over = replace(BARE, ended_ns=0)
    assert (over.is_resolved, over.state) == (True, "resolved")


@pytest.mark.parametrize(
    ("at", "where"),
    [
        (Coordinates(), ""),
        (Coordinates(time_ns=5, seq=9), ""),
        (Coordinates(step=0), "step 0"),
        (Coordinates(batch=17, epoch=3, step=40, seq=1), "epoch 3, batch 17, step 40"),
    ],
)
def test_where(at: Coordinates, where: str) -> None:
    """What was reported of epoch, batch and step, 0 too."""
    assert replace(BARE, at=at).where == where


def test_what_is_not_known_is_left_out() -> None:
    """Of an alert without a series and numbers there is this."""
    assert BARE.as_dict() == {
        "name": "floor",
        "source": "threshold",
        "level": "ERROR",
        "action": "pause",
        "state": "firing",
        "summary": "It fell",
        "episode": "7",
        "started_ns": 123,
        "count": 1,
    }


def test_all_of_it_is_flat_text_and_numbers() -> None:
    """Zeros are known, times of samples are not repeated, and JSON can say what is not finite."""
    alert = replace(
        BARE,
        at=Coordinates(time_ns=9, epoch=0, batch=1, step=2, seq=3),
        series=Series.of("accuracy", {"split": "validation", "rank": 0}),
        value=math.nan,
        expected=0.0,
        score=-math.inf,
        peak=math.inf,
        count=4,
        ended_ns=456,
        factor=0.5,
        min_factor=0.125,
        labels={"team": "vision"},
        annotations={"runbook_url": "https://x"},
    )
    expected = BARE.as_dict() | {
        "state": "resolved",
        "ended_ns": 456,
        "metric": "accuracy",
        "tag.rank": "0",
        "tag.split": "validation",
        "epoch": 0,
        "batch": 1,
        "step": 2,
        "seq": 3,
        "value": "NaN",
        "expected": 0.0,
        "score": "-Infinity",
        "peak": "Infinity",
        "count": 4,
        "factor": 0.5,
        "min_factor": 0.125,
        "label.team": "vision",
        "annotation.runbook_url": "https://x",
    }
    assert alert.as_dict() == expected
    assert json.loads(json.dumps(alert.as_dict(), allow_nan=False)) == expected
    numbers = replace(BARE, value=1.0, expected=2.0, score=3.0, peak=4.0).as_dict()
    assert [numbers[name] for name in ("value", "expected", "score", "peak")] == [1.0, 2.0, 3.0, 4.0]
