"""Feed: the curves of one run as they grow: what is new in its live segments and files, and only that."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from entrenar_processors import Series, Summary
from entrenar_processors.samples import Column

from entrenar_otel.delivery.exit_gate import gate
from entrenar_otel.errors import EntrenarError, QueryError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.records.runs import RunRecord, attempt_of
from entrenar_otel.lake.sql.live import segment_paths
from entrenar_otel.lake.store.catalog import DataFile, list_folder, run_folder
from entrenar_otel.lake.store.files import is_readable
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import is_gone, telling_gone
from entrenar_otel.recording.notes import EVENT, SPAN_STARTED
from entrenar_otel.views.curve import Curve
from entrenar_otel.views.data_wait import DataWaits
from entrenar_otel.views.stored import names_in, read_samples, seq_span, whole_series
from entrenar_otel.views.tail import SegmentTail

#: The spans that say how much there will be.
_PLANNED = ("training.run", "training.epoch")
#: The events that findings are made of.
_TELLING = ("training.alert", "training.action")
#: Of a pruned run means are left, which are numbered by their time.
_MEANS: dict[str, Any] = {"value": "mean", "seq": None}


class Feed:
    """Reads what one rank of a run has recorded; `refresh` adds what is new.

    `curves` and `summaries` are by series; `data_waits` sums up the times of its steps. `has_news` says that
    there may be other findings since it was set False; `epochs` is how many there will be, and `batches` how
    many in each, where the loop said so.
    """

    def __init__(self, lake: Lake, run_id: str, rank: int = 0) -> None:
        self._lake, self.run_id, self.rank = lake, run_id, rank
        self.curves: dict[Series, Curve] = defaultdict(Curve)
        self.summaries: dict[Series, Summary] = defaultdict(Summary)
        self.data_waits = DataWaits()
        self.epochs: int | None = None
        self.batches: int | None = None
        self.has_news = True
        self.is_live = False
        self.is_pruned = False
        self._tails: dict[Path, SegmentTail | None] = {}
        self._files: dict[str, DataFile] = {}
        self._events: set[str] = set()
        #: Of each process: from which to which `seq` its tails went.
        self._taken: dict[str, list[SegmentTail]] = defaultdict(list)

    def refresh(self, records: list[RunRecord]) -> None:
        """Read what is new. Segments first, files second: so nothing falls between the two."""
        with contextlib.suppress(FileNotFoundError):  # pruned or compacted just now: the next look sees more
            self._read_segments(records)
            folders = sorted({record.day for record in records})
            files = [f for day in folders for f in self._list("metrics", day)]
            fresh = [file for file in files if file.name not in self._files]
            events = {file.name for day in folders for file in self._list("events", day)}
            self.has_news |= any(map(self._tells, events - self._events))
            self._events = events
            if fresh:
                self._read_files(fresh)
            elif not files and not self.curves and not self.is_live:
                kept = [f for day in folders for f in self._list("curves", day) if f.name not in self._files]
                self.is_pruned |= bool(kept)
                if kept:
                    self._read_files(kept, of_curves=True)

    def _list(self, table: str, day: str) -> list[DataFile]:
        return list_folder(self._lake.storage, run_folder(table, day, self.run_id))

    def _tells(self, name: str) -> bool:
        """Whether a file of events may change what was found: that of a live run has what its notes said."""
        if not self.is_live:
            return True
        storage = self._lake.storage
        try:
            return not names_in(storage.location(name), getattr(storage, "filesystem", None)).isdisjoint(
                _TELLING
            )
        except Exception:  # untrusted: the query says what is wrong with it
            return True

    # -- segments -------------------------------------------------------------------------------

    def _read_segments(self, records: list[RunRecord]) -> None:
        paths = segment_paths(self._lake.live)
        self._tails = {path: self._tails[path] for path in paths if path in self._tails}
        self.is_live = False
        for path in paths:
            if not any(path.name.startswith(record.process) for record in records):
                continue  # or its record comes later: asked again at the next look
            try:
                if path not in self._tails:
                    self._tails[path] = self._tail(path)
                if (tail := self._tails[path]) is not None:
                    self._read_tail(tail)
                    self.is_live = True
            except FileNotFoundError:  # it is a file of the lake by now
                continue
            except Exception as error:  # untrusted: whatever it is, it is the file's fault
                name_skipped(path, f"{path} cannot be read: {error}", "run `entrenar-otel recover`")
                self._tails[path] = None

    def _tail(self, path: Path) -> SegmentTail | None:
        """The tail of a segment, where it is this run's and no file has its rows yet."""
        tail = SegmentTail(path)
        is_ours = tail.header["run_id"] == self.run_id and tail.header["lake"] == self._lake.url
        if not is_ours or tail.header["rank"] != self.rank:
            return None
        if any(file.holds(tail.process, tail.number) for file in self._files.values()):
            return None
        self._taken[tail.process].append(tail)
        return tail

    def _read_tail(self, tail: SegmentTail) -> None:
        samples, notes = tail.read()
        attempt = int(tail.header["attempt"])
        if samples.blocks and not attempt:  # its process had not heard of the lake when it began
            attempt = attempt_of(self._lake.storage, self.run_id, self.rank, tail.process)
        for series, rows in samples.copy().columns():
            self._add(attempt, series, rows)
        for note in notes:
            self.has_news |= note.kind == EVENT and note.document.get("name") in _TELLING
            if note.kind == SPAN_STARTED and note.document.get("name") in _PLANNED:
                self._note_plan(note.document.get("attributes"))

    def _note_plan(self, attributes: Any) -> None:
        given = attributes if isinstance(attributes, dict) else {}
        epochs, batches = (
            count if isinstance(count := given.get(name), int) and count > 0 else None
            for name in ("training.epochs", "training.batches")
        )
        self.epochs, self.batches = epochs or self.epochs, batches or self.batches

    # -- files ----------------------------------------------------------------------------------

    def _read_files(self, fresh: list[DataFile], *, of_curves: bool = False) -> None:
        """Their rows, without those that a tail or a file that they replace had.

        `of_curves`: what is left of a pruned run.
        """
        wanted = []
        for file in fresh:
            known = [old for old in self._files.values() if _overlap(old, file)]
            seen = {number for old in known for number in range(old.first, old.last + 1)}
            if not seen.issuperset(range(file.first, file.last + 1)):
                wanted.append((file, known))
        try:
            for file, known in wanted:
                self._read_file(file, is_partly_known=bool(known), of_curves=of_curves)
        except Exception as error:
            if is_gone(error):
                raise FileNotFoundError from None
            if isinstance(error, EntrenarError):
                raise
            raise QueryError(f"the rows of run {self.run_id} cannot be read: {error}") from None
        finally:
            for file in fresh:
                self._files[file.name] = file

    def _read_file(self, file: DataFile, *, is_partly_known: bool, of_curves: bool) -> None:
        tails = [tail for tail in self._taken[file.process] if file.holds(tail.process, tail.number)]
        storage = self._lake.storage
        where, columns = storage.location(file.name), _MEANS if of_curves else {}
        if not is_readable(storage, file.name):
            return
        for tail in tails:
            self._tails[tail.path] = None  # what it has beyond that is in the file
        filesystem = getattr(storage, "filesystem", None)
        with gate.passing(), telling_gone(where):
            if not of_curves and _have_read(tails, file, seq_span(where, filesystem)):
                return
        newest = {series: self._last_seq(series) for series in self.curves if is_partly_known}
        with gate.passing(), telling_gone(where):
            pieces: Any = read_samples(where, filesystem, **columns)
            if of_curves:
                pieces = whole_series(pieces, by_time=True).items()
            for (rank, attempt, series), rows in pieces:
                if rank != self.rank:
                    continue
                is_new = rows.seq > newest.get(series, -1)
                for tail in tails:
                    is_new &= (rows.seq < tail.first_seq) | (rows.seq >= tail.next_seq)
                if is_new.all():
                    self._add(attempt, series, rows)
                elif is_new.any():
                    self._add(attempt, series, rows.take(np.flatnonzero(is_new)))

    def _last_seq(self, series: Series) -> int:
        seq = self.curves[series].points().seq if series in self.curves else np.empty(0, np.int64)
        return int(seq[-1]) if len(seq) else -1

    def _add(self, attempt: int, series: Series, rows: Column) -> None:
        self.curves[series].extend(attempt, rows)
        self.summaries[series].update(rows.values, order=attempt << 48 | int(rows.seq[-1]))
        if not self.is_pruned:
            self.data_waits.add(attempt, series, rows)


def _overlap(old: DataFile, new: DataFile) -> bool:
    return old.process == new.process and old.first <= new.last and new.first <= old.last


def _have_read(tails: list[SegmentTail], file: DataFile, span: tuple[int, int] | None) -> bool:
    """Whether tails had every row of a file, whose `seq` are in this span."""
    if span is None or {tail.number for tail in tails} != set(range(file.first, file.last + 1)):
        return False
    ordered = sorted(tails, key=lambda tail: tail.first_seq)
    is_whole = all(one.next_seq >= other.first_seq for one, other in itertools.pairwise(ordered))
    return is_whole and ordered[0].first_seq <= span[0] and span[1] < ordered[-1].next_seq
