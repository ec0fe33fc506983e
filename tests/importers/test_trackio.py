"""Trackio: values are those that its own storage gives, of projects that it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Answer

_PROGRAM = """
import trackio
trackio.init(project="digits", name="one", config={"lr": 0.1, "optimizer": {"name": "adam"}})
for step in range(40):
    trackio.log({"loss": 1 / (step + 1), "epoch": step // 10, "opt": {"lr": 0.1 * step}, "word": "x"})
trackio.log({"loss": float("nan"), "other": float("inf")})
trackio.finish()
"""
_THEIRS = """
import json
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("digits", "one")
print(json.dumps([[row["step"], str(row["timestamp"]), repr(row.get("loss"))] for row in rows]))
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project in a folder of its own, which is read as trackio is imported: hence other processes."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _import(*arguments: str) -> Answer:
    command = [
        sys.executable,
        "-m",
        "entrenar_otel.cli.main",
        "import",
        "trackio",
        "--lake",
        "lake",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.usefixtures("written")
def test_curves_are_those_of_its_own_storage(
    curve: Callable[..., list[Any]], cli: Callable[..., Answer]
) -> None:
    answer = _import("digits")
    assert (answer.code, answer.err) == (0, "")
    assert "40 × text" in answer.out
    theirs = json.loads(subprocess.check_output([sys.executable, "-c", _THEIRS], text=True))
    ours = [
        [step, datetime.fromtimestamp(at / 1e6, UTC).isoformat(), repr(value)]
        for step, at, value in curve("loss")
    ]
    for row in theirs:
        row[1] = datetime.fromisoformat(row[1]).astimezone(UTC).isoformat()
    assert ours == theirs
    assert len(ours) == 41
    assert [value for _, _, value in curve("opt.lr")] == [0.1 * i for i in range(40)]
    assert "there already" in _import().out
    (run,) = json.loads(cli("--json", "ls").out)
    assert run["state"] == "completed"


@pytest.mark.usefixtures("written")
def test_a_project_that_is_not_there() -> None:
    answer = _import("letters")
    assert answer.code == 2
    assert "there are: digits" in answer.err
