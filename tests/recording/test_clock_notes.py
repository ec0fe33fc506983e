"""A clock that was set in mid-segment: the note that says so, and the times that records have by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.clock import Era
from entrenar_otel.lake.hand_over import hand_over
from entrenar_otel.lake.sql.live import decode_snapshot
from entrenar_otel.lake.store.storage import LocalStorage
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.notes import CLOCK_SET, note_record
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot
from entrenar_otel.testing import FakeClock

SECOND = 10**9
Times = dict[int, int]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def recorder(make: Callable[..., Any], clock: FakeClock) -> Any:
    return make(clock=clock)


def times(samples: Any) -> Times:
    """Value → time of day in seconds, rounded."""
    return {
        int(value): round(time / SECOND)
        for block in samples.blocks
        for value, time in zip(block.values[:, 0].tolist(), block.time_ns.tolist(), strict=True)
    }


def as_others_see_it(recorder: Any) -> Times:
    seen: Times = {}
    for path in sorted(recorder.folder.glob("*.seg")):
        snapshot = Snapshot.read(path)
        assert snapshot is not None
        seen |= times(decode_snapshot(snapshot).samples)
    return seen


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_the_owner_and_others_see_the_same_times(recorder: Any, clock: FakeClock, seconds: int) -> None:
    """What was recorded after the last look at the clock is given the new time; what came before stays."""
    expected = {}
    start = round(clock.time_ns() / SECOND)
    owner: Times = {}
    for value in range(40):
        clock.advance(1)
        if value == 15:
            clock.set(seconds)
        recorder.log(loss=value)
        expected[value] = start + value + 1 + (seconds if value > 9 else 0)  # at 9 the clocks agreed
        if value % 10 == 9:
            assert recorder.follow_clock() == (seconds * SECOND if value == 19 else 0)
            owner |= times(recorder.drain())
    assert owner == expected
    assert as_others_see_it(recorder) == expected


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_later_segments_begin_with_the_new_time(recorder: Any, clock: FakeClock, seconds: int) -> None:
    """Their header has it, and the times before it: the SDK may bring in what it measured then."""
    recorder.log(loss=0)
    clock.advance(5)
    recorder.follow_clock()
    clock.set(seconds)
    recorder.follow_clock()
    assert recorder.roll()
    clock.advance(1)
    recorder.log(loss=1)
    seen = as_others_see_it(recorder)
    assert seen[1] - seen[0] == 6 + seconds
    assert times(recorder.drain()) == seen


def test_a_sealed_segment_is_handed_over_with_what_was_found_later(recorder: Any, clock: FakeClock) -> None:
    """The clock was set in it, and the note stands in the next one."""
    recorder.log(loss=0)
    clock.advance(1)
    clock.set(3600)
    recorder.log(loss=1)
    assert recorder.roll()
    assert recorder.follow_clock() == 3600 * SECOND
    drained = times(recorder.drain())
    assert drained[1] - drained[0] == 3601
    (segment,) = recorder.sealed()
    storage = LocalStorage(recorder.folder / "lake")
    hand_over(storage, segment, "2026-01-01", Owner("r", 1, 0), recorder.clock.eras)
    import pyarrow.parquet as pq

    (file,) = (recorder.folder / "lake").glob("metrics/*/*/*.parquet")
    stored = pq.read_table(file, columns=["value", "timestamp"]).to_pylist()
    assert {int(row["value"]): round(row["timestamp"].timestamp()) for row in stored} == drained


def test_a_sample_with_a_time_of_its_own_keeps_it(recorder: Any, clock: FakeClock) -> None:
    """What OpenTelemetry measured before and after the clock was set."""
    from entrenar_processors import Series

    given = {}
    for value in range(10):
        clock.advance(1)
        if value == 5:
            clock.set(3600)
        recorder.clock.time_ns()
        given[value] = clock.time_ns() - SECOND // 2
        recorder.record_one(Series("loss"), value, None, None, None, time_ns=given[value])
    recorder.follow_clock()
    seen = times(recorder.drain())
    del seen[5], given[5]  # half a second before the clock was set, in the new time
    assert seen == {value: round(time / SECOND) for value, time in given.items()}


def test_a_clock_note_is_no_event(recorder: Any, clock: FakeClock) -> None:
    """It counts in no `seq`, and is in no table."""
    recorder.log(loss=0)
    clock.set(60)
    recorder.follow_clock()
    recorder.log(loss=1)
    (path,) = recorder.folder.glob("*.seg")
    snapshot = Snapshot.read(path)
    assert snapshot is not None
    segment = decode_snapshot(snapshot)
    assert segment.journal.events == segment.journal.open == segment.journal.ended == []
    assert sorted(block.seq.tolist() for block in segment.samples.blocks) == [[0, 1]]
    assert segment.damage_note is None


@pytest.mark.parametrize(
    "document",
    [
        *({}, {"since_ns": 1}, {"since_ns": "x", "anchor_ns": 1}, {"since_ns": None, "anchor_ns": 1}),
        *({"since_ns": 2**70, "anchor_ns": 1}, {"since_ns": 0, "anchor_ns": -(2**63)}),
        {"since_ns": 1e400, "anchor_ns": 0},
    ],
)  # fmt: skip
def test_a_note_that_makes_no_sense_moves_no_time(recorder: Any, document: dict[str, Any]) -> None:
    """It is read from a disk."""
    recorder.log(loss=1)
    recorder.namespace["put"](note_record(CLOCK_SET, document))
    recorder.log(loss=2)
    words, end = recorder.segment.words(), recorder.segment.position()
    decoded = decode(words, {}, start=HEADER_BYTES, end=end, eras=[Era(0, 7)])
    plain = decode(words, {}, start=HEADER_BYTES, end=end)
    assert {v: t - 7 for v, t in _exact(decoded).items()} == _exact(plain)


def _exact(decoded: Any) -> dict[float, int]:
    return {
        value: time
        for block in decoded.samples.blocks
        for value, time in zip(block.values[:, 0].tolist(), block.time_ns.tolist(), strict=True)
    }
