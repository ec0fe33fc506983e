"""Views of made-up runs, and runs that are recorded to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Summary
from entrenar_processors.samples import Column, Series

from entrenar_otel.views.model import Finding, Progress, RunView, Statistics, Threshold

START_NS = 1_790_000_000_000_000_000


def column(values: Any, *, batches: int = 100, every: int = 1, start: int = 0) -> Column:
    """Rows of one series, one step a second, `batches` an epoch."""
    y = np.asarray(values, dtype=np.float64)
    step = start + every * np.arange(len(y))
    epoch, batch = (part.astype(np.int32) for part in (step // batches, step % batches))
    return Column(START_NS + step * 1_000_000_000, epoch, batch, step, np.arange(len(y)), y)


def statistics_of(values: Any) -> Statistics:
    """Of all values."""
    summary = Summary()
    summary.update(np.asarray(values, dtype=np.float64))
    return Statistics(**{field.name: getattr(summary, field.name) for field in fields(Statistics)})


def view_of(curves: dict[Series, Column], **more: Any) -> RunView:
    """A view with these curves, whose steps were given."""
    given: dict[str, Any] = {"run_id": "digits-7", "state": "running", "age_seconds": 0.4, "is_live": True}
    return RunView(
        curves=curves,
        statistics={series: statistics_of(rows.values) for series, rows in curves.items()},
        stepped=frozenset(curves),
        **(given | more),
    )


@pytest.fixture
def digits() -> RunView:
    """A run with all that a view has: two splits, a spike, a NaN, a finding, a limit, progress."""
    steps = np.arange(600)
    loss = 2.3 * np.exp(-steps / 150) + 0.1 + 0.05 * np.sin(steps)
    loss[400] = 1.9
    loss[500] = np.nan
    at = 99 + 100 * np.arange(6)
    curves = {
        Series("loss"): column(loss),
        Series.of("loss", {"split": "validation"}): column(loss[at] + 0.1, every=100, start=99),
        Series("accuracy"): column(1 - loss / 2.5),
        Series("val_acc"): column(0.9 - loss[at] / 2.5, every=100, start=99),
        Series("lr"): column(np.full(600, 0.05)),
        Series("step_duration"): column(0.01 + 0.002 * np.abs(np.sin(steps * 7.0))),
    }
    spike = Finding(
        "loss_spike", "WARNING", "loss is 1.9, expected 0.26", "loss", "resolved", "notify", 1,
        datetime.fromtimestamp(START_NS / 1e9 + 400, UTC), 4, 0, 400, 1.9,
    )  # fmt: skip
    return view_of(
        curves,
        model="digits-mlp 1.0.0",
        seconds=600.0,
        progress=Progress(599, 5, 10, 0.6, 1.0, 400.0),
        findings=[spike],
        thresholds=[Threshold("floor", "accuracy", {"split": "validation"}, 0.5, None)],
    )


@pytest.fixture
def shown() -> Callable[..., str]:
    """A frame as one text."""
    from entrenar_otel.views.frame import frame

    def show(view: RunView, *arguments: Any, **more: Any) -> str:
        return "\n".join(line.plain for line in frame(view, *arguments, **more))

    return show
