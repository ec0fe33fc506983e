"""What a segment says of itself is checked before anything is done with it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any
from zlib import adler32

import numpy as np
import pytest

from entrenar_otel.recording.header import NewerFormat, SegmentError, check_format, check_header
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot

GOOD: dict[str, Any] = {
    "lake": "/lake",
    "run_id": "r",
    "attempt": 1,
    "rank": 0,
    "day": "2026-11-24",
    "process": "host-1-abc",
    "pid": 1,
    "clock_ns": 0,
    "number": 0,
    "bytes": 32 << 10,
    "format": 1,
}


def segment(path: Path, header: Any, *, magic: bytes = b"ENTRSEG1", size: int = 32 << 10) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    check = adler32(text, adler32(struct.pack("<q", 0)))
    head = struct.pack("<8sqqII", magic, 0, HEADER_BYTES, len(text), check) + text
    path.write_bytes(head.ljust(HEADER_BYTES, b"\0"))
    os.truncate(path, size)
    return path


def test_a_good_header_is_taken_as_it_is() -> None:
    assert check_header("x", GOOD) == GOOD
    old = {key: GOOD[key] for key in GOOD if key != "format"}  # of a version before it
    assert check_format("x", old) == check_header("x", old) == old


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("day", "x/../../../../escaped"),
        ("day", "2026-13-01"),
        ("day", "2026-11-24\n"),
        ("day", 20261124),
        ("process", "../up"),
        ("process", "a/b"),
        ("process", ".."),
        ("process", ""),
        ("process", "x" * 300),
        ("attempt", "one"),
        ("attempt", -1),
        ("attempt", True),
        ("attempt", 1 << 31),
        ("rank", -1),
        ("rank", 1.5),
        ("clock_ns", None),
        ("clock_ns", 1 << 63),
        ("number", -1),
        ("bytes", 40 << 30),
        ("bytes", -1),
        ("run_id", 7),
        ("run_id", "\ud800"),
        ("lake", None),
        ("format", "new"),
        ("format", 0),
    ],
)
def test_what_we_would_not_write_is_refused(name: str, value: Any) -> None:
    """The message names the file and the field."""
    with pytest.raises(SegmentError, match=rf"the header of x .*`{name}`"):
        check_header("x", check_format("x", {**GOOD, name: value}))


@pytest.mark.parametrize("header", [[1, 2], {}, {"v": 2}, None, 7, b"{", b"[" * 9000, b"\xff"])
def test_a_header_that_is_none(header: Any, tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="the header of"):
        Snapshot.read(segment(tmp_path / "a-000000.seg", header))


@pytest.mark.parametrize(("magic", "version"), [(b"ENTRSEG1", 2), (b"ENTRSEG2", 1)])
def test_a_later_format_is_told_from_damage(magic: bytes, version: int, tmp_path: Path) -> None:
    """Whatever else such a header has."""
    path = segment(tmp_path / "a-000000.seg", {"format": version, "new": []}, magic=magic)
    with pytest.raises(NewerFormat, match="update entrenar-otel"):
        Snapshot.read(path)


def test_no_more_is_read_than_the_segment_has(tmp_path: Path) -> None:
    """A file may be sparse and longer than the disk."""
    snapshot = Snapshot.read(segment(tmp_path / "a-000000.seg", GOOD, size=1 << 40))
    assert snapshot is not None
    assert snapshot.words.nbytes == GOOD["bytes"]
    assert snapshot.cut_bytes == 0


@pytest.mark.parametrize("at", [HEADER_BYTES, 300_001, 600_000 - 1])
def test_a_byte_anywhere_is_read(at: int, tmp_path: Path) -> None:
    """However many zeros are before it; `used` is no less."""
    path = segment(tmp_path / "a-000000.seg", GOOD | {"bytes": 600_000}, size=600_000)
    empty = Snapshot.read(path)
    assert empty is not None
    assert (empty.used, empty.words.any()) == (HEADER_BYTES, True)
    with path.open("rb+") as file:
        file.seek(at)
        file.write(b"x")
    found = Snapshot.read(path)
    assert found is not None
    assert found.words.view(np.uint8)[HEADER_BYTES:].nonzero()[0].tolist() == [at - HEADER_BYTES]
    assert at < found.used <= 600_000
    assert found.used % 8 == 0
