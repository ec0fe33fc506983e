"""Somebody removes the lake, or what a run has put there, while the run is recorded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake, holdings
from entrenar_otel.lake.records.runs import claim, new_record
from entrenar_otel.run import keeper
from entrenar_otel.testing import open_run, recorded_run

Until = Callable[..., None]


@pytest.fixture(autouse=True)
def watching(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round of the keeper looks."""
    monkeypatch.setattr(keeper, "_WATCH_SECONDS", 0.0)
    monkeypatch.setattr(keeper, "BEAT_SECONDS", 0.0)
    monkeypatch.setattr(holdings, "_SETTLED_SECONDS", 0.0)


def hand_over(monitor: Monitor, value: float) -> None:
    """Log a value, and bring it into the lake."""
    monitor.log(a=value)
    recorded_run(monitor).recorder.roll()
    open_run(monitor).heartbeat.tick(hand_over=False)
    round_of(monitor)


def round_of(monitor: Monitor) -> None:
    assert open_run(monitor).heartbeat.hand_over(final=True)


def clear() -> None:
    """Remove the lake, at once."""
    os.rename("lake", "cleared")
    shutil.rmtree("cleared")


def rows(lake: str = "lake") -> list[tuple[int, float]]:
    table = Lake(lake).query("SELECT attempt, value FROM metrics WHERE metric = 'a' ORDER BY attempt, value")
    return [(row["attempt"], row["value"]) for row in table.to_pylist()]


def states(lake: str = "lake") -> list[tuple[int, str]]:
    return [(one.attempt, one.state) for one in Lake(lake).runs()]


def test_a_lake_that_is_removed_is_said_once_and_made_anew(
    start: Callable[..., Monitor], wait_until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """By the heartbeat, without anything being logged meanwhile; what comes later is of a whole run."""
    monitor = start(interval_seconds=0.01, config={"lr": 1})
    hand_over(monitor, 1.0)
    hand_over(monitor, 2.0)
    clear()
    wait_until(lambda: "recording goes on into what is there now" in caplog.text)
    wait_until(lambda: states() == [(1, "running")])
    for _ in range(3):
        round_of(monitor)
    assert caplog.text.count("has lost the record and 2 of 2 files of samples of run r") == 1
    assert caplog.text.count("has lost") == 1
    hand_over(monitor, 3.0)
    monitor.log(a=4.0)
    monitor.close()
    assert caplog.text.count("has lost") == 1
    assert (rows(), states()) == ([(1, 3.0), (1, 4.0)], [(1, "completed")])
    assert Lake("lake").runs()[0].config == '{"lr": 1}'
    assert list(monitor.lake.live.iterdir()) == []


def test_an_object_store_that_is_cleared(
    s3: str, start: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    url = s3.format("cleared")
    monitor = start(lake=url)
    hand_over(monitor, 1.0)
    storage: Any = monitor.lake.storage
    storage.filesystem.delete_dir("lake/cleared")
    round_of(monitor)
    assert states(url) == [(1, "running")]
    hand_over(monitor, 2.0)
    monitor.close()
    assert caplog.text.count("has lost the record and 1 of 1 files of samples of run r") == 1
    assert caplog.text.count("has lost") == 1
    assert (rows(url), states(url)) == ([(1, 2.0)], [(1, "completed")])


def test_a_lake_that_is_removed_file_by_file(
    start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, when nothing more goes; until then nothing new is put in the way of who removes it."""
    monitor = start()
    for value in range(3):
        hand_over(monitor, float(value))
    monkeypatch.setattr(holdings, "_SETTLED_SECONDS", 1e5)
    beat = open_run(monitor).heartbeat
    monitor.log(a=3.0)
    recorded_run(monitor).recorder.roll()
    beat.collect()
    for path in sorted(Path("lake/metrics").rglob("*.parquet"), reverse=True):
        path.unlink()
        assert not beat.hand_over(final=True)
    shutil.rmtree("lake")
    assert not beat.hand_over(final=True)
    assert "has lost" not in caplog.text
    assert not Path("lake").exists()
    monkeypatch.setattr(holdings, "_SETTLED_SECONDS", 0.0)
    round_of(monitor)
    assert rows() == [(1, 3.0)]
    assert caplog.text.count("has lost the record and 3 of 3 files of samples of run r") == 1
    assert states() == [(1, "running")]
    monitor.close()
    assert caplog.text.count("has lost") == 1


def test_the_end_of_a_short_run_says_it_too(
    start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeper, "_WATCH_SECONDS", 1e5)
    monitor = start()
    hand_over(monitor, 1.0)
    shutil.rmtree("lake")
    monitor.close()
    assert caplog.text.count("has lost the record and 1 of 1 files") == 1
    assert states() == [(1, "completed")]


def test_files_of_samples_alone(start: Callable[..., Monitor], caplog: pytest.LogCaptureFixture) -> None:
    """They are counted; the record is left as it is, and a second loss is told for itself."""
    monitor = start()
    for value in range(3):
        hand_over(monitor, float(value))
    newest = max(Path("lake/metrics").rglob("*.parquet"))
    newest.unlink()
    round_of(monitor)
    round_of(monitor)
    assert caplog.text.count("has lost 1 of 3 files of samples of run r") == 1
    hand_over(monitor, 3.0)
    shutil.rmtree("lake/metrics")
    round_of(monitor)
    assert caplog.text.count("has lost 3 of 3 files of samples of run r") == 1
    monitor.close()
    assert caplog.text.count("has lost") == 2
    assert states() == [(1, "completed")]


def test_what_others_have_merged_or_pruned_is_not_gone(
    start: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    """As one does that takes this process for dead by force."""
    monitor = start()
    for value in range(3):
        hand_over(monitor, float(value))
    open_run(monitor).keeper.compact()
    round_of(monitor)
    assert len(list(Path("lake/metrics").rglob("*.parquet"))) == 1
    assert "has lost" not in caplog.text
    monitor.close()
    assert "has lost" not in caplog.text


def test_a_record_that_cannot_be_written_again_yet(
    start: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once what is lost, and the record comes when it can."""
    monitor = start()
    hand_over(monitor, 1.0)
    beat = open_run(monitor).heartbeat
    shutil.rmtree("lake")
    Path("lake").mkdir()
    Path("lake/runs").symlink_to("nowhere")
    for _ in range(3):
        assert not beat.hand_over(final=True)
    assert caplog.text.count("has lost") == 1
    assert caplog.text.count("cannot be written") == 1
    Path("lake/runs").unlink()
    round_of(monitor)
    monitor.close()
    assert caplog.text.count("has lost") == 1
    assert states() == [(1, "completed")]


def test_another_process_that_began_in_the_cleared_lake(
    start: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    """Both are attempts of the run: neither writes over the other's record, and no row is the other's."""
    monitor = start()
    hand_over(monitor, 1.0)
    monitor.log(a=2.0)
    shutil.rmtree("lake")
    record = open_run(monitor).record
    other = new_record(
        run_id="r", rank=0, world_size=1, day=record.day, config=None, model_id=None, version=None,
        process="host-1-other", live="",
    )  # fmt: skip
    assert claim(Lake("lake").storage, other).attempt == 1
    round_of(monitor)
    assert monitor.attempt == 2
    assert "attempt 1 of run r is another process's by now" in caplog.text
    assert rows() == [(2, 2.0)]
    hand_over(monitor, 3.0)
    monitor.log(a=4.0)
    monitor.close()
    assert rows() == [(2, 2.0), (2, 3.0), (2, 4.0)]
    first, second = sorted(Lake("lake").runs(), key=lambda one: one.attempt)
    assert (first.attempt, first.process) == (1, "host-1-other")
    assert (second.attempt, second.state) == (2, "completed")
