"""Left: what processes leave behind, as segments that were handed over and must still be sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from entrenar_otel.otel.otlp.blocks import decode_block
from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.recording.notes import EVENT
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.recording.segment import HEADER_BYTES
from entrenar_otel.recording.segment_log import no_op
from entrenar_otel.recording.unsent import keep_unsent

#: A segment in which some 80 samples have room.
SMALL = HEADER_BYTES + 4096


class Left(NamedTuple):
    """A process that has ended, and its segments in order."""

    process: str
    paths: list[Path]


def recorded(
    live: Path,
    steps: int,
    *,
    samples: str = "blocks",
    notes: Sequence[dict[str, Any]] = (),
    header: dict[str, Any] | None = None,
) -> Recorder:
    """A process with `x = 0, 1, …`, and notes of events before these."""
    live.mkdir(exist_ok=True)
    recorder = Recorder(begin=no_op, on_bad_loss=no_op, on_held=no_op)
    otlp = {"samples": samples, "resource": {"service.name": "trainer"}}
    common = {"lake": "x", "run_id": "r", "attempt": 1, "rank": 0, "day": "2026-01-01"}
    recorder.open(live, {**common, "otlp": otlp, **(header or {})})
    for note in notes:
        recorder.note(EVENT, note)
    for step in range(steps):
        recorder.log(x=step, step=step)
    return recorder


def leave(live: Path, steps: int, **options: Any) -> Left:
    """The same, ended, handed over and not sent."""
    recorder = recorded(live, steps, **options)
    recorder.end("done")
    process, paths = "", []
    for segment in list(recorder.segments):
        segment.park()
        assert keep_unsent(segment.path, segment.header)
        process = str(segment.header["process"])
        paths.append(segment.path.with_suffix(".unsent"))
        recorder.release(segment, unlink=False)
    return Left(process, paths)


def seqs_of(piece: Piece) -> list[int]:
    """Which samples a piece sends, as a receiver finds them in its request."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    found: list[int] = []
    request = ExportLogsServiceRequest.FromString(piece.encode()[0])
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                about = {pair.key: pair.value.int_value for pair in record.attributes}
                if record.event_name == "training.samples":
                    about.pop("version")
                    for block in decode_block(record.body.bytes_value, **about).blocks:
                        found += block.seq.tolist()
                elif record.event_name == "training.step":
                    found.append(about["seq"])
    return found
