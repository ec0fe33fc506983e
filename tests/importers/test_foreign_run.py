"""Foreign run: numbers are values, and everything else is counted by its kind."""

from __future__ import annotations

import math
from typing import Any

import pytest

from entrenar_otel.importers.foreign_run import ForeignRun, number_in


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (True, 1.0), (0.5, 0.5), ("Infinity", math.inf), ("-Infinity", -math.inf), (10**400, math.inf),
     (-(10**400), -math.inf), ("1", None), (None, None), ([1], None)],
)  # fmt: skip
def test_numbers(value: Any, number: float | None) -> None:
    assert number_in(value) == number


def test_nan_is_a_number() -> None:
    assert math.isnan(number_in("NaN") or 0.0)


def test_entries() -> None:
    run = ForeignRun("wandb", "a", "n")
    entry = {"b": {"c": 1, "text": "x"}, "image": {"_type": "image-file"}, "none": None, "list": [1, 2]}
    run.add("a", entry, time_ns=1, step=2, epoch=None)
    assert [str(series) for series, _ in run.points.columns()] == ["a.b.c"]
    assert run.left_out == {"text": 1, "image-file": 1, "list": 1}
    assert run.names == {"a"}


def test_ids_are_told_apart_by_what_they_are_not_by_their_names() -> None:
    ids = {ForeignRun("wandb", str(i), "same name").run_id for i in range(100)}
    assert len(ids) == 100
    assert all(run_id.startswith("wandb-same-name-") for run_id in ids)
    assert ForeignRun("wandb", "a", "…").run_id.startswith("wandb-run-")
    assert len(ForeignRun("wandb", "a", "x" * 10_000).run_id) < 120
