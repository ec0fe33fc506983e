"""Process records: what of one process is not acknowledged, over segments that come, go, and are damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.otel.otlp.process_records import ProcessRecords, Written, values_in
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.recording.unsent import SentFile, keep_unsent, read_watermark

from .left import SMALL, leave, recorded, seqs_of


@pytest.fixture(autouse=True)
def small(segment_size: Callable[[int], None]) -> None:
    segment_size(SMALL)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    return tmp_path / "live"


def all_of(records: ProcessRecords) -> list[int]:
    """Send everything; which samples."""
    found = []
    for piece in records.pieces():
        found += seqs_of(piece)
        records.acknowledge(piece)
    return found


def written_by(recorder: Recorder) -> Callable[[], dict[int, Written]]:
    return lambda: {
        int(segment.header["number"]): Written(segment.path, segment.position(), segment.end is not None)
        for segment in recorder.segments
    }


def hand_over(recorder: Recorder, records: ProcessRecords, count: int) -> None:
    """The first so many, as the keeper does it."""
    for segment in list(recorder.segments)[:count]:
        values = values_in(segment.path)
        is_kept = keep_unsent(segment.path, segment.header)
        recorder.release(segment, unlink=not is_kept)
        records.handed_over(int(segment.header["number"]), values)


def test_everything_once_and_the_files_go(live: Path) -> None:
    left = leave(live, 1000)
    assert len(left.paths) > 3
    records = ProcessRecords(live, left.process)
    assert all_of(records) == list(range(1000))
    assert not list(live.glob("*.unsent"))
    assert records.clean()
    assert records.bytes_left() == 0


@pytest.mark.parametrize("sent", [1, 2, 3, 5])
def test_it_goes_on_behind_the_watermark(live: Path, sent: int) -> None:
    """Whoever comes next begins where nothing is acknowledged; what was read and not is read again."""
    left = leave(live, 1000)
    records = ProcessRecords(live, left.process)
    pieces = list(records.pieces())
    for piece in pieces[:sent]:
        records.acknowledge(piece)
    assert records.mark == read_watermark(live, left.process) == pieces[sent - 1].mark
    first = seqs_of(pieces[sent])[0]
    assert all_of(ProcessRecords(live, left.process)) == list(range(first, 1000))


def test_what_was_read_and_not_acknowledged_is_read_again(live: Path) -> None:
    """By the same reader too: two that were on their way when the endpoint went."""
    left = leave(live, 1000)
    records = ProcessRecords(live, left.process)
    pieces = records.pieces()
    first, second = next(pieces), next(pieces)
    records.acknowledge(first)
    assert all_of(records)[0] == seqs_of(second)[0]


def test_its_owner_sees_what_it_has_written(live: Path) -> None:
    """Segments that grow, are whole, are handed over: each sample once, in order."""
    recorder = recorded(live, 30)
    process = str(recorder.segments[0].header["process"])
    records = ProcessRecords(live, process, written_by(recorder))
    assert all_of(records) == list(range(30))
    assert all_of(records) == []
    for step in range(300):
        recorder.log(x=step)
    hand_over(recorder, records, 2)
    assert all_of(records) == list(range(30, 330))
    recorder.end("done")
    hand_over(recorder, records, 9)
    assert all_of(records) == []
    assert records.removed() == 0
    assert records.clean()


def test_recovery_comes_first(live: Path) -> None:
    """A segment before the next one is still to be brought in: nothing is left out."""
    left = leave(live, 400)
    second = left.paths[1]
    second.rename(second.with_suffix(".seg"))
    records = ProcessRecords(live, left.process)
    sent = all_of(records)
    assert sent == list(range(len(sent)))
    assert not records.clean()
    second.with_suffix(".seg").rename(second)
    assert [*sent, *all_of(ProcessRecords(live, left.process))] == list(range(400))


def test_segments_that_somebody_let_go(live: Path) -> None:
    """The oldest of a backlog: what is left is sent."""
    left = leave(live, 400)
    left.paths[0].unlink()
    found = all_of(ProcessRecords(live, left.process))
    assert found == list(range(400))[-len(found) :]
    assert len(found) > 200


def test_a_segment_that_is_none(live: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named and put aside; those before and behind it are sent, in order."""
    left = leave(live, 400)
    data = bytearray(left.paths[1].read_bytes())
    data[:100] = bytes(100)
    left.paths[1].write_bytes(data)
    records = ProcessRecords(live, left.process)
    pieces: list[Piece] = list(records.pieces())  # all on their way: nothing is acknowledged out of order
    assert records.mark.segment == 0
    for piece in pieces:
        records.acknowledge(piece)
    assert [path.name for path in live.glob("*.damaged")] == [left.paths[1].with_suffix(".damaged").name]
    assert caplog.text.count("what is left of it is not sent by OTLP") == 1
    assert records.clean()


def test_what_somebody_removed_is_counted(live: Path) -> None:
    """Of a segment that was sent in part, the other part."""
    recorder = recorded(live, 30)
    process = str(recorder.segments[0].header["process"])
    records = ProcessRecords(live, process, written_by(recorder))
    assert all_of(records) == list(range(30))
    for step in range(30, 300):
        recorder.log(x=step)
    values = {int(s.header["number"]): values_in(s.path) for s in recorder.segments}
    recorder.end("done")
    recorder.segments[0].path.unlink()
    recorder.segments[1].path.unlink()
    for segment in list(recorder.segments):
        number = int(segment.header["number"])
        if number > 1:
            keep_unsent(segment.path, segment.header)
        recorder.release(segment, unlink=False)
        records.handed_over(number, values[number])
    assert records.removed() == values[0] - 30 + values[1]
    assert records.removed() == 0
    assert all_of(records) == list(range(values[0] + values[1], 300))
    assert records.removed() == 0


def test_a_full_disk_costs_no_sample(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark cannot be written: at worst the records come twice."""
    left = leave(live, 400)

    def full(*_given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SentFile, "write", full)
    assert all_of(ProcessRecords(live, left.process)) == list(range(400))


def test_values_in_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    assert values_in(tmp_path / "x") == values_in(tmp_path / "gone") == 0
