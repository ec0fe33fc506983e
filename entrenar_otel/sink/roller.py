"""Roller: a file of the request log becomes rows of the lake, each once.

Files of a process are named after the number of the log's file. Killed anywhere, the same steps lead to the
same files again: what is known already (known/database.py) changes with the last step only, and a record of a
run is written before its rows.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from entrenar_processors import Block, Samples

from entrenar_otel.console import logger
from entrenar_otel.lake.hand_over import file_name, tables_of
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.journal import Document, Journal
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.redact import printable_line
from entrenar_otel.sink.decoding.arrived import ODD, Arrived, FromProcess
from entrenar_otel.sink.decoding.foreign import MAX_ROWS
from entrenar_otel.sink.decoding.sender import Process
from entrenar_otel.sink.decoding.unstorable import Unstorable
from entrenar_otel.sink.known.bitmaps import Scattered
from entrenar_otel.sink.known.database import Crash, Database, KnownProcess, Recall
from entrenar_otel.sink.request_log import number_of, read_requests
from entrenar_otel.sink.storing import records
from entrenar_otel.sink.storing.foreign_files import FOREIGN, foreign_stem, is_of_samples
from entrenar_otel.sink.storing.fresh import fresh
from entrenar_otel.sink.storing.processes import MAX_GOING, Processes, TooMany
from entrenar_otel.sink.storing.recall import (
    bitmaps_of,
    contents_of,
    event_digest,
    is_pruned,
    part_of,
    span_digest,
)
from entrenar_otel.sink.storing.spans import replace_spans
from entrenar_otel.sink.storing.watch import SILENT_SECONDS, Watch
from entrenar_otel.sink.storing.writes import Writes

#: Stretches of `seq`, and sets of tags, that are remembered of a process; of honest senders there are few.
MAX_STRETCHES = 50_000
MAX_PARTS = 1_000
#: For so many files of the log it is remembered which requests of foreign clients are stored.
REMEMBERED_FILES = 1_000
_SAMPLES = "records of samples"
_ODD = (pa.ArrowInvalid, pa.ArrowTypeError, *ODD)


class Roller:
    """Rolls the files of one sink's request log into its lake. Used by one thread at a time.

    `state_folder` is the request log's, whose lock keeps other sinks away. Raises OSError, sqlite3.Error.
    """

    def __init__(
        self,
        storage: Storage,
        state_folder: Path,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        silent_seconds: float = SILENT_SECONDS,
        max_going: int = MAX_GOING,
    ) -> None:
        self._storage, self._database, self._clock_ns = storage, Database(state_folder), clock_ns
        self._processes = Processes(storage, self._database, max_going)
        self._watch = Watch(storage, self._database, self._processes, clock_ns, silent_seconds)
        #: What could not be stored.
        self.unstorable = Unstorable()
        #: Values of metrics in the lake, and those that came again.
        self.samples = self.repeated = 0
        #: Rows of clients other than runs.
        self.foreign_rows = 0
        #: Values of aggregates that are made of samples which the lake has.
        self.left_out = 0
        self._path = Path()  # what is being rolled
        self._failing: set[Path] = set()
        if self._database.is_new:
            self._processes.adopt(clock_ns())

    def roll(self, path: Path) -> None:
        """Put a closed file's rows into the lake, durably; the caller then removes it.

        Raises OSError, LakeError, sqlite3.Error: then it is to be tried again.
        """
        self._path = path
        self._failing.add(path)
        number = number_of(path)
        if not self._database.is_rolled(number):
            self._roll(path, number)
        self._failing.discard(path)

    def _roll(self, path: Path, number: int) -> None:
        arrived, stored = self._read(path), 0
        with self._database.transaction(), Writes(self._storage) as writes:
            self._processes.meet(arrived)
            for come in arrived:
                try:
                    stored += self._store(come, number, arrived.unstorable, writes)
                except TooMany as error:
                    arrived.unstorable.add("runs", str(error), come.process)
                except _ODD as error:  # a mistake of ours: the others are stored
                    arrived.unstorable.add("processes", type(error).__name__, come.process)
                    self._keep(come.process, error)
            foreign_rows, left_out = self._store_foreign(arrived, number, writes)
            writes.finish()
            self._database.set_rolled(number)
        self.foreign_rows += foreign_rows
        self.left_out += left_out
        self.unstorable.counts.update(arrived.unstorable.counts)
        self.samples += stored
        self.repeated += arrived.samples - stored

    def _read(self, path: Path) -> Arrived:
        arrived = Arrived(self.unstorable.again(), self._database.has_request)
        for request in read_requests(path):
            arrived.add(request)
        return arrived

    def settle(self, until_ns: int | None = None) -> None:
        """What has time, where all that had arrived by `until_ns` has been rolled; by default, by now.

        Raises as `roll` does.
        """
        # files are merged over gaps in their numbers: none of these may be still to come
        until_ns = self._clock_ns() if until_ns is None else until_ns
        self._watch.look(until_ns, may_merge=not any(path.exists() for path in self._failing))

    @property
    def crashes(self) -> list[Crash]:
        """The runs that crashed of late and were not resumed, as of the last look."""
        return self._watch.crashes

    def close(self) -> None:
        """Let go of the state folder."""
        self._database.close()

    def _keep(self, of: tuple[object, ...], error: Exception) -> None:
        """Have the file stay under another name, of which not everything could be stored."""
        kept = self._path.with_suffix(".failed")
        with contextlib.suppress(FileExistsError):
            os.link(self._path, kept)
        logger.warning(
            "what came from %s cannot be stored (%s: %s); all else is, and the requests are kept in %s. "
            "Please report this",
            printable_line(str(of)), type(error).__name__, error, kept, trace=True,
        )  # fmt: skip

    def _store_foreign(self, arrived: Arrived, number: int, writes: Writes) -> tuple[int, int]:
        """Store what came from others, and of runs the metrics that are not made of samples which they send.

        Returns how many rows, and how many are left out.
        """
        rows = left_out = 0
        for (run_id, process), foreign in arrived.foreign.items():
            samples = foreign.samples(number * MAX_ROWS)
            if process is not None and self._sends_samples(process):
                others = Samples(block for block in samples.blocks if not is_of_samples(block.series[0]))
                left_out += samples.n_values - others.n_values
                samples = others
                if not samples.n_values:
                    continue
            day, stem = records.moment(foreign.first_ns).strftime("%Y-%m-%d"), foreign_stem(process)
            for table, schema, batches in foreign.tables(samples):
                name = file_name(f"{FOREIGN}/{table}", day, run_id, stem, number)
                writes.put(name, schema, batches, self._is_known(arrived.unstorable, (run_id,)))
            self._database.add_foreign(day, run_id, stem)
            rows += samples.n_values + foreign.notes
        self._database.add_requests(arrived.digests, number, REMEMBERED_FILES)
        return rows, left_out

    def _sends_samples(self, process: Process) -> bool:
        known = self._database.find(process)
        return known is not None and known.samples in ("blocks", "events")

    def _is_known(self, unstorable: Unstorable, of: tuple[object, ...]) -> Callable[[BaseException], bool]:
        """What sees to it that rows cannot be written for reasons of their own."""

        def is_known(error: BaseException) -> bool:
            if not isinstance(error, _ODD):
                return False
            unstorable.add("rows", str(error), of)
            self._keep(of, error)
            return True

        return is_known

    # -- one process ------------------------------------------------------------------------------

    def _store(self, come: FromProcess, number: int, unstorable: Unstorable, writes: Writes) -> int:
        known = self._processes.of(come, number)
        samples = Samples([*self._blocks(come, known, unstorable), *self._wide(come, known, unstorable)])
        events, digests = self._events(come, known)
        spans, later = self._spans(come, known)
        journal = Journal(events, [document for _, document in spans], [], 0)
        owner = Owner(come.process.run_id, known.attempt, come.process.rank)
        for table, schema, batches in tables_of(journal, samples, owner):
            name = file_name(table, known.day, owner.run_id, known.stem, number)
            writes.put(name, schema, batches, self._is_known(unstorable, come.process))
            known.is_settled = False
        known.files += bool(len(samples) or events or spans)
        replace_spans(self._storage, known, owner, ((number, span) for _, number, span in later))
        self._processes.tell(known, come, writes)
        self._database.put(known)
        self._database.add_events(known.id, digests)
        self._database.add_spans(known.id, ((digest, span["end_ns"], number) for digest, span in spans))
        self._database.add_spans(known.id, ((digest, span["end_ns"], at) for digest, at, span in later))
        return samples.n_values

    def _blocks(self, come: FromProcess, known: KnownProcess, unstorable: Unstorable) -> list[Block]:
        rows = fresh(come.blocks, known.seqs)
        if len(known.seqs) <= MAX_STRETCHES:
            return rows
        for block in rows:
            known.seqs.remove_numbers(block.seq)
        unstorable.add(_SAMPLES, f"more than {MAX_STRETCHES:,} gaps", come.process, sum(map(len, rows)))
        return []

    def _wide(self, come: FromProcess, known: KnownProcess, unstorable: Unstorable) -> list[Block]:
        by_part: dict[str, list[Block]] = {}
        for block in () if is_pruned(known) else come.wide.blocks():
            by_part.setdefault(part_of(block.series[0].tags), []).append(block)
        rows: list[Block] = []
        for part, blocks in by_part.items():
            if not self._database.has_part(known.id, part, MAX_PARTS):
                unstorable.add(_SAMPLES, f"more than {MAX_PARTS:,} sets of tags", come.process)
                continue
            bitmaps = bitmaps_of(self._database, known, part)
            try:
                rows += fresh(blocks, bitmaps)
            except Scattered as error:
                unstorable.add(_SAMPLES, str(error), come.process, sum(map(len, blocks)))
                continue
            self._database.put_chunks(known.id, part, bitmaps.changed())
        return rows

    def _events(self, come: FromProcess, known: KnownProcess) -> tuple[list[Document], set[bytes]]:
        """The events that are not stored yet, and what they will be known by."""
        rows: list[Document] = []
        digests: set[bytes] = set()
        is_recalled = known.recall is Recall.DONE
        unnamed = [document for identity, document in come.events if is_recalled or not identity]
        contents = iter(contents_of(unnamed) if unnamed else [])
        for identity, document in come.events:
            content = next(contents) if is_recalled or not identity else b""
            digest = event_digest(identity) if identity else content
            if digest in digests or self._database.has_event(known.id, digest):
                continue
            if is_recalled and self._database.has_event(known.id, content):
                continue
            digests.add(digest)
            rows.append(document)
        return rows, digests

    def _spans(
        self, come: FromProcess, known: KnownProcess
    ) -> tuple[list[tuple[bytes, Document]], list[tuple[bytes, int, Document]]]:
        """The spans that are not stored yet; and those that are in a file of that number, and end earlier."""
        fresh_ones, later = [], []
        for (trace_id, span_id), document in come.spans.items():
            digest = span_digest(trace_id, span_id)
            if (stored := self._database.span(known.id, digest)) is None:
                fresh_ones.append((digest, document))
            elif document["end_ns"] // 1000 > stored[0] // 1000:
                later.append((digest, stored[1], document))
        return fresh_ones, later
