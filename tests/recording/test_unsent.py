"""Unsent: the watermark, segments that must still leave, and who may send them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.recording.unsent import (
    SendingLock,
    SentFile,
    Watermark,
    keep_unsent,
    leaves,
    number_of,
    read_watermark,
    segment_files,
    write_watermark,
)

PROCESS = "host-1-0123456789abcdef"
HEADER = {"process": PROCESS, "number": 4, "otlp": {"samples": "off"}}


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / f"{PROCESS}-000004.seg"
    path.write_bytes(b"content")
    return path


@given(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_a_watermark_comes_back(segment: int, offset: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_watermark(Path(folder), PROCESS, Watermark(segment, offset))
        assert read_watermark(Path(folder), PROCESS) == (segment, offset)


MARKS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, (1 << 63) - 1) | st.integers(0, 999)), max_size=8
)


@given(MARKS)
def test_each_that_is_stated_comes_back(marks: list[tuple[int, int]]) -> None:
    """Longer or shorter than the one before; nothing else is left there."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = SentFile(Path(folder), PROCESS)
        for mark in marks:
            file.write(Watermark(*mark))
            assert read_watermark(Path(folder), PROCESS) == mark
            assert [path.name for path in Path(folder).iterdir()] == [f"{PROCESS}.sent"]
        file.close()


def test_within_a_segment_it_is_the_same_file(tmp_path: Path) -> None:
    """Of another segment it is a new one: who reads the number meanwhile finds one of the two."""
    file, path = SentFile(tmp_path, PROCESS), tmp_path / f"{PROCESS}.sent"
    file.write(Watermark(9, 64))
    with path.open("rb") as first:
        file.write(Watermark(9, 1 << 40))
        assert json.loads(first.read()) == {"segment": 9, "offset": 1 << 40}
        file.write(Watermark(10, 0))
        first.seek(0)
        assert json.loads(first.read())["segment"] == 9
    assert read_watermark(tmp_path, PROCESS) == (10, 0)
    file.close()
    file.write(Watermark(10, 8))  # as good as before
    assert read_watermark(tmp_path, PROCESS) == (10, 8)
    file.close()


def test_one_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Also where another file, or a link, is in its place: that is not written through."""
    file, path = SentFile(tmp_path, PROCESS), tmp_path / f"{PROCESS}.sent"
    file.write(Watermark(1, 64))
    path.unlink()
    file.write(Watermark(1, 128))
    assert read_watermark(tmp_path, PROCESS) == (1, 128)
    path.unlink()
    (tmp_path / "other").write_bytes(b"mine")
    path.symlink_to(tmp_path / "other")
    file.write(Watermark(1, 192))
    assert read_watermark(tmp_path, PROCESS) == (1, 192)
    assert (tmp_path / "other").read_bytes() == b"mine"
    file.close()


@given(st.binary(max_size=60) | st.just(b'{"segment": 1, "offset": 9223372036854775808}') | st.just(b"[]"))
def test_one_that_is_torn_is_none(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{PROCESS}.sent").write_bytes(data)
        assert read_watermark(Path(folder), PROCESS) == Watermark()


def test_without_a_watermark_nothing_is_acknowledged(tmp_path: Path) -> None:
    assert read_watermark(tmp_path, PROCESS) == Watermark() == (0, 0)


@pytest.mark.parametrize(
    ("mark", "is_kept"),
    [(None, True), (Watermark(4, 100), True), (Watermark(5, 0), False), (Watermark(3, 9), True)],
)
def test_a_segment_is_kept_until_it_is_acknowledged(
    segment: Path, mark: Watermark | None, is_kept: bool
) -> None:
    if mark is not None:
        write_watermark(segment.parent, PROCESS, mark)
    assert keep_unsent(segment, HEADER) is is_kept
    assert segment.exists() is not is_kept
    assert segment.with_suffix(".unsent").exists() is is_kept


def test_a_segment_that_does_not_leave_is_not_kept(segment: Path) -> None:
    assert not keep_unsent(segment, {**HEADER, "otlp": None})
    assert segment.exists()
    assert [leaves(header) for header in ({}, {"otlp": 1}, HEADER)] == [False, False, True]


def test_a_copy_has_both_names(segment: Path) -> None:
    """Twice, too: recovery that was killed in between does it again."""
    for _ in range(2):
        assert keep_unsent(segment, HEADER, copy=True)
    assert segment.samefile(segment.with_suffix(".unsent"))


def test_names(tmp_path: Path) -> None:
    """What has another form is nobody's segment."""
    for name in (
        f"{PROCESS}-000000.unsent",
        f"{PROCESS}-000011.unsent",
        f"{PROCESS}-000002.seg",
        f"{PROCESS}-x.unsent",
        f"{PROCESS}.unsent",
        "…-000001.unsent",
        "-1.unsent",
    ):
        (tmp_path / name).write_bytes(b"")
    assert {process: sorted(files) for process, files in segment_files(tmp_path, ".unsent").items()} == {
        PROCESS: [0, 11]
    }
    assert segment_files(tmp_path / "gone", ".unsent") == {}
    assert number_of(tmp_path / f"{PROCESS}-000011.unsent") == (PROCESS, 11)


def test_one_at_a_time(tmp_path: Path) -> None:
    """In this process, and in another."""
    lock = SendingLock.take(tmp_path, PROCESS)
    assert lock is not None
    assert SendingLock.take(tmp_path, PROCESS) is None
    script = (
        "import sys; from pathlib import Path; from entrenar_otel.recording.unsent import SendingLock\n"
        "print(SendingLock.take(Path(sys.argv[1]), sys.argv[2]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path), PROCESS]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "None"
    lock.release(unlink=False)
    again = SendingLock.take(tmp_path, PROCESS)
    assert again is not None
    write_watermark(tmp_path, PROCESS, Watermark(1, 2))
    again.release(unlink=True)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_is_made_again(tmp_path: Path) -> None:
    """Else somebody else would take it, and send the same."""
    lock = SendingLock.take(tmp_path, PROCESS)
    assert lock is not None
    path = tmp_path / f"{PROCESS}.sending"
    before = path.stat().st_ino
    lock.restore()
    assert path.stat().st_ino == before
    path.unlink()
    lock.restore()
    assert SendingLock.take(tmp_path, PROCESS) is None
    lock.release(unlink=True)
    assert not path.exists()


def test_it_is_not_made_again_where_somebody_has_taken_it(tmp_path: Path) -> None:
    lock = SendingLock.take(tmp_path, PROCESS)
    assert lock is not None
    (tmp_path / f"{PROCESS}.sending").unlink()
    other = SendingLock.take(tmp_path, PROCESS)
    assert other is not None
    with pytest.raises(FileExistsError):
        lock.restore()
    lock.release(unlink=False)
    other.release(unlink=True)
