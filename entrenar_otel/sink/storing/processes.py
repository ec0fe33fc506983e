"""Processes: whose rows they are, and what is known of that process; its run's record in the lake."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from entrenar_otel.lake.records.runs import (
    CRASHED,
    ELSEWHERE,
    RUNNING,
    RunRecord,
    find_records,
    read_record,
    record_name,
    record_row,
)
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.schema import RUNS
from entrenar_otel.sink.decoding.arrived import ODD, FromProcess
from entrenar_otel.sink.decoding.sender import Process
from entrenar_otel.sink.known.database import Crash, Database, KnownProcess, Recall
from entrenar_otel.sink.storing import records
from entrenar_otel.sink.storing.recall import recall
from entrenar_otel.sink.storing.writes import WRITES, Writes

#: Processes that record at a time; of more nothing is stored.
MAX_GOING = 10_000


class TooMany(Exception):
    """More processes than a sink takes record at a time."""


class Processes:
    """The processes of a lake's runs."""

    def __init__(self, storage: Storage, database: Database, max_going: int = MAX_GOING) -> None:
        self._storage, self._database, self._max_going = storage, database, max_going
        #: Of the file of the log that is being rolled: what `meet` found, and records that are new.
        self._met: dict[Process, tuple[RunRecord, Recall]] = {}
        self._claimed: dict[Process, RunRecord] = {}

    def adopt(self, now_ns: int) -> None:
        """Follow the runs that the lake says are running, where the database was lost."""
        for record in find_records(self._storage):
            if record.state == RUNNING and record.live == ELSEWHERE and record.process:
                process = Process(record.run_id, record.rank, record.process)
                if self._database.find(process) is None:
                    self._database.put(_of(process, record, now_ns, Recall.PENDING))

    def meet(self, coming: Iterable[FromProcess]) -> None:
        """Give those that come for the first time an attempt, some runs at a time: each waits for the lake.

        Those of a run have their turns. Raises OSError, LakeError; what is odd in one is met again by `of`.
        """
        self._met.clear()
        self._claimed.clear()
        by_run: dict[str, list[tuple[FromProcess, bool]]] = {}
        for come in coming:
            process = come.process
            _, other = records.stems_of(process)
            if not any(map(self._database.has, (process, process._replace(process=other)))):
                by_run.setdefault(process.run_id, []).append((come, self._is_taken(process)))
        if self._database.count_going() + sum(map(len, by_run.values())) > self._max_going:
            return  # one by one, then it is told whom there is no room for

        def claim_all(of_run: list[tuple[FromProcess, bool]]) -> None:
            for come, is_taken in of_run:
                try:
                    self._met[come.process] = self._claim(come, is_taken)
                except (pa.ArrowException, *ODD):  # tried again by itself, and told then
                    continue

        with ThreadPoolExecutor(WRITES, thread_name_prefix="entrenar-sink-claim") as threads:
            for _ in threads.map(claim_all, by_run.values()):
                pass

    def of(self, come: FromProcess, number: int) -> KnownProcess:
        """What is known of a process; one that comes for the first time gets an attempt. Raises TooMany."""
        known = self._database.find(come.process)
        if known is None:
            known = self._adopted(come.process)
        if known is None:
            known = self._first_seen(come)
        if known.recall is Recall.PENDING:
            recall(self._storage, self._database, known, number)
        known.heard_ns = max(known.heard_ns, come.last_ns)
        return known

    def _adopted(self, process: Process) -> KnownProcess | None:
        """One that was adopted under the name that it has in the names of files."""
        _, other = records.stems_of(process)
        known = self._database.find(process._replace(process=other))
        if known is not None:
            known.process = process
        return known

    def _first_seen(self, come: FromProcess) -> KnownProcess:
        process = come.process
        if process in self._met:
            record, recalled = self._met.pop(process)
        else:
            has_room = self._database.count_going() < self._max_going
            record, recalled = self._claim(come, self._is_taken(process), has_room=has_room)
        known = _of(process, record, come.last_ns, recalled)
        if recalled is Recall.PENDING:
            known.is_going = record.state == RUNNING
        else:
            self._claimed[process] = record
            self.note(record, come.last_ns)
        self._database.put(known)
        return known

    def _claim(self, come: FromProcess, is_taken: bool, *, has_room: bool = True) -> tuple[RunRecord, Recall]:
        """The record of a process that is not known: its own, where that was forgotten, else a new one."""
        process = come.process
        there = find_records(self._storage, process.run_id)
        if (record := records.own_record(there, process)) is not None:
            return record, Recall.PENDING
        if not has_room:
            raise TooMany(f"{self._max_going:,} processes are recording already")
        own, other = records.stems_of(process)
        # the files of another rank of that name would have the same names
        stem = other if is_taken or any(record.process == own for record in there) else own
        return records.claim_record(self._storage, come, stem, there), Recall.NOTHING

    def _is_taken(self, process: Process) -> bool:
        own, _ = records.stems_of(process)
        return self._database.is_taken(process.run_id, own)

    def tell(self, known: KnownProcess, come: FromProcess, writes: Writes) -> None:
        """Write into the run's record what the process says of it, where that is something new."""
        was_going = known.is_going
        if was_going and come.started is None and come.ended is None:
            return
        record = self._claimed.pop(come.process, None) or self.record(known) or self._claim(come, False)[0]
        told = record
        if records.is_silent(told):
            told = records.speaking(told)
        if come.started is not None:
            known.samples = records.samples_of(come.started) or known.samples
            told = records.with_facts(told, come.started)
        if come.ended is not None:
            told = records.ended(told, come.ended)
        known.is_going = told.state == RUNNING
        if told != record:
            writes.put(told.name, RUNS, record_row(told).to_batches(), lambda _error: False)
            self.note(told, known.heard_ns)

    def note(self, record: RunRecord, heard_ns: int) -> None:
        """Remember that it has crashed, or that it has not."""
        if record.state == CRASHED:
            model_id = record.model_id or ""
            self._database.add_crash(
                Crash(record.run_id, record.rank, model_id, record.attempt, heard_ns / 1e9)
            )
        else:
            self._database.end_crash(record.run_id, record.rank, record.attempt)

    def record(self, known: KnownProcess) -> RunRecord | None:
        """The record of a process in the lake."""
        process = known.process
        return read_record(self._storage, record_name(known.day, process.run_id, known.attempt, process.rank))


def _of(process: Process, record: RunRecord, heard_ns: int, recall: Recall) -> KnownProcess:
    return KnownProcess(process, record.process, record.day, record.attempt, heard_ns, recall=recall)
