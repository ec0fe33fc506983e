"""Unwatched: said once where nothing that is logged is watched."""

from __future__ import annotations

from typing import Any

import pytest
from entrenar_processors import Processor, Samples, SpikeDetector
from entrenar_processors.detectors.nonfinite import NonfiniteDetector

from entrenar_otel.andon.judging.unwatched import ENOUGH, Unwatched


def looked(*ticks: dict[str, int], processors: list[Processor] | None = None) -> list[str]:
    """What is said of ticks of so many rows by name."""
    said: list[str] = []
    unwatched = Unwatched(
        [SpikeDetector(), NonfiniteDetector(20)] if processors is None else processors, said.append
    )
    for tick in ticks:
        unwatched.look(
            Samples([b for name, n in tick.items() for b in Samples.from_columns({name: [1.0] * n}).blocks])
        )
    return said


def test_after_a_hundred_rows_of_names_that_nobody_knows() -> None:
    """With the names, and what to do; once."""
    assert looked({"reward": ENOUGH - 1}) == []
    (text,) = looked({"reward": ENOUGH - 1}, {"return": 1}, {"return": 500})
    assert "(reward, return)" in text
    assert '[monitor.spike] metrics = ["reward"]' in text


@pytest.mark.parametrize("name", ["train/loss", "val_acc", "grad_norm"])
def test_not_where_one_is_known(name: str) -> None:
    """However late it comes, and whatever is logged with it."""
    assert looked({"reward": 50}, {"reward": 50, name: 1}, {"reward": 500}) == []


def test_not_of_what_the_loop_measures_itself() -> None:
    """Nobody named those; and not where all detectors are off, which was asked for."""
    assert looked({"step_duration": 500, "data_wait": 500}) == []
    assert looked({"ab.clicks": 500, "ab.clicks.unit": 500}) == []  # an A/B test judges them
    assert looked({"reward": 500}, processors=[]) == []
    assert looked({"reward": 500}, processors=[NonfiniteDetector(20)]) == []


def test_many_names_are_shortened() -> None:
    """Eight of them are in the line."""
    (text,) = looked({f"m{i}": ENOUGH for i in range(11)})
    assert "(m0, m1, m10, m2, m3, m4, m5, m6 and 3 more)" in text


def test_a_run_says_it(judged: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Where messages go."""
    with judged() as one:
        for step in range(2 * ENOUGH):
            one.monitor.log(reward=1.0, step=step)
            if step % 50 == 0:
                one.tick()
    assert caplog.text.count("no detector watches any metric of this run (reward)") == 1
