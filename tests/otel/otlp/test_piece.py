"""Piece: however a stretch is cut and halved, its parts together are the same samples and events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from entrenar_otel.otel.otlp.piece import Piece, Stretch
from entrenar_otel.otel.otlp.segment_reader import SegmentReader
from entrenar_otel.recording.notes import EVENT
from entrenar_otel.recording.unsent import Watermark

from .left import recorded, seqs_of

STEPS = 60
Make = Callable[[str], Stretch]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A stretch of a whole segment: events before, among and after samples."""

    def made(samples: str) -> Stretch:
        folder = tmp_path_factory.mktemp("live")
        recorder = recorded(folder, 0, samples=samples)
        for step in range(STEPS):
            if step % 7 == 0:
                recorder.note(EVENT, {"name": f"e{step}"})
            recorder.log(x=step / 3, y=step, step=step)
        recorder.note(EVENT, {"name": "last"})
        (segment,) = recorder.segments
        stretch = SegmentReader(segment.path, is_trusted=True).read(segment.position())
        recorder.end("done")
        return stretch

    return made


@pytest.fixture(scope="module")
def stretches(make: Make) -> dict[str, Stretch]:
    return {samples: make(samples) for samples in ("blocks", "events", "off")}


def events_of(piece: Piece) -> list[str]:
    request = ExportLogsServiceRequest.FromString(piece.encode()[0])
    return [
        record.event_name
        for resource in request.resource_logs
        for scope in resource.scope_logs
        if scope.scope.name == "entrenar_otel.events"
        for record in scope.log_records
    ]


def together(pieces: list[Piece]) -> tuple[list[str], list[int]]:
    events = [name for piece in pieces for name in events_of(piece)]
    return events, [seq for piece in pieces for seq in seqs_of(piece)]


def wanted(samples: str) -> tuple[list[str], list[int]]:
    events = [*(f"e{step}" for step in range(0, STEPS, 7)), "last"]
    return events, [] if samples == "off" else list(range(STEPS))


@given(samples=st.sampled_from(["blocks", "events", "off"]), most_bytes=st.integers(1, 10_000))
def test_cut_anywhere_and_merged_again(samples: str, most_bytes: int, stretches: dict[str, Stretch]) -> None:
    """The same samples and events; each mark is further than the one before, the last is the stretch's."""
    stretch = stretches[samples]
    pieces = list(stretch.pieces(most_bytes))
    assert together(pieces) == wanted(samples)
    marks = [piece.mark for piece in pieces if piece.mark is not None]
    assert marks == sorted(set(marks))
    assert marks[-1] == stretch.mark == Watermark(1, 0)
    assert pieces[-1].mark is not None
    assert sum(piece.values for piece in pieces) == stretch.values == 2 * len(wanted(samples)[1])


@given(samples=st.sampled_from(["blocks", "events", "off"]), data=st.data())
def test_halved_in_any_way(samples: str, data: Any, stretches: dict[str, Stretch]) -> None:
    """As a refusal does it: always the last half has the mark, and in the end each is a single record."""
    (whole,) = stretches[samples].pieces(1 << 20)
    parts = [whole]
    for _ in range(data.draw(st.integers(0, 40))):
        at = data.draw(st.integers(0, len(parts) - 1))
        halves = parts[at].halves()
        assert halves or len(parts[at].events) + parts[at].records <= 1
        parts[at : at + 1] = halves or [parts[at]]
    events, seqs = together(parts)
    assert (sorted(events), seqs) == (sorted(wanted(samples)[0]), wanted(samples)[1])
    assert [part.mark for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].mark == Watermark(1, 0)


@given(most=st.integers(1, 4000))
def test_what_stands_before_a_mark_is_in_the_pieces_up_to_it(
    most: int, stretches: dict[str, Stretch]
) -> None:
    """So whoever goes on behind a mark, sends what is left and nothing else."""
    stretch = stretches["blocks"]
    pieces = list(stretch.pieces(most))
    first_of_rest = 0
    for piece in pieces[:-1]:
        first_of_rest += piece.records
        if piece.mark is None:
            continue
        stops = (stretch.found.heads + stretch.found.lengths) * 8 + stretch.begin
        assert piece.mark.offset == stops[first_of_rest - 1]


def test_a_size_is_kept(stretches: dict[str, Stretch]) -> None:
    """Of blocks to the byte, besides the envelope; of wide events about."""
    for samples in ("blocks", "events"):
        sizes = [len(piece.encode()[0]) for piece in stretches[samples].pieces(2_000)]
        assert max(sizes) < 4_000
        assert len(sizes) > 1
