"""The file by which another process stops, pauses and resumes a run: read whole, once, or refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from entrenar_otel.recording.process.control import (
    Command,
    CommandRequest,
    ControlFile,
    control_path,
    is_paused,
    send,
)


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", b"\xff" * 50, b"null", b"[1]", b'{"command": "halt"}', b"[" * 4000, b"x" * 100_000],
)
def test_what_is_not_a_command_is_refused(tmp_path: Path, data: bytes) -> None:
    """Said with the file's name, and taken away."""
    file, path = ControlFile(tmp_path, "p"), control_path(tmp_path, "p")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=re.escape(f"{path} is not a command")):
        file.take()
    assert file.take() is None
    assert not path.exists()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe does not keep the heartbeat waiting, a link is not followed, a folder is said once."""
    file, path = ControlFile(tmp_path, "p"), control_path(tmp_path, "p")
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is not a command"):
        file.take()
    (tmp_path / "elsewhere").write_text('{"command": "stop"}')
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is not a command: expected a file, found a link"):
        file.take()
    path.mkdir()
    with pytest.raises(ValueError, match="is not a command: expected a file, found a folder"):
        file.take()
    assert file.take() is None
    path.rmdir()
    send(tmp_path, "p", Command.PAUSE)
    assert getattr(file.take(), "command", None) == Command.PAUSE


def test_a_command_as_it_is_sent(tmp_path: Path) -> None:
    """Whole, once, the last one; what is long is cut."""
    file = ControlFile(tmp_path, "p")
    send(tmp_path, "p", Command.STOP)
    send(tmp_path, "p", Command.PAUSE, "ü" * 600)
    request = file.take()
    assert request is not None
    assert (request.command, request.reason) == (Command.PAUSE, "ü" * 499 + "…")
    assert re.fullmatch(r".+ \(pid \d+\)", request.by)
    assert file.take() is None
    assert list(tmp_path.iterdir()) == []
    assert str(CommandRequest(Command.STOP, "me")) == "stop requested by me"


def test_what_others_may_write_is_cut(tmp_path: Path) -> None:
    """A name and a reason of any length fit on a line, and show that they were cut."""
    document = {"command": "stop", "by": "x" * 200, "reason": "y" * 2000}
    control_path(tmp_path, "p").write_text(json.dumps(document))
    request = ControlFile(tmp_path, "p").take()
    assert request == CommandRequest(Command.STOP, "x" * 99 + "…", "y" * 499 + "…")


def test_the_end_of_a_run_leaves_nothing(tmp_path: Path) -> None:
    """Neither a command that nobody read, nor the word that it is paused."""
    file = ControlFile(tmp_path, "p")
    file.set_paused(True)
    assert is_paused(tmp_path, "p")
    send(tmp_path, "p", Command.STOP)
    file.close()
    assert not is_paused(tmp_path, "p")
    assert list(tmp_path.iterdir()) == []
