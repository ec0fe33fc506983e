"""Watch: which runs still speak, and what is to be done when one is over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from entrenar_otel.lake.compact import compact
from entrenar_otel.lake.records.pulse import BEAT_SECONDS, beat_name, remove_beat
from entrenar_otel.lake.records.runs import RUNNING, write_record
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.sink.known.database import Crash, Database, KnownProcess
from entrenar_otel.sink.storing import records
from entrenar_otel.sink.storing.foreign_files import FOREIGN
from entrenar_otel.sink.storing.processes import Processes

#: A run that has said nothing for so long has crashed, as far as anybody can tell from here.
SILENT_SECONDS = 300.0
#: So long is remembered what a run has stored that is over.
REMEMBERED_SECONDS = 7 * 24 * 3600.0
#: So long, and so many at a time, runs that have crashed are shown to Prometheus, unless they are resumed.
CRASH_SECONDS, MAX_CRASHES = 24 * 3600.0, 200
#: A process with so many new files has some of them merged while it goes on.
MANY_FILES = 64
#: A day is over for foreign clients when it is so much later.
_LATE_NS = 600 * 1_000_000_000
#: For one look, after which files of the log may wait to be rolled.
LOOK_SECONDS = 2.0
_NS = 1_000_000_000
_T = TypeVar("_T")


class Watch:
    """Looks at all processes that have not ended."""

    def __init__(
        self,
        storage: Storage,
        database: Database,
        processes: Processes,
        clock_ns: Callable[[], int],
        silent_seconds: float,
    ) -> None:
        self._storage, self._database, self._processes = storage, database, processes
        self._clock_ns, self._silent_seconds = clock_ns, silent_seconds
        self._listens_since_ns = clock_ns()  # before it nobody could be heard
        self._beats: dict[int, float] = {}
        self._until = 0.0
        #: The runs that crashed of late and were not resumed, the latest first.
        self.crashes: list[Crash] = []

    def look(self, until_ns: int, *, may_merge: bool = True) -> None:
        """Close the runs that are silent, let others see that the rest live, merge files of ended ones.

        What arrived after `until_ns` may wait to be rolled, and be a word of a run that seems silent.
        """
        now = self._clock_ns()
        self._until = time.monotonic() + LOOK_SECONDS
        silent_ns = int(self._silent_seconds * _NS)
        heard_ns = min(now, until_ns)
        if heard_ns - self._listens_since_ns >= silent_ns:
            for known in self._in_time(self._database.going(heard_ns - silent_ns)):
                self._close(known)
        self._beat(now)
        if may_merge:
            self._merge(now)
        self._database.forget(now - int(REMEMBERED_SECONDS * _NS))
        self.crashes = self._database.crashes(now / _NS - CRASH_SECONDS, MAX_CRASHES)

    def _merge(self, now_ns: int) -> None:
        for known in self._in_time(self._database.with_files(MANY_FILES)):
            compact(self._storage, *_files_of(known), is_complete=True)
            known.files = 0
            self._put(known)
        for known in self._in_time(self._database.unsettled()):
            self._settle(known)
        self._merge_foreign(now_ns)

    def _close(self, known: KnownProcess) -> None:
        record = self._processes.record(known)
        if record is not None and record.state == RUNNING:
            silent = records.silent(record, known.heard_ns, self._silent_seconds)
            write_record(self._storage, silent)
            self._processes.note(silent, known.heard_ns)
        known.is_going = False
        self._put(known)

    def _in_time(self, given: Iterable[_T]) -> Iterator[_T]:
        """As many as there is time for, at least one; the others have their turn with the next look."""
        for number, item in enumerate(given):
            if number and time.monotonic() >= self._until:
                return
            yield item

    def _put(self, known: KnownProcess) -> None:
        with self._database.transaction():
            self._database.put(known, with_seqs=False)

    def _beat(self, now_ns: int) -> None:
        """A process elsewhere is seen to live by its beat, which says nothing of where it runs."""
        going = self._database.going(now_ns + _NS)
        due = time.monotonic() - BEAT_SECONDS
        self._beats = {known.id: self._beats.get(known.id, due) for known in going}
        for known in self._in_time(sorted(going, key=lambda known: self._beats[known.id])):
            if self._beats[known.id] <= due:
                document = {"at": known.heard_ns / _NS, "origin": None}
                name = beat_name(known.day, known.process.run_id, known.stem)
                self._storage.write_bytes(name, json.dumps(document).encode())
                self._beats[known.id] = time.monotonic()

    def _settle(self, known: KnownProcess) -> None:
        compact(self._storage, *_files_of(known), is_complete=True)
        record = self._processes.record(known)
        if record is not None:
            remove_beat(self._storage, record)
        known.is_settled, known.files = True, 0
        self._put(known)

    def _merge_foreign(self, now_ns: int) -> None:
        """As those of processes; once more when their day is over."""
        today = records.moment(now_ns - _LATE_NS).strftime("%Y-%m-%d")
        for day, run_id, stem in self._in_time(self._database.foreign(MANY_FILES, before_day=today)):
            is_over = day < today
            compact(self._storage, day, run_id, stem, is_complete=True, folder=f"{FOREIGN}/")
            with self._database.transaction():
                self._database.set_merged(day, run_id, stem, is_over=is_over)


def _files_of(known: KnownProcess) -> tuple[str, str, str]:
    """Day, run id and name of a process's files."""
    return known.day, known.process.run_id, known.stem
