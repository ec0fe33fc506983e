"""Only regular files are opened, and nothing is waited for."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from entrenar_otel.recording.plain_file import is_plain, open_plain, read_plain, write_whole
from entrenar_otel.recording.process.lock import is_held, try_lock


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))  # a socket's path may be short only


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link": lambda path: path.symlink_to(__file__),
    "a socket": bind,
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    """The error names it; nobody takes it for a lock either."""
    path = tmp_path / "x"
    ODD[kind](path)
    with pytest.raises(OSError, match=f"expected a file, found {kind}") as raised:
        os.close(open_plain(path))
    assert str(path) in str(raised.value)
    assert not is_plain(path)
    assert try_lock(path) is None
    assert not is_held(path)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1234")
    assert read_plain(path, 4) == b"1234"
    with pytest.raises(OSError, match="it has 4 bytes, at most 3 were expected"):
        read_plain(path, 3)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "y", 3)
    assert is_plain(path)
    assert not is_plain(tmp_path / "y")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mode that is given, in place of what was there, which stays where that fails."""
    path = tmp_path / "a"
    write_whole(path, b"one")
    write_whole(path, b"two", mode=0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o600)

    def refuse(_path: str, _target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"three")
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == b"two"
