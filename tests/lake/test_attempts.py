"""Attempts: a resumed run counts each place in the loop once, and one that goes on elsewhere is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.details import run_details

CHILD = """
import sys
from entrenar_otel import Monitor
with Monitor("r", lake=sys.argv[1], live=sys.argv[2], quiet=True) as monitor:
    monitor.log(loss=1.0, step=0)
    print("recording", flush=True)
    sys.stdin.read()
"""


def attempt(folder: Path, run_id: str, rows: list[dict[str, Any]]) -> None:
    with Monitor(run_id, lake=folder / "lake", live=folder / "live", quiet=True) as monitor:
        for row in rows:
            monitor.log(row.pop("values"), **row)


def latest(lake: Lake, columns: str, where: str = "TRUE") -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM metrics_latest WHERE {where} ORDER BY ALL"
    return [tuple(row.values()) for row in lake.query(sql).to_pylist()]


def test_steps_that_two_attempts_recorded(tmp_path: Path) -> None:
    """The later one counts, at each step; what only one has stays, and `metrics` stays as it is."""
    attempt(tmp_path, "r", [{"values": {"loss": 1.0}, "step": step} for step in range(6)])
    attempt(tmp_path, "r", [{"values": {"loss": 2.0}, "step": step} for step in range(4, 8)])
    attempt(tmp_path, "other", [{"values": {"loss": 3.0}, "step": 4}])
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    expected = [(step, 1.0 if step < 4 else 2.0) for step in range(8)]
    assert latest(lake, "step, value", "run_id = 'r'") == expected
    assert latest(lake, "value", "run_id = 'other'") == [(3.0,)]
    assert lake.query("SELECT count(*) AS n FROM metrics WHERE run_id = 'r'")["n"][0].as_py() == 10
    (metric,) = run_details(lake, "r")["metrics"]
    assert (metric["count"], metric["last"]) == (8, 2.0)


def test_epochs_that_two_attempts_recorded(tmp_path: Path) -> None:
    """A loop that resumes at an epoch counts its steps from 0 again: epoch and batch say where it is."""
    for number, epochs in enumerate((range(3), range(2, 4))):
        with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
            for _ in monitor.epochs(epochs.stop, epochs.start):
                for _ in monitor.steps([1, 2]):
                    monitor.log(loss=float(number))
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    expected = [(epoch, batch, float(epoch >= 2)) for epoch in range(4) for batch in range(2)]
    assert latest(lake, "epoch, batch, value", "metric = 'loss'") == expected


def test_what_has_no_place_series_and_repeats(tmp_path: Path) -> None:
    """Without coordinates all is kept; tags and metrics are apart; within one attempt all is kept."""
    rows: list[dict[str, Any]] = [
        {"values": {"note": 1.0}},
        {"values": {"loss": 1.0}, "step": 1, "tags": {"split": "val"}},
        {"values": {"loss": 1.0}, "step": 1},
    ]
    attempt(tmp_path, "r", [dict(row) for row in rows])
    attempt(tmp_path, "r", [{"values": {"note": 2.0}}, *({"values": {"loss": 2.0}, "step": 1} for _ in "ab")])
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    assert latest(lake, "metric, value") == [
        ("loss", 1.0),
        ("loss", 2.0),
        ("loss", 2.0),
        ("note", 1.0),
        ("note", 2.0),
    ]


def test_the_view_is_known(tmp_path: Path) -> None:
    """Without a row, and where a statement names others only."""
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    assert (
        lake.query("SELECT * FROM metrics_latest").column_names
        == lake.query("SELECT * FROM metrics").column_names
    )
    assert "metrics_latest" in lake.query("SHOW TABLES")["name"].to_pylist()


def test_a_run_that_is_recorded_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named, with its pid and what to do; one that has ended is not."""
    folders = [str(tmp_path / "lake"), str(tmp_path / "live")]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, *folders], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "recording\n"
        attempt(tmp_path, "r", [{"values": {"loss": 1.0}, "step": 1}])
        child.communicate("", timeout=100)
    (told,) = (text for text in caplog.messages if "still being recorded" in text)
    assert f"as attempt 1 (pid {child.pid} on " in told
    assert "this is attempt 2" in told
    assert "a run_id of its own" in told
    caplog.clear()
    attempt(tmp_path, "r", [{"values": {"loss": 1.0}, "step": 1}])
    assert not [text for text in caplog.messages if "still being recorded" in text]


def test_show_says_that_it_was_resumed(tmp_path: Path) -> None:
    """In one line; as JSON it has the number of attempts."""
    attempt(tmp_path, "r", [{"values": {"loss": 1.0}, "step": 1}])
    attempt(tmp_path, "r", [{"values": {"loss": 2.0}, "step": 1}])
    program = "from entrenar_otel.cli.main import main; main()"
    command = [sys.executable, "-c", program, "--lake", str(tmp_path / "lake"), "show", "r"]
    text = " ".join(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "2, resumed: what several attempts recorded at one place" in text
    command.insert(3, "--json")
    assert (
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["attempts"]
        == 2
    )


def test_steps_that_nobody_gave_are_counted_by_curve(tmp_path: Path) -> None:
    """Per series and over attempts, live as from files; a series with one step given has what was given."""
    rows: list[dict[str, Any]] = [
        {"values": {"reward": 1.0}},
        {"values": {"reward": 2.0}, "tags": {"split": "val"}},
        {"values": {"reward": 3.0, "lr": 0.1}},
        {"values": {"lr": 0.2}, "step": 40},
    ]
    attempt(tmp_path, "r", [dict(row) for row in rows])
    with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        monitor.log(reward=4.0)
        live = monitor.curve("reward").to_pylist()
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    assert lake.curve("reward", "r").to_pylist() == live
    assert [(row["value"], row["step"]) for row in live] == [(1.0, 0), (2.0, 0), (3.0, 1), (4.0, 2)]
    assert lake.curve("lr", "r")["step"].to_pylist() == [None, 40]
    assert lake.query("SELECT count(step) AS n FROM metrics")["n"][0].as_py() == 1
