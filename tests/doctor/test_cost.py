"""What a monitor costs here: measured in a process of its own, and told whatever becomes of that."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.doctor import cost, loop
from entrenar_otel.doctor.check import Check, Level

FOUND = {
    "step_us": 1000.0,
    "loop_us": 4.0,
    "log_us": 3.0,
    "steps_us": 1.0,
    "low_us": 3.5,
    "high_us": 5.0,
    "heartbeat_us": 5.0,
    "other_us": 1.0,
    "start_ms": 100.0,
    "end_ms": 50.0,
    "steps": 3000,
    "load": 0.0,
}


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def only(command: list[str], seconds: float = 100.0) -> Check:
    (check,) = cost.measure(command, seconds)
    return check.fit_to_show()


def test_what_is_told_of_the_numbers() -> None:
    total, *parts, run = cost.told(FOUND)
    assert total.text == (
        "10.0 µs of CPU in all threads: 1.00 % of one that takes 1 ms (95 %: 0.95 to 1.10 %), 0.1 % of 10 ms"
    )
    assert total.level is Level.OK
    assert [part.facts["share"] for part in parts] == [0.3, 0.1, 0.5, 0.1]
    assert run.text == "100 ms of CPU at its start, 50 ms at its end, once"


def test_a_busy_machine_is_told_of() -> None:
    total, *_ = cost.told(FOUND | {"load": 1e4})
    assert total.level is Level.NOTE
    assert "keep this machine busy (load 10000.0 " in total.advice


def test_the_loop_is_measured_in_a_process_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Really, if shortly; nothing stays, neither here nor in the temporary folder."""
    monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "nonsense")
    monkeypatch.setenv("TMPDIR", os.getcwd())
    monkeypatch.setattr("tempfile.tempdir", os.getcwd())
    code = "import json; from entrenar_otel.doctor.loop import measured; print(json.dumps(measured(1, 0.4)))"
    checks = {check.name: check for check in cost.measure(program(code))}
    assert [check.level for check in checks.values() if check.name != "a step"] == [Level.OK] * 5
    assert checks["a step"].facts["steps"] >= 2 * 3 * loop.BLOCK
    assert checks["heartbeat"].facts["us"] > 0
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("command", "seconds", "told"),
    [
        (program("import time; time.sleep(1000)"), 0.5, "the loop was not done within 0.5 s"),
        (program("raise OSError('no room')"), 100.0, "the loop failed: OSError: no room"),
        (program("import os; os._exit(3)"), 100.0, "the loop failed: exit code 3"),
        (["/no/such/python"], 100.0, "/no/such/python: No such file or directory"),
    ],
)
def test_what_cannot_be_measured_is_a_note(command: list[str], seconds: float, told: str) -> None:
    check = only(command, seconds)
    assert (check.level, check.text) == (Level.NOTE, f"not measured: {told}")


def test_without_a_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    assert "/proc/none" in only(program("")).text


def test_the_environment_of_the_loop() -> None:
    made = cost.environment(
        {
            "ENTRENAR_LAKE": "x",
            "OTEL_LOG_LEVEL": "x",
            "ENTRENAR_NATIVE": "0",
            "HOME": "/h",
            "OMP_NUM_THREADS": "9",
        }
    )
    assert (made["ENTRENAR_NATIVE"], made["HOME"], made["OMP_NUM_THREADS"]) == ("0", "/h", "1")
    assert not {"ENTRENAR_LAKE", "OTEL_LOG_LEVEL"} & set(made)
    assert all(map(os.path.isabs, made["PYTHONPATH"].split(os.pathsep)))


def test_rounds_compare_what_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of blocks that take known times, the differences, by part."""
    clock = {"loop": 0.0, "all": 0.0, "wall": 0.0, "beat": 0.0}

    def block(microseconds: float) -> Any:
        def run(*_: object) -> None:
            clock["loop"] += loop.BLOCK * microseconds / 1e6
            clock["all"] += loop.BLOCK * (microseconds + 20) / 1e6
            clock["beat"] += loop.BLOCK * 15 / 1e6
            clock["wall"] += 0.25

        return run

    monkeypatch.setattr(loop, "BLOCKS", {"plain": block(1000), "log": block(1003), "steps": block(1004)})
    for name, part in {"thread_time": "loop", "process_time": "all", "monotonic": "wall"}.items():
        monkeypatch.setattr(loop, name, lambda part=part: clock[part])
    monkeypatch.setattr(loop, "_heartbeat_seconds", lambda: clock["beat"])
    nothing: Any = None
    found = loop._rounds(nothing, nothing, 10.0)
    assert {name: round(value, 6) for name, value in found.items()} == {
        "steps": 14 * 2 * loop.BLOCK,
        "step_us": 1000.0,
        "log_us": 3.0,
        "steps_us": 1.0,
        "loop_us": 4.0,
        "low_us": 4.0,
        "high_us": 4.0,
        "heartbeat_us": 22.5,
        "other_us": 7.5,
    }
    assert json.dumps(found)


def test_a_system_that_does_not_tell_times_by_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(_: Path) -> str:
        raise OSError

    assert loop._heartbeat_seconds() == 0.0
    monkeypatch.setattr(loop, "_HEARTBEAT", "MainThread")
    assert loop._heartbeat_seconds() > 0
    monkeypatch.setattr(Path, "read_text", unreadable)
    assert loop._heartbeat_seconds() == 0.0
