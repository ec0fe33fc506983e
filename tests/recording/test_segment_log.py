"""The chain of segments: whose they are, how much is mapped ahead, what a full one leads to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.clock import SYSTEM_CLOCK
from entrenar_otel.recording.notes import EVENT, note_record
from entrenar_otel.recording.process.origin import Origin
from entrenar_otel.recording.segment import HEADER_BYTES, Segment, Snapshot
from entrenar_otel.recording.segment_log import SegmentLog


class Mapped:
    """What was asked to be mapped ahead, as (offset, size) within the records."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[int, int]] = []
        monkeypatch.setattr(Segment, "prefault", lambda _segment, at, size: self.asked.append((at, size)))


def test_a_segment_says_whose_it_is(recorder: Any) -> None:
    """Process, pid, number and clock in its header: recovery has nothing else."""
    recorder.log(loss=1)
    recorder.roll()
    recorder.log(loss=2)
    names = sorted(path.name for path in recorder.folder.glob("*.seg"))
    assert names == [f"{recorder.process}-{number:06d}.seg" for number in (0, 1)]
    for number, name in enumerate(names):
        snapshot = Snapshot.read(recorder.folder / name)
        assert snapshot is not None
        assert (snapshot.number, snapshot.process) == (number, recorder.process)
        assert snapshot.header["pid"] == os.getpid()
        assert snapshot.header["run_id"] == "r"
        assert snapshot.header["origin"] == Origin.here().document()
        now = SYSTEM_CLOCK.time_ns() - SYSTEM_CLOCK.monotonic_ns()
        assert abs(snapshot.header["clock_ns"] - now) < 60 * 10**9


def test_only_the_owner_may_read_it(recorder: Any) -> None:
    """What is in a segment is the user's business: the files of others' runs are closed to each other."""
    before = os.umask(0)
    try:
        recorder.log(loss=1)
    finally:
        os.umask(before)
    for path in recorder.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_before_it_is_opened() -> None:
    chain = SegmentLog(lambda: None)
    assert (chain.process, chain.retry_at, chain.age_seconds, chain.waiting) == ("", 0.0, 0.0, 0)
    assert not chain.is_open
    assert chain.sealed() == []


def test_a_name_that_is_given_is_taken(tmp_path: Path) -> None:
    """Else a new one; each chain its own."""
    names = []
    for given in ("mine", None, None):
        chain = SegmentLog(lambda: None)
        chain.open(tmp_path, {}, given)
        names.append(chain.process)
        chain.end("completed")
    assert names[0] == "mine"
    assert len(set(names)) == 3
    assert all(names)


def test_times_are_those_of_the_wall_clock(recorder: Any) -> None:
    """A record has a monotonic time; a sample the time of day."""
    before = SYSTEM_CLOCK.time_ns()
    recorder.log(loss=1)
    (block,) = recorder.drain().blocks
    assert abs(int(block.time_ns[0]) - before) < 60 * 10**9
    assert recorder.bad == 0


def test_what_is_mapped_ahead_is_a_quarter_more_than_what_was_used(
    recorder: Any, segment_size: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From where the loop is; 32 KiB at least; of a new segment the first MiB."""
    segment_size(8 << 20)
    mapped = Mapped(monkeypatch)
    recorder.log(loss=1)
    assert mapped.asked == [(0, 1 << 20)]
    first = recorder.segment
    recorder.prepare()
    used = first.position()
    assert mapped.asked[1:] == [(used, max(used + used // 4, 32 << 10))]
    for _ in range(20_000):
        recorder.log(loss=1)
    recorder.prepare()
    more = first.position() - used
    assert more > 32 << 10
    assert mapped.asked[2:] == [(first.position(), more + more // 4)]
    recorder.prepare()
    assert mapped.asked[3:] == [(first.position(), 32 << 10)]


def test_a_successor_is_prepared_above_half(
    recorder: Any, segment_size: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    segment_size(1 << 20)
    recorder.log(loss=1)
    segment = recorder.segment
    monkeypatch.setattr(Segment, "position", lambda _segment: segment.size // 2)
    recorder.prepare()
    assert recorder.standby is None
    monkeypatch.setattr(Segment, "position", lambda _segment: segment.size // 2 + 1)
    recorder.prepare()
    standby = recorder.standby
    assert standby is not None
    recorder.prepare()
    assert recorder.standby is standby
    recorder.end("completed")
    assert not list(recorder.folder.glob(".*"))


def test_notes_are_counted_and_make_a_segment_old(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the owner's own; the odd ones are cleaned also where nobody vouched for them."""
    assert recorder.note(EVENT, {"name": "a", "x": float("nan")})
    assert recorder.note(EVENT, {"name": "b"}, clean=True)
    assert recorder.segment.notes == 2
    assert recorder.notes_dropped == 0
    assert recorder.age_seconds > 0


def test_notes_of_a_clean_document_are_the_same_text() -> None:
    """Quicker, not different; what is odd all the same is cleaned as ever."""
    document = {"name": "a", "attributes": {"x": [1, 2.5, None, True, "é"], "y": {"z": {}}}}
    assert note_record(EVENT, document, clean=True) == note_record(EVENT, document)
    odd = {"x": object, "y": {1, 2}}
    assert note_record(EVENT, odd, clean=True) == note_record(EVENT, odd)


def test_after_the_end_nothing_is_put(recorder: Any) -> None:
    """Neither by `write` nor by `put`; the no-op twin takes everything and does nothing."""
    recorder.log(loss=1)
    recorder.end("completed")
    for name in ("write", "put"):
        with pytest.raises(ValueError, match="no segment"):
            recorder.namespace[name](b"x" * 8)
    assert not recorder.note(EVENT, {"name": "late"})
    assert recorder.notes_dropped == 1
    recorder.abandon()
    for name in ("write", "put"):
        assert recorder.namespace[name](b"x" * 8) is None
    assert not recorder.note(EVENT, {"name": "later"})
    assert recorder.notes_dropped == 1


def test_before_the_beginning_nothing_is_put() -> None:
    """The careful path begins the run."""
    chain = SegmentLog(lambda: None)
    for name in ("write", "put"):
        with pytest.raises(ValueError, match="no segment"):
            chain.namespace[name](b"x" * 8)
    assert (chain.bad, chain.dropped, chain.notes_dropped, chain.recorded) == (0, 0, 0, 0)
    assert not chain.is_open
    assert not chain.is_abandoned
    assert chain.age_seconds == 0.0


def test_no_room_is_said_once_with_what_to_do(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.log(loss=1)

    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Segment, "create", full)
    for _ in range(3):
        assert not recorder.roll()
    recorder.say()
    assert caplog.messages == [
        f"no room for the next segment in {recorder.folder} (No space left on device); samples are dropped "
        "and counted until there is. Free disk space, or set ENTRENAR_LIVE to a larger local disk"
    ]


def test_coordinates_beyond_the_lake_s_are_said_once(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    """By the careful path, which takes a new shape, and of what the quick one has let through."""
    for _ in range(3):
        recorder.log(loss=1, epoch=2**31)
        recorder.drain()
    assert caplog.messages == [
        "epoch must be a whole number from 0 to 2147483647, got 2147483648; left empty",
        "epoch and batch go up to 2**31 - 1, step up to 2**63 - 1; left empty",
    ]
    assert recorder.bad == 3


def test_an_empty_segment_begins_behind_its_header(recorder: Any) -> None:
    recorder.log(loss=1)
    recorder.roll()
    assert recorder.segment.first_seq == 1
    assert recorder.segment.drained_to == HEADER_BYTES


def test_while_a_run_ends_each_log_gives_way(recorder: Any) -> None:
    """Neither a new segment nor a line that goes on brings the fast path back, and every sample is kept."""
    recorder.log(loss=0)
    recorder.slow_down()
    recorder.log(loss=1)
    recorder.roll()
    recorder.log(loss=2)
    recorder.hold()
    recorder.log(loss=3)
    with pytest.raises(ValueError, match="no segment"):
        recorder.namespace["write"](b"x" * 8)
    assert recorder.values() == [{"loss": i} for i in range(4)]
