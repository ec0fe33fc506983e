"""Live segments: what processes on this host have recorded and is not in the lake yet."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from entrenar_processors import Samples

from entrenar_otel.console import logger
from entrenar_otel.lake.journal import Journal
from entrenar_otel.lake.rows import metric_batches
from entrenar_otel.lake.schema import Owner
from entrenar_otel.recording.decode import Decoded, decode
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.lock import owner_is_alive
from entrenar_otel.recording.segment import HEADER_BYTES, SegmentError, Snapshot, eras_of

_TRIES = 8


def default_live() -> Path:
    """`ENTRENAR_LIVE`, else `$XDG_STATE_HOME/entrenar/live`; always on a local disk."""
    if chosen := os.environ.get("ENTRENAR_LIVE"):
        return Path(chosen)
    state = os.environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path.home() / ".local" / "state"
    return base / "entrenar" / "live"


def usable_live(folder: Path | None) -> Path:
    """The live folder, created if missing; one in the temporary folder if that is impossible.

    Raises PermissionError.
    """
    wanted = folder or default_live()
    fallback = Path(tempfile.gettempdir()) / f"entrenar-{os.getuid()}" / "live"
    for one in (wanted, fallback) if folder is None else (wanted,):
        try:
            one.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(one, os.W_OK):
                if one is not wanted:
                    logger.warning("%s is not writable; live segments are kept in %s", wanted, one)
                return one
        except OSError:
            continue
    raise PermissionError(
        f"no folder for live segments: {wanted} is not writable. Set ENTRENAR_LIVE to a local folder"
    )


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
        """Its spans and events. Raises ValueError on a note that is not JSON."""
        return Journal.of(self.decoded.notes)

    @property
    def owner(self) -> Owner:
        header = self.snapshot.header
        return Owner(header["run_id"], int(header["attempt"]), int(header["rank"]))

    def metrics(self) -> Iterator[pa.RecordBatch]:
        return metric_batches(self.samples, self.owner)


def segment_paths(live: Path) -> list[Path]:
    """The visible segments, by process and number."""
    try:
        names = sorted(os.listdir(live))
    except OSError:
        return []
    return [live / name for name in names if name.endswith(".seg")]


def decode_snapshot(snapshot: Snapshot) -> LiveSegment:
    """Decode a whole segment, and describe its damage."""
    layouts: dict[int, Layout] = {}
    decoded = decode(
        snapshot.words,
        layouts,
        start=HEADER_BYTES,
        first_seq=snapshot.first_seq,
        eras=eras_of(snapshot.header),
    )
    notes = [str(one) for one in decoded.damage if not one.tail]
    lost_tail = decoded.end < snapshot.synced_to
    if lost_tail and not any(one.tail for one in decoded.damage):
        notes.append(
            f"records between offset {decoded.end} and {snapshot.synced_to} were written and are missing"
        )
    if snapshot.cut_bytes:
        notes.append(f"the file is {snapshot.cut_bytes} bytes shorter than it was created")
    if any(one.tail for one in decoded.damage) and (lost_tail or not owner_is_alive(snapshot.path)):
        notes += [str(one) for one in decoded.damage if one.tail]
    note = f"{snapshot.path}: {'; '.join(notes)}" if notes else None
    return LiveSegment(snapshot, decoded, note)


def read_live(live: Path, url: str, run_id: str | None = None) -> list[LiveSegment]:
    """The segments whose rows belong in the lake at `url` (of one run), as they are now.

    If one was handed over between listing and reading, its rows are in the catalog, which is read
    next; but its open spans are in its successor, which may be newer than the listing. So the
    folder is listed again.
    """

    def wanted(header: dict[str, Any]) -> bool:
        return header["lake"] == url and run_id in (None, header["run_id"])

    found: list[LiveSegment] = []
    seen: set[Path] = set()
    for _ in range(_TRIES):
        complete = True
        for path in segment_paths(live):
            if path in seen:
                continue
            seen.add(path)
            try:
                snapshot = Snapshot.read(path, wanted)
            except FileNotFoundError:
                complete = False
                continue
            except (SegmentError, OSError, ValueError) as error:
                logger.warning("%s; run `entrenar-otel recover`", error)
                continue
            if snapshot is not None:
                segment = decode_snapshot(snapshot)
                if segment.damage_note:
                    logger.warning("%s", segment.damage_note)
                found.append(segment)
        if complete:
            break
    return found


def is_alive(live: str, process: str) -> bool | None:
    """Whether the process still records; None where its live folder cannot be seen from here."""
    if not live or not Path(live).is_dir():
        return None
    return owner_is_alive(Path(live) / f"{process}.lock")
