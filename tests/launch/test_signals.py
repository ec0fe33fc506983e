"""Signals, terminals and launchers: real ones, between `entrenar-otel run` and a program."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.launch.run import STOPPED_EXIT_CODE

RUN = (sys.executable, "-m", "entrenar_otel.cli.main", "run")
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Start]:
    """Starts a shell's command under `entrenar-otel run`, and waits until it says that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def call(command: str) -> subprocess.Popen[str]:
        running = subprocess.Popen(
            [*RUN, "--run-id", "r", "--", "sh", "-c", command],
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(running)
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        return running

    yield call
    for running in started:
        running.kill()
        running.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_us_reaches_the_program(start: Start, number: signal.Signals) -> None:
    """It handles it, and its exit code is ours."""
    name = number.name.removeprefix("SIG")
    running = start(f"trap 'echo got; exit 7' {name}; echo ready; while :; do sleep 0.1; done")
    running.send_signal(number)
    out, _ = running.communicate(timeout=400)
    assert (running.returncode, out) == (7, "got\n")
    (run,) = Lake("lake").runs()
    asked_to_end = number is not signal.SIGUSR1
    assert (run.state, run.reason) == (
        ("stopped", f"{number.name}, exit code 7") if asked_to_end else ("crashed", "exit code 7")
    )


def test_a_program_that_dies_of_a_signal(start: Start) -> None:
    """So do we: whoever waits for us sees the same."""
    running = start("echo ready; exec sleep 1000")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=400)
    assert running.returncode == -signal.SIGINT
    assert [(run.state, run.reason) for run in Lake("lake").runs()] == [("stopped", "SIGINT")]


def test_where_we_are_killed_the_program_goes_on(
    start: Start, wait_until: Callable[..., None], tmp_path: Path
) -> None:
    """The next recovery writes the run that we could not."""
    running = start("echo ready; until test -e go; do sleep 0.1; done; touch done")
    wait_until(lambda: any('"run"' in path.read_text() for path in Path("live").glob("*.lock")))
    running.kill()
    running.wait()
    Path("go").touch()
    wait_until(Path("done").exists)
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    lake.recover()
    assert [(run.run_id, run.state) for run in lake.runs()] == [("r", "crashed")]


def test_on_a_terminal(environ: dict[str, str]) -> None:
    """The program has the terminal itself, and of a Ctrl-C it sees one SIGINT."""
    command = (
        "trap 'echo got; n=1' INT; test -t 0 && test -t 1 && test -t 2 && echo a-tty; "
        'while test -z "$n"; do sleep 0.1; done; sleep 0.5; exit 5'
    )
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        [*RUN, "--", "sh", "-c", command],
        env=environ,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - nothing else makes it the terminal
    )
    os.close(terminal)
    shown = b""
    try:
        while b"a-tty" not in shown:
            shown += os.read(controller, 1000)
        os.write(controller, b"\x03")
        while True:
            try:
                more = os.read(controller, 1000)
            except OSError:  # nobody has it open any more
                break
            shown += more
        assert running.wait(400) == 5
        assert shown.count(b"got") == 1
    finally:
        running.kill()
        running.wait()
        os.close(controller)


TORCH = """
import sys
from entrenar_otel import Monitor

with Monitor(model_id="digits", quiet=True) as monitor:
    for step in range(10):
        is_bad = "nan" in sys.argv and monitor.rank == 1 and step == 5
        monitor.log(loss=float("nan") if is_bad else 1.0, step=step)
"""


@pytest.mark.parametrize(("argument", "restarts"), [("", 0), ("nan", 0), ("nan", 3)])
def test_torchrun(run: Callable[..., Any], argument: str, restarts: int) -> None:
    """Two ranks are one run; a NaN on one of them is 86, however often torchrun would start it again."""
    pytest.importorskip("torch.distributed.run", reason="NOT TESTED HERE: torchrun is missing")
    Path("train.py").write_text(TORCH)
    options = ["--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    launcher = [sys.executable, "-m", "torch.distributed.run", *options]
    done = run(*launcher, "train.py", argument)
    runs = Lake("lake").runs()
    assert len({record.run_id for record in runs}) == 1
    assert {record.rank for record in runs} == {0, 1}
    if argument:
        assert done.returncode == STOPPED_EXIT_CODE, done.stderr
        assert max(record.attempt for record in runs) <= 2
    else:
        assert (done.returncode, {record.state for record in runs}) == (0, {"completed"}), done.stderr
