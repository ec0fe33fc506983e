"""How far a training is, and how long it will take, by whatever was said of its length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Column, Series

from entrenar_otel.views.model import Progress
from entrenar_otel.views.progress import Plan, progress_of

from .conftest import column

LOSS = Series("loss")


def _without_epochs(steps: int) -> Column:
    rows = column(np.zeros(steps))
    return rows._replace(epoch=np.full_like(rows.epoch, -1), batch=np.full_like(rows.batch, -1))


def test_the_first_epoch_has_a_time_left_where_its_batches_are_known() -> None:
    """50 of 100 batches in the first of four epochs, one a second."""
    rows = {LOSS: column(np.zeros(50))}
    known = progress_of(rows, Plan(epochs=4, batches=100), 50, is_going=True)
    assert (known.done_ratio, known.left_seconds) == (0.125, 350.0)
    unknown = progress_of(rows, Plan(epochs=4), 50, is_going=True)
    assert (unknown.done_ratio, unknown.left_seconds, unknown.steps_per_second) == (0.0, None, 1.0)


def test_later_epochs_know_it_from_those_before() -> None:
    """150 steps of 400."""
    known = progress_of({LOSS: column(np.zeros(150))}, Plan(epochs=4), 100, is_going=True)
    assert (known.done_ratio, known.left_seconds) == (0.375, 250.0)


def test_a_run_without_epochs_counts_steps() -> None:
    """Of the only loop, or as the configuration says; without either there is a rate, and no time left."""
    rows = {LOSS: _without_epochs(25)}
    for plan in (Plan(batches=100), Plan(steps=100)):
        known = progress_of(rows, plan, 0, is_going=True)
        assert (known.done_ratio, known.left_seconds, known.steps) == (0.25, 75.0, 100)
    assert progress_of(rows, is_going=True) == Progress(24, steps_per_second=1.0)


def test_a_plan_that_was_passed_says_nothing() -> None:
    """The configuration meant something else by it."""
    known = progress_of({LOSS: _without_epochs(25)}, Plan(steps=20), 0, is_going=True)
    assert (known.done_ratio, known.left_seconds, known.steps) == (None, None, None)


def test_a_run_that_is_over_has_no_time_left() -> None:
    known = progress_of({LOSS: column(np.zeros(400))}, Plan(epochs=4), 100, is_going=False)
    assert (known.done_ratio, known.left_seconds) == (1.0, None)
    assert progress_of({}, Plan(epochs=3), is_going=True) == Progress(epochs=3)


@pytest.mark.parametrize(
    ("config", "loop", "plan"),
    [
        ('{"max_steps": 500}', {}, Plan(steps=500)),
        ('{"trainer": {"max-steps": -1, "num_train_epochs": 3.0}}', {}, Plan(epochs=3)),
        ('{"epochs": 5, "max_steps": 500}', {"epochs": 4, "batches": 10}, Plan(4, 10)),
        ('{"epochs": true, "total_steps": 1e300, "max_iters": "9"}', {}, Plan()),
        ("[1, 2]", {}, Plan()),
        ("no json", {}, Plan()),
    ],
)
def test_a_plan_is_read_from_the_configuration_and_the_loop(
    config: str, loop: dict[str, Any], plan: Plan
) -> None:
    """By the names that trainers use; what the loop said counts more."""
    assert Plan.of(config, **loop) == plan
