"""Processes: whose rows they are, and what is known of that process; its run's record in the lake."""

from __future__ import annotations

from entrenar_otel.lake.records.runs import (
    CRASHED,
    ELSEWHERE,
    RUNNING,
    RunRecord,
    find_records,
    read_record,
    record_name,
    write_record,
)
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.sink.decoding.arrived import FromProcess
from entrenar_otel.sink.decoding.sender import Process
from entrenar_otel.sink.known.database import Crash, Database, KnownProcess, Recall
from entrenar_otel.sink.storing import records
from entrenar_otel.sink.storing.recall import recall

#: Processes that record at a time; of more nothing is stored.
MAX_GOING = 10_000


class TooMany(Exception):
    """More processes than a sink takes record at a time."""


class Processes:
    """The processes of a lake's runs."""

    def __init__(self, storage: Storage, database: Database, max_going: int = MAX_GOING) -> None:
        self._storage, self._database, self._max_going = storage, database, max_going

    def adopt(self, now_ns: int) -> None:
        """Follow the runs that the lake says are running, where the database was lost."""
        for record in find_records(self._storage):
            if record.state == RUNNING and record.live == ELSEWHERE and record.process:
                process = Process(record.run_id, record.rank, record.process)
                if self._database.find(process) is None:
                    self._database.put(_of(process, record, now_ns, Recall.PENDING))

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
        record = records.find_record(self._storage, process)
        if record is not None:  # the database was lost, or has forgotten it
            known = _of(process, record, come.last_ns, Recall.PENDING)
            known.is_going = record.state == RUNNING
        else:
            if self._database.count_going() >= self._max_going:
                raise TooMany(f"{self._max_going:,} processes are recording already")
            own, other = records.stems_of(process)
            stem = other if self._is_taken(process, own) else own
            record = records.claim_record(self._storage, come, stem)
            known = _of(process, record, come.last_ns, Recall.NOTHING)
            self.note(record, come.last_ns)
        self._database.put(known)
        return known

    def _is_taken(self, process: Process, stem: str) -> bool:
        """Whether another rank of the run has this name: their files would have the same names."""
        return self._database.is_taken(process.run_id, stem) or any(
            record.process == stem for record in find_records(self._storage, process.run_id)
        )

    def tell(self, known: KnownProcess, come: FromProcess) -> None:
        """Write into the run's record what the process says of it, where that is something new."""
        was_going = known.is_going
        if was_going and come.started is None and come.ended is None:
            return
        record = self.record(known) or records.claim_record(self._storage, come, known.stem)
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
            write_record(self._storage, told)
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
