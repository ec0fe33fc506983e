"""What people hand to `log`: mappings within mappings, and the step in the second place."""

from __future__ import annotations

import math
from collections import OrderedDict, UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entrenar_otel import AndonStop, BadInput, Monitor


def make(folder: Path, **settings: Any) -> Monitor:
    return Monitor("r", lake=folder / "lake", live=folder / "live", quiet=True, **settings)


def rows(monitor: Monitor) -> dict[str, float]:
    monitor.flush()
    return {record.metric: record.value for record in monitor.to_records()}


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_mappings_within_mappings(tmp_path: Path, kind: Any) -> None:
    """Their names are paths, whatever kind of mapping, as a mapping or by keyword."""
    with make(tmp_path) as monitor:
        monitor.log({"train": kind({"loss": 0.5, "top": kind({"1": 0.25, 5: np.float32(0.75)})}), "lr": 1})
        monitor.log(eval=kind({"loss": 2.0}), extra=3)
        assert rows(monitor) == {
            "train/loss": 0.5,
            "train/top/1": 0.25,
            "train/top/5": 0.75,
            "lr": 1.0,
            "eval/loss": 2.0,
            "extra": 3.0,
        }
        assert monitor.bad_values == 0


def test_what_is_odd_in_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Named and refused, and the rest is recorded; one that holds itself has an end."""
    endless: dict[str, Any] = {"x": 1.0}
    endless["a"] = endless
    with make(tmp_path) as monitor:
        monitor.log({"t": {"text": "no", (1, 2): 1.0, "good": 2.0}})
        monitor.log({"twice": {"a": 1.0}, "twice/a": 2.0, "empty": {}})
        monitor.log(endless)
        found = rows(monitor)
        assert found["t/good"] == 2.0
        assert found["twice/a"] == 2.0
        assert found["a/a/x"] == 1.0
        assert len(found) < 20
        assert monitor.bad_values == 5  # an empty one is no number
    assert "t/text must be one number" in caplog.text
    assert "log() got 'twice/a' twice" in caplog.text


def test_bad_values_in_them_raise_where_that_is_wanted(tmp_path: Path) -> None:
    """After what was good is recorded."""
    with make(tmp_path, on_bad_value="raise") as monitor:
        with pytest.raises(BadInput, match="t/text must be one number"):
            monitor.log({"t": {"text": "no", "good": 2.0}})
        assert rows(monitor) == {"t/good": 2.0}


def test_a_loss_in_them_stops_too(tmp_path: Path) -> None:
    """A NaN in train/loss is one, however it was written."""
    with pytest.raises(AndonStop), make(tmp_path) as monitor:
        monitor.log({"train": {"loss": math.nan}})


def test_the_step_in_the_second_place(tmp_path: Path) -> None:
    """As other libraries have it; by name as ever."""
    with make(tmp_path) as monitor:
        monitor.log({"loss": 1.0}, 5)
        monitor.log({"loss": 2.0}, step=6, tags={"split": "val"})
        monitor.log(loss=3.0, step=7)
        monitor.flush()
        assert [(record.value, record.step) for record in monitor.to_records()] == [
            (1.0, 5),
            (2.0, 6),
            (3.0, 7),
        ]


def test_an_instrument_takes_no_mapping(tmp_path: Path) -> None:
    """A bound function does not know the names that are in one: refused."""
    with make(tmp_path) as monitor:
        monitor.bind("loss")({"a": 1.0})
        monitor.bind("lr")(0.5)
        assert rows(monitor).get("lr") == 0.5
