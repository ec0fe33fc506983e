"""Segment reader: what a segment has got since the last look, whatever is done to its file meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.otel.otlp.segment_reader import SegmentReader
from entrenar_otel.recording.header import SegmentError
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.notes import EVENT
from entrenar_otel.recording.segment import HEADER_BYTES
from entrenar_otel.recording.unsent import Watermark

from .left import leave, recorded, seqs_of


def seqs(reader: SegmentReader, *args: Any, **options: Any) -> list[int]:
    return [seq for piece in reader.read(*args, **options).pieces() for seq in seqs_of(piece)]


def test_it_is_read_as_it_grows(tmp_path: Path) -> None:
    """Each time what is new; and none of it is acknowledged as a whole before it has ended."""
    recorder = recorded(tmp_path, 5)
    (segment,) = recorder.segments
    reader = SegmentReader(segment.path, is_trusted=True)
    assert seqs(reader, segment.position(), is_whole=False) == list(range(5))
    assert seqs(reader, segment.position(), is_whole=False) == []
    for step in range(3):
        recorder.log(x=step, other=1.0)
    stretch = reader.read(segment.position(), is_whole=False)
    assert [seq for piece in stretch.pieces() for seq in seqs_of(piece)] == [5, 6, 7]
    assert stretch.mark == Watermark(0, segment.position())
    recorder.end("done")
    assert reader.read(segment.end).mark == Watermark(1, 0)


@given(offset=st.integers(0, HEADER_BYTES + 6000))
def test_from_any_place_on_nothing_is_left_out(offset: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Within a record, it is read again; with the layouts and numbers of all before."""
    folder = tmp_path_factory.mktemp("live")
    (path,) = leave(folder, 100).paths
    reader = SegmentReader(path)
    reader.skip_to(offset)
    first = max(0, -(-(offset - HEADER_BYTES) // 48) - 3)
    found = seqs(reader)
    assert found == list(range(100))[len(list(range(100))) - len(found) :]
    assert not found or found[0] <= first + 3


def test_it_was_renamed_meanwhile(tmp_path: Path) -> None:
    """Handed over between two looks: the same bytes under another name."""
    recorder = recorded(tmp_path, 5)
    (segment,) = recorder.segments
    reader = SegmentReader(segment.path)
    segment.path.rename(segment.path.with_suffix(".unsent"))
    assert seqs(reader, segment.position()) == list(range(5))
    segment.path.with_suffix(".unsent").unlink()
    with pytest.raises(FileNotFoundError):
        reader.read(HEADER_BYTES + 8)
    recorder.end("done")


def test_what_is_not_to_be_sent(tmp_path: Path) -> None:
    """A segment of a run without OTLP, and what is no segment."""
    recorder = recorded(tmp_path, 1, header={"otlp": None})
    with pytest.raises(SegmentError, match="is not to be sent"):
        SegmentReader(recorder.segments[0].path)
    recorder.end("done")
    (tmp_path / "x").write_bytes(bytes(100_000))
    with pytest.raises(SegmentError):
        SegmentReader(tmp_path / "x")


def test_a_damaged_record_and_a_damaged_layout(tmp_path: Path) -> None:
    """The others arrive with their numbers; records that nobody can name make no block that is refused."""
    recorder = recorded(tmp_path, 0)
    recorder.log(x=1.0)
    recorder.log(y=2.0)
    recorder.log(x=3.0)
    recorder.log(y=4.0)
    (segment,) = recorder.segments
    stretch = SegmentReader(segment.path, is_trusted=True).read(segment.position())
    heads, layouts = stretch.found.heads * 8 + stretch.begin, stretch.layouts
    recorder.end("done")
    data = bytearray(segment.path.read_bytes())
    data[int(heads[2]) + 33] ^= 1  # a value
    segment.path.write_bytes(data)
    assert seqs(SegmentReader(segment.path)) == [0, 1, 3]
    damaged = next(iter(layouts.values()))
    assert isinstance(damaged, Layout)
    at = data.index(damaged.definition)
    data[at + 26] ^= 1
    segment.path.write_bytes(data)
    assert seqs(SegmentReader(segment.path)) == [1, 3]


def test_events_and_where_they_stand(tmp_path: Path) -> None:
    """Their place in the file tells each from all others; spans and clocks are none of them."""
    recorder = recorded(tmp_path, 2, notes=[{"name": "a"}, {"name": "b"}])
    (segment,) = recorder.segments
    stretch = SegmentReader(segment.path).read(segment.position())
    data = segment.path.read_bytes()
    assert [event.document["name"] for event in stretch.events] == ["a", "b"]
    for event in stretch.events:
        note = data[event.offset : event.offset + event.size]
        assert event.document["name"].encode() in note
    recorder.end("done")


@pytest.mark.parametrize(
    ("attributes", "is_sent"),
    [
        ({"logger": "entrenar_otel.otlp"}, False),
        ({"logger": "entrenar_otel"}, True),
        ({"logger": ["entrenar_otel.otlp"]}, True),
        (None, True),
        ("entrenar_otel.otlp", True),
    ],
)
def test_what_the_sender_said_of_the_endpoint_stays(tmp_path: Path, attributes: Any, is_sent: bool) -> None:
    recorder = recorded(tmp_path, 0)
    recorder.note(EVENT, {"name": "training.warning", "attributes": attributes})
    recorder.note(EVENT, {"name": "mine", "attributes": attributes})
    (segment,) = recorder.segments
    events = SegmentReader(segment.path).read(segment.position()).events
    assert len(events) == 1 + is_sent
    recorder.end("done")
