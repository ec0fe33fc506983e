"""The command `doctor` as a whole, in surroundings that are not as they should be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entrenar_otel.cli import doctor
from entrenar_otel.doctor import report
from entrenar_otel.doctor.check import Check

Cli = Callable[..., Any]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def process(*arguments: str, **environ: str | None) -> Answer:
    """The command in a process of its own; a variable that is None is taken away."""
    env = {name: value for name, value in (os.environ | environ).items() if value is not None}
    command = [sys.executable, "-m", "entrenar_otel.cli.main", "doctor", "--no-cost", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_for_people_and_for_machines(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 0 without a problem; nothing is made in the working folder."""
    monkeypatch.setattr(report, "measure", lambda: iter([Check("a step", "19 µs", facts={"percent": 1.9})]))
    answer = cli("doctor")
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if line in doctor.TITLES.values()] == [
        *doctor.TITLES.values()
    ]
    assert "lake (ENTRENAR_LAKE): the first run makes it" in " ".join(answer.out.split())
    assert "a step         19 µs" in answer.out
    document = json.loads(cli("doctor", "--json").out)
    assert (document["ok"], document["problems"]) == (True, 0)
    assert document["checks"][-1] == {
        "part": "cost",
        "name": "a step",
        "text": "19 µs",
        "level": "ok",
        "advice": "",
        "facts": {"percent": 1.9},
    }
    assert os.listdir() == []


def test_a_problem_is_exit_code_1(cli: Cli) -> None:
    Path("file").write_text("")
    answer = cli("doctor", "--no-cost", "--lake", "file")
    assert answer.code == 1
    assert "✗ lake" in answer.out
    assert "What it costs here" not in answer.out
    assert answer.out.splitlines()[-1].startswith("1 problem, ")


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"HOME": "/nonexistent", "XDG_STATE_HOME": None, "ENTRENAR_LIVE": None}, "The live folder"),
        ({"HOME": None, "TMPDIR": "/proc/none", "ENTRENAR_LIVE": "/proc/none"}, "a private one"),
        ({"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1", "TERM": "dumb"}, "+ lake"),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", "ENTRENAR_LAKE": "nosuch://x"}, "nosuch://x"),
        ({"COLUMNS": "20"}, "The lake"),
    ],
)
def test_hostile_surroundings(environ: dict[str, str | None], told: str) -> None:
    """It says what it finds, and never fails."""
    answer = process(**environ)
    assert answer.code in (0, 1)
    assert "Traceback" not in answer.out + answer.err
    assert told in answer.out


def test_closed_streams() -> None:
    """Without stdin and stderr; and where nobody reads what it says."""
    line = f"{sys.executable} -m entrenar_otel.cli.main doctor --no-cost"
    for shell, code in ((f"{line} <&- 2>&-", 0), (f"{line} | head -c 1 >/dev/null", 0)):
        done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=200, check=False)
        assert (done.returncode, done.stderr) == (code, "")


def test_what_hangs_does_not_keep_the_process() -> None:
    """A settings-given lake on a server that takes a connection and says nothing."""
    code = """
import sys, threading
from entrenar_otel.doctor import report
report.PARTS.clear()
def hangs(_):
    threading.Event().wait()
    yield
report.PARTS["lake"] = hangs
report.examine.__kwdefaults__["part_seconds"] = 0.1
sys.argv = ["entrenar-otel", "doctor", "--no-cost"]
from entrenar_otel.cli.main import main
threading._register_atexit(threading.Event().wait)  # as pyarrow waits for a request
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "no answer within 0.1 s" in done.stdout
