"""Segments: allocated before mapped, locked by their owner, and read without trust."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from entrenar_processors import Series

from entrenar_otel.clock import Era
from entrenar_otel.recording import segment as module
from entrenar_otel.recording.header import NewerFormat, SegmentError
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.mapped import Mapped
from entrenar_otel.recording.process.lock import ProcessLock, is_held, try_lock
from entrenar_otel.recording.segment import (
    HEADER_BYTES,
    SEGMENT_BYTES,
    SMALLEST_BYTES,
    Segment,
    Snapshot,
    eras_of,
)

pytestmark = pytest.mark.usefixtures("core")

HEADER = {"process": "p", "run_id": "r", "clock_ns": 5}
RECORD = Layout(1, (Series("loss"),)).definition


def make(folder: Path, *, size: int = HEADER_BYTES + 4096, first_seq: int = 0) -> Segment:
    segment = Segment.create(folder, "hidden", HEADER, size)
    segment.begin(3, first_seq)
    segment.install("p-000003")
    return segment


def test_a_segment_is_hidden_until_installed_and_then_whole(tmp_path: Path) -> None:
    """Readers never see a file without a header; every block of it is allocated."""
    segment = Segment.create(tmp_path, "hidden", HEADER)
    assert [p.name for p in tmp_path.iterdir()] == [".hidden.new"]
    assert os.fstat(segment.fd).st_blocks * 512 >= SEGMENT_BYTES
    segment.begin(3, first_seq=77)
    assert [p.name for p in tmp_path.iterdir()] == [".hidden.new"]
    for _ in range(2):  # a signal handler may have done it already
        segment.install("p-000003")
    assert [p.name for p in tmp_path.iterdir()] == ["p-000003.seg"]
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert (snapshot.process, snapshot.number, snapshot.first_seq) == ("p", 3, 77)
    assert snapshot.header == {**HEADER, "format": 1, "number": 3, "bytes": SEGMENT_BYTES}
    assert (len(snapshot.words) * 8, snapshot.cut_bytes) == (SEGMENT_BYTES, 0)
    assert not snapshot.words[HEADER_BYTES // 8 :].any()
    segment.close()


def test_a_write_that_does_not_fit_writes_nothing(tmp_path: Path) -> None:
    """The error is the signal to roll: the segment must be as it was."""
    segment = make(tmp_path)
    while segment.position() + len(RECORD) <= segment.size:
        segment.write(RECORD)
    before = segment.words().copy()
    with pytest.raises(ValueError, match="out of range"):
        segment.write(RECORD)
    assert (segment.words() == before).all()
    assert segment.position() + len(RECORD) > segment.size
    segment.close()


def test_a_sealed_segment_refuses_writes_and_keeps_its_end(tmp_path: Path) -> None:
    """After the seal nothing can follow what was counted, not even through a kept `write`."""
    segment = make(tmp_path)
    write = segment.write
    write(RECORD)
    end = segment.seal()
    assert end == segment.position() == segment.seal() == HEADER_BYTES + len(RECORD)
    with pytest.raises(ValueError, match="out of range"):
        write(RECORD)
    segment.close()
    with pytest.raises(ValueError, match="closed"):
        write(RECORD)


def test_seal_finds_what_another_thread_wrote_between_its_two_calls(tmp_path: Path) -> None:
    """The position may be outdated by the time that writing stops."""
    segment = make(tmp_path)
    segment.write(RECORD)
    assert isinstance(segment.body, Mapped)
    body, words = segment.body, segment.words()
    position = body.position

    def outdated() -> int:
        """The position, and a thread that writes twice right after that."""
        at = position()
        body.write(RECORD + RECORD)
        return at

    body.position = outdated  # type: ignore[method-assign]
    segment.words = lambda: words  # type: ignore[method-assign]
    assert segment.seal() == HEADER_BYTES + 3 * len(RECORD)
    segment.close()


def test_every_damaged_byte_of_the_header_is_noticed(tmp_path: Path) -> None:
    """Whose rows these are and which `seq` they have must be right or refused."""
    segment = make(tmp_path, first_seq=2**40 + 5)
    length = 32 + len(json.dumps(segment.header))
    data = bytearray(segment.words().tobytes())
    segment.close()
    for at in range(length):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        segment.path.write_bytes(damaged)
        if 16 <= at < 24:  # synced_to changes all the time, and only tells of losses
            assert Snapshot.read(segment.path) is not None
        else:
            with pytest.raises(SegmentError, match=r"header of .* is damaged"):
                Snapshot.read(segment.path)


def test_a_file_cut_short_says_by_how_much(tmp_path: Path) -> None:
    """Cut within the header it is no segment; behind it, the missing bytes are named."""
    segment = make(tmp_path)
    segment.write(RECORD)
    segment.close()
    os.truncate(segment.path, HEADER_BYTES + 13)
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert snapshot.cut_bytes == 4096 - 13
    assert snapshot.words[HEADER_BYTES // 8 :].tobytes() == RECORD[:8]
    os.truncate(segment.path, HEADER_BYTES - 1)
    with pytest.raises(SegmentError, match=f"has {HEADER_BYTES - 1} bytes"):
        Snapshot.read(segment.path)


def test_unwanted_and_vanished_segments_are_not_read(tmp_path: Path) -> None:
    """Another run's is passed by; one that was handed over says so."""
    segment = make(tmp_path)
    assert Snapshot.read(segment.path, lambda header: header["run_id"] == "other") is None
    segment.close(unlink=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        Snapshot.read(segment.path)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False), (HEADER_BYTES, False)])
def test_a_header_too_long_is_refused(tmp_path: Path, more: int, fits: bool) -> None:
    """It would overwrite what is stated later, or the first records."""
    room = HEADER_BYTES // 2 - struct.calcsize("<8sqqII")
    others = {"note": "", "format": 1, "number": 0, "bytes": HEADER_BYTES * 2}
    note = "x" * (room - len(json.dumps(others)) + more)
    segment = Segment.create(tmp_path, "hidden", {"note": note}, HEADER_BYTES * 2)
    if fits:
        segment.begin(0, 0)
        segment.install("p-000000")
        assert (snapshot := Snapshot.read(segment.path)) is not None
        assert snapshot.header["note"] == note
    else:
        with pytest.raises(SegmentError, match="at most"):
            segment.begin(0, 0)
    segment.close(unlink=True)


@pytest.mark.parametrize("in_place", [True, False])
def test_whether_a_file_may_be_mapped_is_asked_once_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    asked = []

    def writes_in_place(folder: Path) -> bool:
        asked.append(folder)
        return in_place

    monkeypatch.setattr(module, "_in_place", {})
    monkeypatch.setattr(module, "writes_in_place", writes_in_place)
    for name in ("a", "b"):
        segment = Segment.create(tmp_path, name, HEADER, HEADER_BYTES * 2)
        assert isinstance(segment.body, Mapped) is in_place
        segment.close()
    assert asked == [tmp_path]


def test_of_a_new_segment(tmp_path: Path) -> None:
    """Nothing is in it, and it says so before it begins."""
    segment = Segment.create(tmp_path, "hidden", HEADER, HEADER_BYTES * 2)
    assert (segment.first_seq, segment.room, segment.count, segment.notes) == (0, 0, 0, 0)
    segment.close(unlink=True)


def test_sync_says_how_far(tmp_path: Path) -> None:
    """What the header says is durable shows later that records are gone."""
    segment = make(tmp_path)
    segment.write(RECORD)
    segment.sync()
    segment.write(RECORD)
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert snapshot.synced_to == HEADER_BYTES + len(RECORD)
    segment.close()


def no_space(limit: int) -> Any:
    def fallocate(fd: int, offset: int, length: int) -> None:
        os.ftruncate(fd, length)  # a failed one leaves blocks behind
        if length > limit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return fallocate


def test_a_nearly_full_disk_gets_a_smaller_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 MB, 4, 1, then 256 kB; nothing of the failed attempts is left."""
    monkeypatch.setattr(os, "posix_fallocate", no_space(limit=1 << 20))
    segment = Segment.create(tmp_path, "hidden", HEADER)
    assert segment.size == 1 << 20
    assert len(list(tmp_path.iterdir())) == 1
    segment.close()


@pytest.mark.parametrize("full", ["allocation", "statvfs"])
def test_a_full_disk_is_an_error_that_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """Neither a file nor a descriptor stays behind, and room for the Parquet file is kept."""
    if full == "allocation":
        monkeypatch.setattr(os, "posix_fallocate", no_space(limit=0))
    else:
        free = SimpleNamespace(f_blocks=1, f_bavail=SMALLEST_BYTES // 1024, f_frsize=1024)
        monkeypatch.setattr(os, "statvfs", lambda _: free)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left") as caught:
        Segment.create(tmp_path, "hidden", HEADER)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= before  # what another test dropped may have been closed


def test_prefault_maps_without_changing_anything(tmp_path: Path) -> None:
    """In whole, in part, on a kernel that cannot, and after the end."""
    segment = make(tmp_path, size=3 << 20)
    segment.write(RECORD)
    before = segment.words().tobytes()
    segment.prefault(5000, 1 << 20)
    segment.prefault(1 << 20, 1 << 30)
    segment.prefault(1 << 30, 1)
    assert segment.words().tobytes() == before
    assert segment.position() == HEADER_BYTES + len(RECORD)
    segment.close()
    segment.prefault(0, 1 << 20)


def test_the_lock_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    """Held while the owner lives, even with a view of the map still alive after close."""
    segment = make(tmp_path)
    assert is_held(segment.path)
    assert try_lock(segment.path) is None
    view = segment.words()
    segment.close()
    assert int(view[0]) == struct.unpack("<Q", b"ENTRSEG1")[0]
    assert not is_held(segment.path)
    fd = try_lock(segment.path)
    assert fd is not None
    assert is_held(segment.path)
    os.close(fd)
    assert not is_held(tmp_path / "none.seg")
    assert try_lock(tmp_path / "none.seg") is None


def test_a_file_handed_over_while_locking_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between open and lock its owner may have finished and unlinked it."""
    path = make(tmp_path).path
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", lambda fd, how: path.unlink())
    assert try_lock(path) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_process_lock(tmp_path: Path) -> None:
    """It names a living process, cannot be taken twice, and a child's copy leaves the file."""
    lock = ProcessLock(tmp_path, "p")
    assert is_held(tmp_path / "p.lock")
    with pytest.raises(FileExistsError):
        ProcessLock(tmp_path, "p")
    lock.release(unlink=False)
    lock.release(unlink=False)
    assert (tmp_path / "p.lock").exists()
    assert not is_held(tmp_path / "p.lock")
    lock.release()
    assert not (tmp_path / "p.lock").exists()


def test_the_clock_of_a_header() -> None:
    """From the beginning, and from where it was set."""
    assert eras_of({"clock_ns": 5}) == [Era(0, 5)]
    assert eras_of({"clock_ns": 5, "clock_set": [[7, 9]]}) == [Era(0, 5), Era(7, 9)]


def test_a_later_format_is_named_by_its_file(tmp_path: Path) -> None:
    segment = Segment.create(tmp_path, "hidden", HEADER, HEADER_BYTES * 2)
    segment.begin(0, 0)
    segment.header["format"] = 99
    text = json.dumps(segment.header).encode()
    head = struct.pack("<8sqqII", b"ENTRSEG1", 0, HEADER_BYTES, len(text), module._checksum(0, text)) + text
    segment.body.put(0, head.ljust(HEADER_BYTES, b"\0"))
    segment.install("p-000000")
    with pytest.raises(NewerFormat, match=r"p-000000\.seg"):
        Snapshot.read(segment.path)
    segment.close()
