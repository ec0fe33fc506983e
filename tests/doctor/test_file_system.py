"""What a file system is able to do, tried, and nothing left of it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from entrenar_otel.doctor.file_system import existing, is_writable, look, probe


def test_a_probe_leaves_nothing(tmp_path: Path) -> None:
    able = probe(tmp_path)
    assert able.failed == {}
    assert able.able == "rename, flock, fsync, fsync of the folder work"
    assert able.maps is not None
    assert os.listdir(tmp_path) == []


def test_a_look_writes_nothing(tmp_path: Path) -> None:
    before = tmp_path.stat()
    able = look(tmp_path)
    assert able.able == "flock, fsync of the folder work"
    assert tmp_path.stat() == before
    assert able.room.endswith(" free")


def test_what_fails_is_told_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_fd: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    able = probe(tmp_path)
    assert able.failed == {"flock": "No locks available"}
    assert able.able == "rename, fsync, fsync of the folder work"


def test_the_nearest_that_there_is(tmp_path: Path) -> None:
    assert existing(tmp_path / "a" / "b") == tmp_path
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert existing(tmp_path / "link" / "b") == tmp_path / "link"
    assert not is_writable(tmp_path / "link")
    with pytest.raises(OSError, match="No such file"):
        probe(tmp_path / "a")
