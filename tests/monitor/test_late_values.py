"""A run whose loss is on a device: questions, flush and the end wait for it, a NaN is never hidden."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Lake, Monitor
from entrenar_otel.errors import AndonStop, ConfigError
from entrenar_otel.monitor import recorded
from tests.recording.device.devices import Array


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Monitor]:
    return lambda **options: Monitor("r", lake=tmp_path / "lake", quiet=True, **options)


def rows(folder: Path, metric: str = "loss") -> list[tuple[Any, ...]]:
    sql = "SELECT epoch, batch, step, value FROM metrics WHERE metric = ? ORDER BY seq"
    return [tuple(row.values()) for row in Lake(folder / "lake").query(sql, [metric]).to_pylist()]


def state(folder: Path) -> tuple[str, str | None]:
    (row,) = Lake(folder / "lake").query("SELECT state, reason FROM runs").to_pylist()
    return row["state"], row["reason"]


def test_every_step_of_a_loop_is_recorded_at_its_place(make: Any, tmp_path: Path) -> None:
    """And an epoch is over when its values are there."""
    with make(interval_seconds=3600) as monitor:
        for epoch in monitor.epochs(2):
            assert monitor._answers.heartbeat.recorder.settle(0.0)
            for x in monitor.steps(range(4)):
                monitor.log(loss=Array(10 * epoch + x, looks=x % 3 + 1))
    assert rows(tmp_path) == [(e, b, 4 * e + b, float(10 * e + b)) for e in range(2) for b in range(4)]
    assert state(tmp_path) == ("completed", None)


@pytest.mark.parametrize("way", ["flush", "summary", "count", "curve", "query", "records"])
def test_who_asks_gets_what_is_late_too(make: Any, way: str) -> None:
    ask: dict[str, Callable[[Monitor], Any]] = {
        "flush": lambda monitor: monitor.flush() and monitor.sample_count("loss"),
        "summary": lambda monitor: monitor.summary("loss").count,
        "count": lambda monitor: monitor.sample_count("loss"),
        "curve": lambda monitor: monitor.curve("loss").num_rows,
        "query": lambda monitor: monitor.query("SELECT * FROM metrics WHERE metric = 'loss'").num_rows,
        "records": lambda monitor: sum(record.metric == "loss" for record in monitor.to_records()),
    }
    with make(interval_seconds=3600) as monitor:
        monitor.log(loss=Array(1.0, looks=9))
        assert ask[way](monitor) == 1


def test_the_heartbeat_records_what_has_arrived(make: Any) -> None:
    """So what a loop that hangs has logged before is there."""
    arrived = threading.Event()
    with make(interval_seconds=0.02, consumers=[lambda _samples: arrived.set()]) as monitor:
        loss = Array(1.0)
        monitor.log(loss=loss)
        loss.done()
        assert arrived.wait(60.0)


@pytest.mark.parametrize("bad_step", [0, 3, 5])
def test_a_nan_stops_the_loop_at_most_two_steps_later(make: Any, tmp_path: Path, bad_step: int) -> None:
    """In the loop, or where it is over before, at the end of the run."""
    seen = []

    def train() -> None:
        with make(interval_seconds=3600) as monitor:
            for step in monitor.steps(range(6)):
                seen.append(step)
                monitor.log(loss=Array(math.nan if step == bad_step else 1.0, looks=40))

    with pytest.raises(AndonStop, match=f"loss is nan at batch {bad_step}, step {bad_step}") as stop:
        train()
    assert stop.value.step == bad_step
    assert seen[-1] <= bad_step + 2
    assert math.isnan(rows(tmp_path)[bad_step][3])
    assert state(tmp_path)[0] == "stopped"


def test_close_says_that_the_run_was_stopped(make: Any, tmp_path: Path) -> None:
    """It raises nothing itself: it is called where nobody expects that."""
    monitor = make().start()
    monitor.log(loss=Array(math.nan, looks=3))
    monitor.close()
    assert state(tmp_path)[0] == "stopped"


def test_a_device_that_does_not_answer_does_not_hold_up_the_end(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorded.RecordedRun._settle, "__defaults__", (0.01,))
    with make() as monitor:
        monitor.log(accuracy=1.0)
        monitor.log(loss=Array(1.0), lr=0.5)
        assert monitor.flush(0.01) is False
    assert monitor.dropped == 2
    assert "2 values were still on their device when the run ended; they are not recorded" in caplog.messages
    assert (rows(tmp_path), len(rows(tmp_path, "accuracy"))) == ([], 1)


def test_lazy_is_yes_or_no(make: Any) -> None:
    with pytest.raises(ConfigError, match="expected lazy to be True or False, got 'no'"):
        make(lazy="no")


def test_without_lazy_the_call_waits(make: Any) -> None:
    loss = Array(math.nan)
    with pytest.raises(AndonStop), make(lazy=False) as monitor:
        monitor.log(loss=loss)
    assert loss.waited
