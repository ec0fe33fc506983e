"""The live folder: one of this user's own, where the usual one cannot be."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.recording import appended, segment
from entrenar_otel.recording.live_folder import tell_second_choice, usable_live


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder, and no other place for live segments."""
    monkeypatch.delenv("ENTRENAR_LIVE")
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_fallback_is_closed_to_others(temporary: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said where it is, and the next run finds it again."""
    live = usable_live(None)
    assert live == temporary / f"entrenar-{os.geteuid()}" / "live"
    assert stat.S_IMODE(live.parent.stat().st_mode) == 0o700
    assert caplog.text == ""  # who only reads has nothing to know
    tell_second_choice(live)
    tell_second_choice(live)
    assert caplog.text.count(f"live segments are kept in {live}") == 1
    live.parent.chmod(0o755)  # as an earlier version made it
    assert usable_live(None) == live
    assert stat.S_IMODE(live.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("found", ["another user's", "open to all", "a link", "a file"])
def test_a_name_that_was_taken_is_not_used(
    temporary: Path, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody may make any name in the temporary folder, and wait for our segments there."""
    usual = temporary / f"entrenar-{os.geteuid()}"
    if found == "a link":
        (temporary / "target").mkdir(mode=0o700)
        usual.symlink_to(temporary / "target")
    elif found == "a file":
        usual.touch()
    else:
        (usual / "live").mkdir(parents=True)
        usual.chmod(0o777 if found == "open to all" else 0o755)
        if found == "another user's":
            if os.geteuid():
                pytest.skip("OTHER USERS ARE NOT TESTED HERE: only root can give a folder away")
            os.chown(usual, 65534, 65534)
    live = usable_live(None)
    assert live.parent.parent == temporary
    assert live.parent != usual
    assert stat.S_IMODE(live.parent.stat().st_mode) == 0o700
    assert f"{usual} is not used: expected a folder" in caplog.text
    assert usable_live(None) == live


def test_a_folder_that_was_named_has_no_fallback(temporary: Path) -> None:
    """What the user chose is used, or refused."""
    with pytest.raises(PermissionError, match="no folder for live segments: /proc/none is not writable"):
        usable_live(Path("/proc/none"))
    assert list(temporary.iterdir()) == []


def test_a_file_system_without_locks_has_a_fallback(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where it is not writable; where no folder has locks, what is lacking is named."""
    usual = temporary.parent / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(usual))
    flock = fcntl.flock

    def no_locks(fd: int, operation: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").startswith(lockless):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lockless = str(usual)
    live = usable_live(None)
    assert live.parent.parent == temporary
    tell_second_choice(live)
    assert "has no file locks" in caplog.text
    assert list(live.iterdir()) == []
    lockless = "/"
    with pytest.raises(PermissionError, match=r"has no file locks.*Set ENTRENAR_LIVE"):
        usable_live(None)


def test_a_quota_names_the_folder_and_the_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(appended, "reserve", full)
    monitor = Monitor("run", quiet=True)
    monitor.log(loss=1.0)
    monitor.close()
    for thread in threading.enumerate():  # a run that cannot record does not wait for it
        if thread.name == "entrenar-lake":
            thread.join(60)
    assert f"{monitor.lake.live} cannot hold live segments (Disk quota exceeded)" in caplog.text
    assert "Set ENTRENAR_LIVE" in caplog.text


def test_a_file_system_that_maps_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are appended there."""

    def unable(*_: Any) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr(mmap, "mmap", unable)
    made = segment.Segment.create(tmp_path, "name", {})
    assert isinstance(made.body, appended.Appended)
    made.close(unlink=True)
