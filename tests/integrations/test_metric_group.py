"""Metric group: what is recorded the quick way is what is recorded by names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.integrations.callback import TrainingRun
from entrenar_otel.integrations.metric_group import host_number


@pytest.fixture
def run(tmp_path: Path) -> Iterator[TrainingRun]:
    with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        run = TrainingRun(monitor)
        run.begin()
        yield run
        run.finish()


def rows(run: TrainingRun, metric: str, columns: str = "value") -> list[tuple[Any, ...]]:
    assert run.monitor is not None
    found = run.monitor.query(f"SELECT {columns} FROM metrics WHERE metric = '{metric}' ORDER BY seq")
    return [tuple(row.values()) for row in found.to_pylist()]


def test_the_quick_way_records_the_same(run: TrainingRun) -> None:
    for i in range(5):
        run.log({"loss": float(i), "acc": np.float32(i), "lr": i}, step=10 + i, epoch=i + 0.75, split="train")
    expected = [(float(i), 10 + i, i, "train") for i in range(5)]
    for name in ("loss", "accuracy", "learning_rate"):
        assert rows(run, name, "value, step, epoch, tags['split']") == expected


def test_coordinates_are_those_of_the_loop(run: TrainingRun) -> None:
    for i in range(4):
        run.begin_step(step=7 + i, batch=i)
        run.log({"loss": float(i)})
        run.end_step(2)
    assert rows(run, "loss", "value, step, batch") == [(float(i), 7 + i, i) for i in range(4)]


def test_what_is_missing_once_leaves_the_others_where_they_are(run: TrainingRun) -> None:
    for i in range(6):
        run.log({"loss": float(i), "gap": None if i == 3 else 10.0 + i, "end": 20.0 + i})
    assert rows(run, "loss") == [(float(i),) for i in range(6)]
    assert rows(run, "gap") == [(10.0 + i,) for i in range(6) if i != 3]
    assert rows(run, "end") == [(20.0 + i,) for i in range(6)]


def test_totals_are_added_once_whatever_else_is_missing(run: TrainingRun) -> None:
    """By names, by the bound function, and where that leaves it to the names."""
    for i in range(6):
        run.log({"num_input_tokens_seen": 64 * (i + 1), "gap": None if i in (0, 4) else 1.0})
    assert rows(run, "tokens") == [(64.0,)] * 6
    assert len(rows(run, "gap")) == 4


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("name", ["loss", "train_loss_step", "total_loss"])
def test_a_nan_stops_whichever_way_it_is_recorded(run: TrainingRun, at: int, name: str) -> None:
    """Also of the second name that is the training's loss."""
    for i in range(at):
        run.log({"loss": 0.5, name: 0.25, "acc": 0.5}, step=i)
    with pytest.raises(AndonStop) as caught:
        run.log({"loss": 0.5, name: math.nan, "acc": 0.5}, step=at)
    assert caught.value.step == at


def test_a_bad_name_takes_no_other_with_it(run: TrainingRun, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(4):
        run.log({"loss": float(i), "x" * 2000: 1.0})
    assert rows(run, "loss") == [(float(i),) for i in range(4)]
    assert "at most 1000 characters" in caplog.text


def test_other_names_at_every_step_are_all_recorded(run: TrainingRun) -> None:
    for i in range(600):
        run.log({f"expert_{i % 300}": float(i)})
    assert run.monitor is not None
    assert {run.monitor.summary(f"expert_{i}").count for i in range(300)} == {2}


def test_a_bad_epoch_takes_no_value_with_it(run: TrainingRun) -> None:
    for epoch in (0.5, 1.5, 2.5, math.nan, math.inf, -1.0):
        run.log({"loss": 0.5}, epoch=epoch)
    assert rows(run, "loss", "epoch") == [(0,), (1,), (2,), (None,), (None,), (None,)]


def test_tensors_on_the_host_become_numbers(run: TrainingRun) -> None:
    torch = pytest.importorskip("torch", reason="NOT TESTED HERE: tensors, torch is missing")
    for i in range(4):
        loss = torch.tensor(float(i), requires_grad=True)
        run.log({"loss": loss, "one": torch.tensor([[1]]), "several": torch.zeros(2)})
    assert rows(run, "loss") == [(float(i),) for i in range(4)]
    assert rows(run, "one") == [(1.0,)] * 4
    assert rows(run, "several") == []
    assert isinstance(host_number(torch.tensor(0.5, dtype=torch.bfloat16)), float)
    assert host_number(several := torch.zeros(2)) is several
