"""Progress: how far a training is, and how long it will take, from what it did and what it meant to do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_processors.metric_names import VALIDATION, split_of
from entrenar_processors.samples import Column, Series

from entrenar_otel.views.model import Progress

#: The rate is that of the latest so many steps.
_RATE_STEPS = 200
#: What a configuration calls the number of steps and of epochs of a training.
_STEPS = frozenset(
    {
        *("max_steps", "total_steps", "num_steps", "train_steps", "training_steps", "num_training_steps"),
        *("max_iters", "max_iterations", "num_iterations", "iterations", "total_iterations"),
    }
)
_EPOCHS = frozenset(
    {"epochs", "num_epochs", "max_epochs", "n_epochs", "num_train_epochs", "total_epochs", "nb_epochs"}
)
_DEPTH = 4
_MOST = 10**15


@dataclass(frozen=True)
class Plan:
    """How much there will be, where somebody said so: the loop, or the configuration."""

    epochs: int | None = None
    #: Of an epoch; where there are no epochs, of the run.
    batches: int | None = None
    steps: int | None = None

    @classmethod
    def of(cls, config: str, epochs: int | None = None, batches: int | None = None) -> Plan:
        """Of a run record's configuration, and of what the loop said, which counts more.

        >>> Plan.of('{"trainer": {"max_steps": 5000, "max_epochs": -1}}')
        Plan(epochs=None, batches=None, steps=5000)
        """
        try:
            known = list(_numbers(json.loads(config)))
        except (ValueError, RecursionError):
            known = []
        steps = next((value for name, value in known if name in _STEPS), None)
        named = next((value for name, value in known if name in _EPOCHS), None)
        return cls(named if epochs is None else epochs, batches, None if epochs is not None else steps)


def _numbers(config: Any, depth: int = 0) -> Iterator[tuple[str, int]]:
    """The names and values of whole numbers above 0, the outermost first."""
    if not isinstance(config, dict):
        return
    for name, value in config.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and 0 < value < _MOST and value == int(value):
            yield str(name).lower().replace("-", "_"), int(value)
    for value in config.values() if depth < _DEPTH else ():
        yield from _numbers(value, depth + 1)


def progress_of(
    curves: Mapping[Series, Column], plan: Plan | None = None, batches: int = 0, *, is_going: bool
) -> Progress:
    """How far the training is, and how long it will take at the pace of its latest steps.

    Args:
        curves: of each series the points, or some of them and the last.
        plan: how much there will be.
        batches: how many an epoch has had at most up to now.
        is_going: whether more is to come.
    """
    plan = plan or Plan()
    training = [rows for series, rows in curves.items() if split_of(series) != VALIDATION and len(rows.step)]
    rows = max(training, key=lambda r: (int((r.batch >= 0).any()), len(r.step)), default=None)
    if rows is None:
        return Progress(epochs=plan.epochs)
    step = int(rows.step.max())
    epoch = int(rows.epoch.max()) if (rows.epoch >= 0).any() else None
    rate = rate_of(rows)
    total = plan.batches if epoch is None and plan.steps is None else plan.steps
    done = left = None
    if total is not None and step < total:
        done = (step + 1) / total
        left = (total - step - 1) / rate if is_going and rate else None
    elif total is None and epoch is not None and plan.epochs:
        done, share = _share(rows, epoch, plan, batches, is_going=is_going)
        if is_going and rate and share:
            left = (1 - done) * plan.epochs * max(batches, plan.batches or 0) / rate
    steps = total if total is not None and step < total else None
    return Progress(step, epoch, plan.epochs, done, rate, left, steps)


def _share(rows: Column, epoch: int, plan: Plan, batches: int, *, is_going: bool) -> tuple[float, bool]:
    """What is done of all epochs, and whether that is known to the batch."""
    assert plan.epochs is not None
    in_epoch = rows.batch[rows.epoch == epoch]
    known = max(batches, plan.batches or 0)
    # in the first epoch nobody knows how many batches there will be, unless the loop said so
    is_known = bool(known) and (epoch > 0 or plan.batches is not None) and int(in_epoch.max(initial=-1)) >= 0
    share = (int(in_epoch.max()) + 1) / known if is_known else float(not is_going)
    return min(1.0, (epoch + share) / plan.epochs), is_known


def rate_of(rows: Column) -> float | None:
    """Steps per second of the latest rows; None where no time has passed, or no step was made."""
    steps, times = rows.step[-_RATE_STEPS:], rows.time_ns[-_RATE_STEPS:]
    seconds = (int(times[-1]) - int(times[0])) / 1e9
    count = int(steps[-1]) - int(steps[0])
    return count / seconds if seconds > 0 and count > 0 else None
