"""Addenda: what a segment's header says later, of its attempt and of where it was cut; parked segments."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.recording import segment as module
from entrenar_otel.recording.header import SegmentError
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot
from tests.recording.test_segments import decode_file


@pytest.fixture
def segment_and_recorder(make: Any, segment_size: Callable[[int], None]) -> tuple[Any, Any]:
    """A sealed segment with five samples, and the recorder that goes on behind it."""
    segment_size(HEADER_BYTES + (64 << 10))
    recorder = make()
    for i in range(5):
        recorder.log(loss=float(i))
    segment = recorder.segment
    recorder.roll()
    recorder.log(loss=5.0)
    return segment, recorder


def test_what_is_claimed_is_in_all_headers(segment_and_recorder: Any) -> None:
    """In those that are written, the one that is written to, and those to come; the rest of them stays."""
    segment, recorder = segment_and_recorder
    recorder.claim({"attempt": 7, "lake": "s3://lake"})
    recorder.claim({"attempt": 8, "lake": "s3://lake"})
    last = recorder.segment
    recorder.roll()
    for path in (segment.path, last.path, recorder.segment.path):
        snapshot = Snapshot.read(path)
        assert snapshot is not None
        assert {k: snapshot.header[k] for k in ("attempt", "lake", "run_id")} == {
            "attempt": 8,
            "lake": "s3://lake",
            "run_id": "r",
        }
    assert decode_file(segment.path)[1] == [[float(i)] for i in range(5)]


def test_an_addendum_that_was_not_completed_says_nothing(segment_and_recorder: Any) -> None:
    """Its text is written first: killed in between, or damaged, there is none."""
    segment, recorder = segment_and_recorder
    recorder.claim({"attempt": 7})
    whole = segment.path.read_bytes()
    at = whole.index(b'{"attempt": 7}')
    for i in (at, at + 12, at - 1):
        segment.path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        snapshot = Snapshot.read(segment.path)
        assert snapshot is not None
        assert "attempt" not in snapshot.header
    segment.path.write_bytes(whole)
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert snapshot.header["attempt"] == 7


def test_an_addendum_of_other_json_says_nothing(segment_and_recorder: Any) -> None:
    segment, _ = segment_and_recorder
    segment._add(module._CLAIM_AT, ["attempt", 7])
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert "attempt" not in snapshot.header


def test_a_claim_that_is_too_long_is_refused(segment_and_recorder: Any) -> None:
    """It would reach into what stands behind it."""
    segment, _ = segment_and_recorder
    room = module._ADDENDUM_BYTES - module._ADDENDUM.size - len('{"lake": ""}')
    segment.claim({"lake": "x" * room})
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert snapshot.header["lake"] == "x" * room
    with pytest.raises(SegmentError, match="an addendum has"):
        segment.claim({"lake": "x" * (room + 1)})


def test_a_parked_segment_is_cut_closed_and_read(segment_and_recorder: Any) -> None:
    """It takes what it holds on the disk, no descriptor and no memory; its owner and others read it."""
    segment, recorder = segment_and_recorder
    end = segment.seal()
    before = len(os.listdir("/proc/self/fd"))
    recorder.park()  # what was not drained is not sealed
    assert not segment.is_parked
    assert recorder.values() == [{"loss": float(i)} for i in range(6)]
    recorder.park(busy=segment)
    assert not segment.is_parked
    recorder.park()
    assert segment.is_parked
    assert segment.path.stat().st_size == end < segment.size
    assert len(os.listdir("/proc/self/fd")) < before
    assert (segment.position(), len(segment.words())) == (end, end // 8)
    with pytest.raises(ValueError, match="closed"):
        segment.write(b"x" * 48)
    snapshot = Snapshot.read(segment.path)
    assert snapshot is not None
    assert (snapshot.cut_bytes, snapshot.synced_to) == (0, end)
    assert decode_file(segment.path)[1] == [[float(i)] for i in range(5)]
    recorder.park()  # done twice, it is done once
    assert not recorder.segment.is_parked
    recorder.release(segment, unlink=True)
    assert not segment.path.exists()
    assert segment not in recorder.sealed()
