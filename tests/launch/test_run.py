"""`entrenar-otel run`: exit codes, the record of programs that know nothing of us, AndonStop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.launch.program import Ended
from entrenar_otel.launch.run import STOPPED_EXIT_CODE, _Watch
from entrenar_otel.run.supervisor import VARIABLE, Note, tell

Run = Callable[..., Any]
NAN = """
import sys
from entrenar_otel import AndonStop, Monitor

monitor = Monitor(model_id="digits").start()
try:
    for step in range(10):
        monitor.log(loss=1.0 if step < 5 else float("nan"), step=step)
except AndonStop:
    if "handled" in sys.argv:
        monitor.close()
        sys.exit(0)
    raise
"""


def states() -> list[tuple[str, str | None]]:
    return [(run.state, run.reason) for run in Lake("lake").runs()]


@pytest.mark.parametrize(
    ("command", "code", "state", "reason"),
    [
        ("exit 0", 0, "completed", None),
        ("exit 3", 3, "crashed", "exit code 3"),
        ("kill -9 $$", -signal.SIGKILL, "crashed", "SIGKILL"),
        ("kill -SEGV $$", -signal.SIGSEGV, "crashed", "SIGSEGV"),
        ("kill $$", -signal.SIGTERM, "stopped", "SIGTERM"),
        ("exit 143", 143, "stopped", "SIGTERM, exit code 143"),
    ],
)
def test_a_program_that_knows_nothing_of_us(
    run: Run, command: str, code: int, state: str, reason: str | None
) -> None:
    """It ends as it ends alone, its stdout is its own, and the lake has a run: when, what, how it ended."""
    done = run("sh", "-c", f"echo out; echo err >&2; {command}", options=("--run-id", "r"))
    assert (done.returncode, done.stdout) == (code, "out\n")
    assert done.stderr.splitlines()[0] == "err"
    (record,) = Lake("lake").runs()
    assert (record.run_id, record.attempt, record.state, record.reason) == ("r", 1, state, reason)
    assert record.argv[:2] == ["sh", "-c"]
    assert record.ended_at is not None
    assert record.ended_at >= record.started_at
    assert list(Path("live").glob("*.lock")) == []


def test_secrets_of_the_command_line(run: Run) -> None:
    """They reach neither the lake nor the terminal."""
    done = run("true", "--api-key", "hunter2hunter2", "token=abcdef123456")
    assert Lake("lake").runs()[0].argv == ["true", "--api-key", "[redacted]", "token=[redacted]"]
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("nosuch-program", 127, "entrenar-otel run: nosuch-program: not found\n"),
        ("train.sh", 127, "train.sh: not found in PATH: write ./train.sh, or python train.sh"),
        ("./train.py", 126, "./train.py: permission denied: write python ./train.py"),
        ("./odd", 126, "./odd: not a program: its first line names no interpreter"),
        ("/", 126, "/: is a folder"),
    ],
)
def test_what_cannot_be_started(run: Run, command: str, code: int, told: str) -> None:
    """The exit codes of shells, one line, and no run."""
    for name, mode in (("train.py", 0o644), ("train.sh", 0o644), ("odd", 0o755)):
        Path(name).write_text("print(1)\n")
        os.chmod(name, mode)
    done = run(command)
    assert (done.returncode, done.stdout) == (code, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("lake").exists()


def test_a_program_that_records_has_one_run(run: Run) -> None:
    """Its own, under the id that was made for it, with the model's name from the call."""
    code = "from entrenar_otel import Monitor\nwith Monitor(quiet=True) as m: m.log(loss=1.0)"
    done = run(sys.executable, "-c", code, options=("--run-id", "r", "--model-id", "digits"))
    assert (done.returncode, done.stdout) == (0, "")
    assert "the program recorded nothing itself" not in done.stderr
    (record,) = Lake("lake").runs()
    assert (record.run_id, record.model_id, record.state) == ("r", "digits", "completed")


def test_a_plain_script_is_recorded(run: Run) -> None:
    """Plain meters, by the name of the script; the environment that it sees is as it was, but for ours."""
    Path("train.py").write_text(
        "import sys\nfrom opentelemetry import metrics\n"
        "loss = metrics.get_meter('mine').create_gauge('loss')\n"
        "for step in range(100): loss.set(1.0, {'step': step})\n"
        "print([path for path in sys.path if path.endswith('site')])\n"
    )
    done = run(sys.executable, "train.py")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    lake = Lake("lake")
    assert lake.query("SELECT metric, count(*) AS n FROM metrics GROUP BY 1").to_pylist() == [
        {"metric": "loss", "n": 100}
    ]
    assert [(record.model_id, record.state) for record in lake.runs()] == [("train", "completed")]


def test_a_killed_program_that_recorded(run: Run) -> None:
    """Its samples and its end are in the lake when the command is over, without another run."""
    code = (
        "import os\nfrom opentelemetry import metrics\n"
        "loss = metrics.get_meter('mine').create_gauge('training.loss')\n"
        "for step in range(100): loss.set(1.0)\nos.kill(os.getpid(), 9)"
    )
    assert run(sys.executable, "-c", code).returncode == -signal.SIGKILL
    lake = Lake("lake")
    assert [record.state for record in lake.runs()] == ["crashed"]
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 100}]


@pytest.mark.parametrize("argument", ["", "handled"])
def test_a_nan_is_86(run: Run, argument: str) -> None:
    """Where AndonStop ended the run, also where the program caught it and went on to a good end."""
    Path("train.py").write_text(NAN)
    done = run(sys.executable, "train.py", argument)
    assert done.returncode == STOPPED_EXIT_CODE == 86
    assert "was stopped: exit code 86 instead of exit code" in done.stderr
    assert [state for state, _ in states()] == ["stopped"]


def test_switched_off(run: Run) -> None:
    """ENTRENAR_DISABLED: the program runs, and nothing else."""
    done = run("sh", "-c", "echo out; exit 4", ENTRENAR_DISABLED="1")
    assert (done.returncode, done.stdout, done.stderr) == (4, "out\n", "")
    assert not Path("lake").exists()


def test_a_lake_that_cannot_be_written(run: Run) -> None:
    """One warning, and the program's own exit code."""
    Path("lake").write_text("a file")
    done = run("sh", "-c", "exit 4")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr


def test_bytes_pass_untouched(environ: dict[str, str]) -> None:
    """What goes in through stdin comes out of stdout: every byte, a megabyte of them."""
    data = bytes(range(256)) * 4096

    done = subprocess.run(
        [sys.executable, "-m", "entrenar_otel.cli.main", "run", "--", "cat"],
        input=data,
        env=environ,
        capture_output=True,
        timeout=400,
    )
    assert (done.returncode, done.stdout == data) == (0, True)


def test_the_programs_own_sitecustomize(run: Run, environ: dict[str, str]) -> None:
    """It runs as ever, and is the module of that name."""
    Path("own").mkdir()
    Path("own/sitecustomize.py").write_text("mark = 'mine'\n")
    path = f"{Path('own').resolve()}{os.pathsep}{environ['PYTHONPATH']}"
    done = run(sys.executable, "-c", "import sitecustomize; print(sitecustomize.mark)", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (0, "mine\n")


def test_a_python_without_us(run: Run, environ: dict[str, str]) -> None:
    """Another environment's Python, where the package is not: it runs, and says nothing."""
    code = "import sys; print('entrenar_otel' in sys.modules, 'opentelemetry' in sys.modules)"
    done = run("env", "OTEL_PYTHON_METER_PROVIDER=entrenar", sys.executable, "-S", "-c", code)
    assert (done.returncode, done.stdout) == (0, "False False\n")


class Ours(NamedTuple):
    """A program and its record, of which nothing is asked but that they end."""

    signals: list[int]

    def send(self, number: int) -> None:
        self.signals.append(number)

    def withdraw(self) -> None:
        """There is another."""

    def end(self, _state: str, _reason: str | None) -> bool:
        return False


def test_started_again_and_ended_before_it_comes_to_the_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We end the launcher, which dies as it likes: it is 86 all the same."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    tell(Note("a", 1, "r", 1, started=1.0, state="stopped", is_stop=True))
    program: Any = Ours([])
    watch = _Watch(program, tmp_path, program)
    watch.look()
    assert program.signals == []
    tell(Note("b", 2, "r", 1, started=2.0))
    watch.look()
    watch.look()
    assert program.signals == [signal.SIGTERM]
    tell(Note("b", 2, "r", 1, started=2.0, state="stopped"))  # by SIGTERM, in its first steps
    assert watch.end(Ended(1), "r").exit_code == STOPPED_EXIT_CODE


def test_started_again_with_another_run_it_is_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sweep does, whose first trial came to a NaN."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    tell(Note("a", 1, "r", 0, started=1.0, state="stopped", is_stop=True))
    tell(Note("b", 2, "r-2", 0, started=2.0, state="completed"))
    program: Any = Ours([])
    watch = _Watch(program, tmp_path, program)
    watch.look()
    assert (watch.end(Ended(0), "r").exit_code, program.signals) == (0, [])
