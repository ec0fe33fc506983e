"""Live segments: what processes on this host have recorded and is not in the lake yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from entrenar_processors import Samples

from entrenar_otel.lake.store.skipped import name_skipped, say_once
from entrenar_otel.lake.tables.journal import Journal
from entrenar_otel.lake.tables.rows import live_batches
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.recording.decode import Decoded, decode
from entrenar_otel.recording.header import NewerFormat, SegmentError, check_header
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.process.life import Life, life_of_segment
from entrenar_otel.recording.process.lock import is_held
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot, eras_of

_TRIES = 8


@dataclass(frozen=True)
class LiveSegment:
    """A decoded segment: its owner, its rows, and its damage."""

    snapshot: Snapshot
    decoded: Decoded
    damage_note: str | None

    @property
    def samples(self) -> Samples:
        return self.decoded.samples

    @cached_property
    def journal(self) -> Journal:
        """Its spans and events. Raises SegmentError on a note that is not one."""
        try:
            return Journal.of(self.decoded.notes)
        except Exception as error:  # untrusted: whatever it is, it is the file's fault
            raise SegmentError(f"{self.snapshot.path} has a note that cannot be read: {error}") from None

    @property
    def owner(self) -> Owner:
        header = self.snapshot.header
        return Owner(header["run_id"], int(header["attempt"]), int(header["rank"]))

    def metrics(self) -> Iterator[pa.RecordBatch]:
        """Its rows, sorted by metric, tags and recording order."""
        return live_batches(self.samples, self.owner)


def segment_paths(live: Path) -> list[Path]:
    """The visible segments, by process and number."""
    try:
        names = sorted(os.listdir(live))
    except OSError:
        return []
    return [live / name for name in names if name.endswith(".seg")]


def read_segment(path: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> Snapshot | None:
    """A segment of which everything in its header was checked. Raises as `Snapshot.read`."""
    return Snapshot.read(path, lambda header: wanted(check_header(path, header)))


def writer_is_dead(snapshot: Snapshot) -> bool:
    """Whether it is proven that the process which wrote a segment is dead."""
    return not is_held(snapshot.path) and life_of_segment(snapshot.path, snapshot.header) is Life.DEAD


def decode_snapshot(snapshot: Snapshot) -> LiveSegment:
    """Decode a whole segment, and describe its damage. Raises SegmentError."""
    layouts: dict[int, Layout] = {}
    try:
        decoded = decode(
            snapshot.words,
            layouts,
            start=HEADER_BYTES,
            end=snapshot.used,
            first_seq=snapshot.first_seq,
            eras=eras_of(snapshot.header),
        )
    except Exception as error:  # untrusted: records with valid checksums that are not ours
        raise SegmentError(f"{snapshot.path} cannot be decoded: {type(error).__name__}: {error}") from None
    notes = [str(damage) for damage in decoded.damage if not damage.tail]
    lost_tail = decoded.end < snapshot.synced_to
    if lost_tail and not any(damage.tail for damage in decoded.damage):
        notes.append(
            f"records between offset {decoded.end} and {snapshot.synced_to} were written and are missing"
        )
    if snapshot.cut_bytes:
        notes.append(f"the file is {snapshot.cut_bytes} bytes shorter than it was created")
    if any(damage.tail for damage in decoded.damage) and (lost_tail or writer_is_dead(snapshot)):
        notes += [str(damage) for damage in decoded.damage if damage.tail]
    note = f"{snapshot.path}: {'; '.join(notes)}" if notes else None
    return LiveSegment(snapshot, decoded, note)


def read_live(live: Path, url: str, run_id: str | None = None) -> list[LiveSegment]:
    """The segments whose rows belong in the lake at `url` (of one run), as they are now.

    If one was handed over between listing and reading, its rows are in the catalog, which is read
    next; but its open spans are in its successor, which may be newer than the listing. So the
    folder is listed again.
    """

    def wanted(header: Mapping[str, Any]) -> bool:
        return header["lake"] == url and run_id in (None, header["run_id"])

    segments: list[LiveSegment] = []
    seen: set[Path] = set()
    for _ in range(_TRIES):
        complete = True
        for path in segment_paths(live):
            if path in seen:
                continue
            seen.add(path)
            try:
                snapshot = read_segment(path, wanted)
                if snapshot is not None:
                    segments.append(segment := decode_snapshot(snapshot))
                    if segment.damage_note:
                        say_once(path, segment.damage_note)
            except FileNotFoundError:
                complete = False
                continue
            except (NewerFormat, OSError) as error:
                name_skipped(path, error)
                continue
            except SegmentError as error:
                name_skipped(path, error, "run `entrenar-otel recover`")
                continue
        if complete:
            break
    return segments
