"""Target files: what Prometheus discovers, as long as the page is there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_otel.identity.process import new_process_name
from entrenar_otel.prometheus.targets import TargetFile

KILLED = """
import sys, signal, os
from pathlib import Path
from entrenar_otel.prometheus.targets import TargetFile
file = TargetFile(Path(sys.argv[1]), "killed")
file.write("localhost:9", "http")
os.kill(os.getpid(), signal.SIGKILL)
"""


def file_in(folder: Path) -> TargetFile:
    return TargetFile(folder, new_process_name())


def test_a_file_lives_with_its_page(tmp_path: Path) -> None:
    """It is what file_sd reads, and nothing else lies beside it."""
    file = file_in(tmp_path / "targets")
    file.write("localhost:41234", "http")
    assert json.loads(file.path.read_text()) == [{"targets": ["localhost:41234"], "labels": {}}]
    assert list(file.path.parent.iterdir()) == [file.path]
    file.remove()
    file.remove()
    assert not file.path.exists()


def test_https(tmp_path: Path) -> None:
    """The scheme is a label that Prometheus knows."""
    file = file_in(tmp_path)
    file.write("[::1]:1", "https")
    assert json.loads(file.path.read_text())[0]["labels"] == {"__scheme__": "https"}
    file.remove()


def test_what_a_killed_process_left(tmp_path: Path) -> None:
    """Is removed by the next; files of the living and of others stay."""
    left = tmp_path / "entrenar-killed.json"
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert left.exists()
    theirs = tmp_path / "node.json"
    theirs.write_text("[]")
    living, mine = file_in(tmp_path), file_in(tmp_path)
    living.write("localhost:1", "http")
    mine.write("localhost:2", "http")
    assert {*tmp_path.iterdir()} == {theirs, living.path, mine.path}
    living.remove()
    mine.remove()


def test_a_folder_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Is said, with the variable; the page goes on."""
    (tmp_path / "file").touch()
    file = file_in(tmp_path / "file")
    file.write("localhost:1", "http")
    file.remove()
    (record,) = caplog.records
    assert "Set ENTRENAR_METRICS_TARGETS to a folder" in record.getMessage()
