"""Offline: the causes of curves that no run recorded, for many trainings at once."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from entrenar_processors.samples import Series

from benchmarks.curves import DATA, curves
from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.ranking import causes_of
from entrenar_otel.report.learning import Learning
from tests.views.conftest import column, view_of

Rows = Mapping[Series, tuple[Any, Any]]


def causes_of_curves(rows: Rows) -> list[Cause]:
    """Of steps and values by series."""
    made = {}
    for series, (steps, values) in rows.items():
        one = column(np.asarray(values, dtype=np.float64))
        made[series] = one._replace(step=np.asarray(steps, dtype=np.int64))
    view = view_of(made)
    return causes_of(Learning.of(view), view.statistics)


def causes_of_training(train: Callable[[int, Callable[..., None]], None], seed: int) -> list[Cause]:
    """Of a training whose curves are kept in memory."""
    rows: dict[Series, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))

    def log(
        values: Mapping[str, float] | None = None, step: int = 0, tags: Any = None, **more: float
    ) -> None:
        for name, value in {**(values or {}), **more}.items():
            steps, kept = rows[Series.of(name, tags)]
            steps.append(step)
            kept.append(value)

    with np.errstate(all="ignore"):  # what overflows is what is meant
        train(seed, log)
    return causes_of_curves(rows)


def language_models() -> Iterator[tuple[str, Rows]]:
    """The published pre-trainings, with their validation."""
    norms = curves(column="grad_norm")
    for name, loss in curves().items():
        rows: dict[Series, tuple[Any, Any]] = {Series("loss"): (np.arange(len(loss)), loss)}
        if name in norms:
            rows[Series("gradient_norm")] = (np.arange(len(loss)), norms[name])
        with gzip.open(DATA / "lm_curves" / f"{name}.val.csv.gz", "rt") as file:
            table = [list(row.values()) for row in csv.DictReader(file)]
        steps = [int(float(row[0])) for row in table]
        rows[Series.of("loss", {"split": "validation"})] = (steps, [float(row[1]) for row in table])
        yield name, rows
