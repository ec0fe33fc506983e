"""Complete segments that are closed by the loop, since nobody came to look at them in time."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.recording import segment as module
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot

SMALL = HEADER_BYTES + 4096


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True, params=["mapped", "appended"])
def small(
    segment_size: Callable[[int], None], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_size(SMALL)
    monkeypatch.setattr(module, "_may_be_mapped", lambda _folder: request.param == "mapped")


def test_descriptors_stay_few_however_fast_the_loop_is(recorder: Any) -> None:
    """No heartbeat comes to drain or hand over; nothing is lost, and all of it is drained afterwards."""
    recorder.log(loss=0)
    before = descriptors()
    for i in range(1, 6000):
        recorder.log(loss=i)
    assert recorder.waiting > 60
    assert descriptors() < before + 30
    assert [row["loss"] for row in recorder.values()] == list(range(6000))


def test_they_are_drained_piece_by_piece(recorder: Any) -> None:
    for i in range(3000):
        recorder.log(loss=i)
    pieces = 0
    while len(samples := recorder.drain(4)):
        assert len(samples) < 600
        recorder.keep(samples)
        pieces += 1
    assert pieces > 5
    assert len(recorder.rows()) == 3000


def test_what_was_being_read_when_it_was_detached(recorder: Any) -> None:
    """A reader keeps what it has; one that comes later reads the file."""
    recorder.log(loss=1)
    segment = recorder.segment
    words = segment.words()
    held = words.copy()
    recorder.roll()
    segment.detach()
    segment.detach()
    assert (words[: len(held)] == held).all()
    assert recorder.values() == [{"loss": 1}]


def test_they_are_synced_and_cut_like_others(recorder: Any) -> None:
    for i in range(3000):
        recorder.log(loss=i)
    recorder.sync()
    recorder.keep(recorder.drain())
    recorder.park()
    for segment in recorder.sealed():
        assert segment.path.stat().st_size == segment.end
        snapshot = Snapshot.read(segment.path)
        assert snapshot is not None
        assert (snapshot.synced_to, snapshot.cut_bytes) == (segment.end, 0)
    assert len(recorder.rows()) == 3000


def test_one_that_somebody_else_has_recovered(recorder: Any) -> None:
    """It is in the lake: neither a sync nor a drain stumbles over it."""
    for i in range(3000):
        recorder.log(loss=i)
    first = recorder.sealed() or recorder._segments[:1]
    first[0].path.unlink()
    recorder.sync()
    samples = recorder.drain()
    assert 2000 < len(samples) < 3000
    assert len(recorder.drain()) == 0
