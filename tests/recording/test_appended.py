"""Where a mapping is not safe, records are appended: the same promises, and a full disk is an error."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.recording import file_systems, segment
from entrenar_otel.recording.appended import Appended
from entrenar_otel.recording.file_systems import kind_of, writes_in_place
from entrenar_otel.recording.process.lock import create_locked
from entrenar_otel.recording.segment import HEADER_BYTES, SMALLEST_BYTES, Segment, Snapshot
from tests.recording.test_segments import decode_file


@pytest.fixture
def unmapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on btrfs."""
    monkeypatch.setattr(segment, "_may_be_mapped", lambda _folder: False)


@pytest.mark.usefixtures("unmapped")
def test_what_is_appended_is_read_by_all(recorder: Any, segment_size: Callable[[int], None]) -> None:
    """Over many segments: by the owner, which reads back what is new, and by others."""
    segment_size(HEADER_BYTES + 4096)
    for i in range(300):
        recorder.log(loss=float(i))
        if i % 40 == 0:
            recorder.sync()
            assert recorder.values()[-1] == {"loss": float(i)}
    assert isinstance(recorder.segment.body, Appended)
    assert recorder.values() == [{"loss": float(i)} for i in range(300)]
    paths = sorted(recorder.folder.glob("*.seg"))
    assert len(paths) > 3
    assert [v for path in paths for v in decode_file(path)[1]] == [[float(i)] for i in range(300)]
    snapshot = Snapshot.read(paths[0])
    assert snapshot is not None
    assert snapshot.cut_bytes == 0


class Full:
    """A file that takes so many bytes more."""

    def __init__(self, body: Appended, room: int) -> None:
        self._append, self.room = body._append, room

    def __call__(self, record: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        took = min(self.room, len(record))
        self.room -= took
        return int(self._append(record[:took]) or 0)


@pytest.mark.usefixtures("unmapped")
@pytest.mark.parametrize("part", [0, 24])
def test_a_disk_that_fills_is_counted_and_said(recorder: Any, part: int, caplog: Any) -> None:
    """What went in whole is there, half a record is taken back, and recording goes on when there is room."""
    recorder.log(loss=0.0)
    body = recorder.segment.body
    body._append = Full(body, 48 * 3 + part)
    for i in range(1, 10):
        recorder.log(loss=float(i))
    path = recorder.segment.path
    assert recorder.dropped == 6
    assert len([line for line in caplog.messages if "no room" in line]) == 1
    assert decode_file(path)[1] == [[0.0], [1.0], [2.0], [3.0]]
    recorder.retry_at = recorder.segment.opened_at = 0.0  # a second later
    recorder.log(loss=10.0)
    assert recorder.dropped == 6
    assert recorder.values() == [{"loss": float(i)} for i in (0, 1, 2, 3, 10)]


@pytest.mark.usefixtures("unmapped")
def test_a_handler_s_timeout_is_no_full_disk(recorder: Any) -> None:
    """TimeoutError is an OSError: raised behind the write, it leaves, and the record is there once."""
    recorder.log(loss=0.0)

    def late(_number: int, _frame: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGUSR1, late)
    try:
        body = recorder.segment.body
        append = body._append

        def slowly(record: bytes) -> int:
            count = int(append(record))
            os.kill(os.getpid(), signal.SIGUSR1)
            return count

        body._append = slowly
        with pytest.raises(TimeoutError):
            recorder.log(loss=1.0)
        body._append = append
    finally:
        signal.signal(signal.SIGUSR1, before)
    recorder.log(loss=2.0)
    assert recorder.values() == [{"loss": 0.0}, {"loss": 1.0}, {"loss": 2.0}]
    assert body.failure is None


def test_a_process_with_small_files_gets_a_smaller_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ulimit -f`: as large as it may be, in whole pages; below the smallest there is none."""
    monkeypatch.setattr(segment, "largest_file", lambda: (8 << 20) + 5)
    made = Segment.create(tmp_path, "a", {})
    assert made.size == 8 << 20
    made.close(unlink=True)
    monkeypatch.setattr(segment, "largest_file", lambda: SMALLEST_BYTES - 1)
    with pytest.raises(OSError, match="File too large"):
        Segment.create(tmp_path, "a", {})
    assert list(tmp_path.iterdir()) == []


def test_which_file_system_a_folder_is_on(tmp_path: Path) -> None:
    """The deepest mount, of two at one place the one on top, whatever is in its name."""
    mounts = tmp_path / "mountinfo"
    inner = tmp_path / "a b"
    inner.mkdir()
    name = str(inner).replace(" ", "\\040")
    mounts.write_text(
        "1 1 0:1 / / rw shared:1 - ext4 /dev/a rw\n"
        f"2 1 0:2 / {name} rw - xfs /dev/b rw\n"
        f"3 1 0:3 / {name} rw master:1 - btrfs /dev/c rw\n"
        f"4 1 0:4 / {name}c rw - nfs4 server rw\n"
        "short - x\n"
    )
    assert kind_of(inner, mounts) == kind_of(inner / "deeper", mounts) == "btrfs"
    assert kind_of(tmp_path, mounts) == "ext4"
    assert kind_of(inner, tmp_path / "none") == ""


@pytest.fixture(params=["btrfs", "ext4"])
def disk(request: Any, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(300 << 20)
    for command in (
        [f"mkfs.{request.param}", "-q", str(image)],
        ["mount", "-o", "loop", str(image), str(folder)],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"{request.param} IS NOT TESTED HERE: {error}")
    yield request.param, folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_copy_on_write_is_found_by_name_and_by_trying(disk: tuple[str, Path]) -> None:
    """What is tried where the file system has no name of its own says the same as the name."""
    kind, folder = disk
    assert kind_of(folder) == kind
    assert writes_in_place(folder) is (kind == "ext4")
    assert file_systems._stays_where_it_is(folder) is (kind == "ext4")
    assert [path for path in folder.iterdir() if path.suffix == ".probe"] == []


FORK = """
import os, sys, threading, time
from pathlib import Path
from entrenar_otel.recording.process.lock import create_locked
path = Path(sys.argv[1])
file = create_locked(path)
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.read()
    os._exit(0)
os._exit(0)
"""


def test_a_child_lets_go_of_what_nobody_told_it_of(tmp_path: Path) -> None:
    """A fork while a run begins: the parent's lock does not live on in the child."""
    import fcntl

    path = tmp_path / "p.lock"
    with subprocess.Popen(
        [sys.executable, "-c", FORK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "child\n"
        assert parent.wait(100) == 0
        with path.open("rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(FileExistsError):
        create_locked(path)
