"""The message of a stop: what happened and where, what came before, where to look, what to do."""

from __future__ import annotations

import math
from typing import Any

import pytest
from entrenar_processors import Coordinates, Series
from entrenar_processors.alert import Action, Alert, Level

AT = Coordinates(epoch=2, batch=5, step=40)


def stop(source: str, value: float, series: Series | None = None) -> Alert:
    """An alert that stops."""
    return Alert(
        "n", source, Level.ERROR, Action.STOP, "It is bad", "1", 0, AT, series or Series("loss"), value
    )


def test_a_value_that_is_not_finite(judged: Any) -> None:
    """With the last finite ones of the same series, of this rank, the latest last."""
    tagged = Series.of("loss", {"split": "train"})
    with judged() as one:
        for value in (4.0, 3.0, 2.0, 1.0 / 3.0):
            one.monitor.log(loss=value, tags={"split": "train"})
        one.monitor.log(loss=9.0)
        text = one.run.pipeline.context.stop_message(stop("nonfinite", math.nan, tagged))
        lake = one.monitor.lake.url
        assert text == (
            "It is bad at epoch 2, batch 5, step 40. The last finite values were 3, 2, 0.333333. "
            f"The sample is recorded. Look at it with `entrenar-otel show kit --lake {lake}`; "
            "then lower the learning rate, clip gradients, or look for bad data in that batch."
        )


def test_a_series_that_was_never_finite(judged: Any) -> None:
    """Nothing is said about what came before."""
    with judged() as one:
        one.monitor.log(loss=1.0)
        text = one.run.pipeline.context.stop_message(stop("nonfinite", math.inf, Series("other")))
        assert "step 40. The sample is recorded. Look at it with" in text


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("threshold", "then find out why it crossed the limit, or change the limit in renacer.toml."),
        ("control", "then start it again when you are ready."),
        ("processor", "then see what changed."),
    ],
)
def test_a_finite_value(judged: Any, source: str, advice: str) -> None:
    """Its advice is by what stopped the run; of finite values none before are looked for."""
    with judged() as one:
        text = one.run.pipeline.context.stop_message(stop(source, 0.5))
        assert text.startswith(
            "It is bad at epoch 2, batch 5, step 40. Look at it with `entrenar-otel show kit"
        )
        assert text.endswith(advice)


def test_several_ranks(judged: Any) -> None:
    """It says whose it is."""
    with judged(rank=1, world_size=4) as one:
        text = one.run.pipeline.context.stop_message(stop("spike", 0.5))
        assert text.endswith("This is rank 1 of 4.")
