"""A judged run whose clock the test moves, and real training processes to give commands to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import errors
from entrenar_otel.andon import incidents
from entrenar_otel.lake import Lake
from entrenar_otel.testing import Kit, kit

LOOP = """\
import os, signal, sys, threading, time
from entrenar_otel import AndonStop, Monitor
from entrenar_otel.testing import open_run, recorded_run
"""

Judged = Callable[..., contextlib.AbstractContextManager[Kit]]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """`judged(toml)`: a kit with these settings, whose stops wait for a slow disk."""
    monkeypatch.setattr(incidents, "ANSWER_SECONDS", 60.0)

    def make(toml: str = "", **settings: Any) -> contextlib.AbstractContextManager[Kit]:
        file = tmp_path / "renacer.toml"
        file.write_text(textwrap.dedent(toml))
        return kit(tmp_path, settings_file=file, **settings)

    return make


class Trainer:
    """A process that runs a script; what it prints is read line by line."""

    def __init__(self, script: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOOP + textwrap.dedent(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ENTRENAR_LAKE": os.path.abspath("lake")} | environment,
            start_new_session=True,
        )

    def expect(self, line: str) -> None:
        assert self.process.stdout is not None
        heard = self.process.stdout.readline().strip()
        assert heard == line, (heard, self.end() if not heard else None)

    def hear_error(self, word: str) -> str:
        """The next line of its error output that has this word."""
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if word in line:
                return line.strip()
        raise AssertionError(f"never said {word!r}: {seen}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, timeout_seconds: float = 200.0) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=timeout_seconds)
        return self.process.returncode, out, err


@pytest.fixture
def train() -> Iterator[Callable[..., Trainer]]:
    """`train(script)`: a process; the lake is `lake`."""
    made: list[Trainer] = []

    def start(script: str, **environment: str) -> Trainer:
        made.append(Trainer(script, **environment))
        return made[-1]

    yield start
    for one in made:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.communicate()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command(*arguments)`: entrenar-otel in this process, which is another than the training's."""
    from entrenar_otel.cli.main import main

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setenv("ENTRENAR_LAKE", os.path.abspath("lake"))
            patch.setattr(sys, "argv", ["entrenar-otel", *arguments])
            with pytest.raises(SystemExit) as exit_:
                main()
        code = exit_.value.code
        return subprocess.CompletedProcess(
            arguments, code if isinstance(code, int) else 0, *capsys.readouterr()
        )

    return call


@pytest.fixture
def until() -> Callable[..., None]:
    """`until(true)`: wait until it is."""

    def wait(true: Callable[[], Any], timeout_seconds: float = 100.0) -> None:
        end = time.monotonic() + timeout_seconds
        while not true():
            assert time.monotonic() < end, "did not happen in time"
            time.sleep(0.01)

    return wait


@pytest.fixture
def state_of() -> Callable[..., tuple[str, str | None]]:
    """`state_of(run_id)`: how the run stands in the lake, and why."""

    def find(run_id: str, lake: str | Path = "lake") -> tuple[str, str | None]:
        record = [one for one in Lake(lake).runs() if one.run_id == run_id][-1]
        return record.state, record.reason

    return find


@pytest.fixture
def lenient() -> Iterator[Callable[[], None]]:
    """Call it, and failures of our own are logged and counted from there on, as in production."""
    errors.failures.clear()

    def be_lenient() -> None:
        errors.set_strict(False)

    yield be_lenient
    errors.failures.clear()
