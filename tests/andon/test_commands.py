"""stop, pause and resume from another process, given to training processes that really run."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.recording.process.control import Command, control_path, send

Train = Callable[..., Any]
Call = Callable[..., subprocess.CompletedProcess[str]]

TRAIN = """
settings = dict(quiet=True, interval_seconds=0.2, settings_file="renacer.toml")
with Monitor("run-1", lake="lake", **settings) as monitor:
    monitor.on("stop", lambda alert: print("saved", flush=True))
    monitor.on("pause", lambda alert: print("paused", flush=True))
    monitor.on("resume", lambda alert: print("resumed", flush=True))
    monitor.log(loss=1.0)
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
        monitor.log(loss=1.0)
"""
FLOOR = """
[[monitor.threshold]]
name = "floor"
metric = "accuracy"
min = 0.8
action = "pause"
"""
LOW = TRAIN.replace('print("ready", flush=True)', "monitor.log(accuracy=0.5)")


def live() -> Path:
    return Path(os.environ["ENTRENAR_LIVE"])


def test_stop_pause_and_resume(train: Train, command: Call, state_of: Any) -> None:
    """Obeyed at the next log; who asked for it and why is in the error, the alerts and the run."""
    run = train(TRAIN)
    run.expect("ready")
    paused = command("pause", "run-1", "--reason", "a look")
    assert (paused.returncode, paused.stdout) == (0, "pause: run run-1, rank 0 accepted the command\n")
    run.expect("paused")
    resumed = command("resume", "run-1", "--json")
    assert resumed.returncode == 0
    (answer,) = json.loads(resumed.stdout)
    assert answer.items() >= {"run_id": "run-1", "command": "resume", "rank": 0, "taken": True}.items()
    run.expect("resumed")
    assert command("stop", "run", "--reason", "wrong data").returncode == 0
    run.expect("saved")
    code, _, err = run.end()
    assert code == 1
    assert re.search(r"AndonStop: stop requested by \w+ \(pid \d+\): wrong data at an unknown step", err)
    assert "Everything that was known then is in " in err
    state, reason = state_of("run-1")
    assert (state, str(reason).startswith("AndonStop: stop requested by")) == ("stopped", True)
    rows = Lake("lake").query("SELECT * FROM alerts WHERE source = 'control' ORDER BY started_at")
    assert [
        (r["name"], r["level"], r["action"], r["state"], bool(r["incident"])) for r in rows.to_pylist()
    ] == [
        ("pause", "ERROR", "pause", "resolved", False),
        ("stop", "ERROR", "stop", "resolved", True),
    ]
    assert not list(live().glob("*.control"))


def test_the_command_that_a_pause_prints_resumes_it(train: Train) -> None:
    """Typed as it stands, by a shell, in another folder."""
    Path("renacer.toml").write_text(FLOOR)
    run = train(LOW, ENTRENAR_LIVE=str(live()))
    line = run.hear_error("resume it with")
    typed = re.fullmatch(r"entrenar: resume it with `(.*)`", line)
    assert typed is not None
    run.expect("paused")
    program = f"{shlex.quote(sys.executable)} -m entrenar_otel.cli.main"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ENTRENAR_")}
    done = subprocess.run(
        typed[1].replace("entrenar-otel", program, 1),
        shell=True, cwd="/", env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run.expect("resumed")


def test_a_paused_run_is_seen_to_be_paused(train: Train, command: Call) -> None:
    """In `ls` and `show`, by others on the host; a run that is not paused is not said to be resumed."""
    Path("renacer.toml").write_text(FLOOR)
    run = train(LOW)
    run.expect("paused")
    (seen,) = json.loads(command("--json", "ls").stdout)
    assert seen["state"] == "paused"
    assert command("show", "run-1").stdout.startswith("run-1  paused")
    assert command("resume", "run-1").stdout == "resume: run run-1, rank 0 accepted the command\n"
    run.expect("resumed")
    again = command("resume", "run-1")
    assert (again.returncode, again.stdout) == (0, "resume: run run-1, rank 0 was not paused\n")
    assert json.loads(command("--json", "ls").stdout)[0]["state"] == "running"
    assert command("stop", "run-1").returncode == 0
    run.expect("saved")
    run.end()
    assert json.loads(command("--json", "ls").stdout)[0]["state"] == "stopped"
    assert not list(live().glob("*.paused"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_paused(train: Train, number: signal.Signals, state_of: Any) -> None:
    """Ctrl-C and a scheduler's SIGTERM end a paused run within seconds, with everything in the lake."""
    Path("renacer.toml").write_text(FLOOR)
    run = train(LOW)
    run.expect("paused")
    run.signal(number)
    code, _, err = run.end()
    assert code == -number, err
    state, reason = state_of("run-1")
    assert (state, reason) == ("stopped", "KeyboardInterrupt" if number is signal.SIGINT else "SIGTERM")
    assert not list(live().glob("*.seg"))
    (row,) = Lake("lake").query("SELECT * FROM alerts WHERE source = 'threshold'").to_pylist()
    assert (row["name"], row["state"]) == ("floor", "resolved")


def test_stop_while_paused(train: Train, command: Call) -> None:
    """The command reaches a loop that does not log."""
    Path("renacer.toml").write_text(FLOOR)
    run = train(LOW)
    run.expect("paused")
    assert command("stop", "run-1").returncode == 0
    run.expect("saved")
    code, _, err = run.end()
    assert code == 1
    assert "AndonStop: stop requested by" in err


def test_garbage_does_not_stop_training(judged: Any, lenient: Any, caplog: Any) -> None:
    """Refused and counted at the tick; the command after it is obeyed."""
    from entrenar_otel import errors

    with judged() as one:
        one.monitor.log(loss=1.0)
        record = one.run.record
        path = control_path(record.live, record.process)
        lenient()
        for data in (b"garbage", b"x" * 100_000, b"[" * 4000):
            path.write_bytes(data)
            one.tick()
            one.monitor.log(loss=1.0)
            assert not path.exists()
        assert errors.failures["control"] == 3
        send(record.live, record.process, Command.RESUME)
        one.tick()
        one.monitor.log(loss=1.0)
        path.write_bytes(b"left over")
    assert not path.exists()
    assert "is not a command" in caplog.text


def test_a_run_that_does_not_run(command: Call) -> None:
    """A clear error and exit code 1; nothing is left in the live folder."""
    with Monitor("done", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    for name in ("stop", "pause", "resume"):
        done = command(name, "done")
        assert done.returncode == 1
        assert done.stderr == "error: run 'done' is not running; `entrenar-otel ls` shows which runs are\n"
    none = command("stop", "nope")
    assert (none.returncode, none.stderr.startswith("error: no run 'nope' in ")) == (1, True)
    assert not list(live().glob("*.control"))


def test_killed_while_paused(train: Train, command: Call) -> None:
    """A dead process is not paused; what it left in the live folder goes with its lock."""
    Path("renacer.toml").write_text(FLOOR)
    run = train(LOW)
    run.expect("paused")
    run.signal(signal.SIGKILL)
    run.end()
    assert list(live().glob("*.paused"))
    assert json.loads(command("--json", "ls").stdout)[0]["state"] == "crashed"
    assert command("recover").returncode == 0
    assert not [path for path in live().iterdir() if path.suffix in (".paused", ".control", ".lock")]


def test_a_run_that_was_killed(train: Train, command: Call) -> None:
    """It says `running`, but nobody is there to take the command."""
    run = train(TRAIN)
    run.expect("ready")
    run.signal(signal.SIGKILL)
    run.end()
    done = command("stop", "run-1")
    assert (done.returncode, "run 'run-1' is not running" in done.stderr) == (1, True)


def test_a_run_that_does_not_take_it(train: Train, command: Call) -> None:
    """A process that is stopped by its terminal: said after the wait, with exit code 1; obeyed later."""
    run = train(TRAIN)
    run.expect("ready")
    run.signal(signal.SIGSTOP)
    done = command("stop", "run-1", "--wait", "0.5")
    assert (done.returncode, done.stdout) == (
        1,
        "stop: run run-1, rank 0 did not accept the command within 500 ms\n",
    )
    run.signal(signal.SIGCONT)
    run.expect("saved")
    assert run.end()[0] == 1


def test_another_user_may_not(train: Train, tmp_path: Path) -> None:
    """The live folder is its owner's: another user's command is refused, and training goes on."""
    if os.getuid() != 0:
        pytest.skip("NOT TESTED: that another user may not, since only root can be another user")
    run = train(TRAIN)
    run.expect("ready")
    mode = live().stat().st_mode & 0o777
    assert mode == 0o700
    (record,) = Lake("lake").runs()
    code = "import os, sys; os.setuid(65534); open(sys.argv[1], 'w')"
    path = str(control_path(record.live, record.process))
    done = subprocess.run([sys.executable, "-S", "-c", code, path], capture_output=True, text=True)
    assert "PermissionError" in done.stderr
    assert run.process.poll() is None
