"""Record: the run of a program that records nothing itself: when it began, and how it ended.

While the program runs, what would be recorded is said in a lock's file in the live folder, as any run's
process says it: where we are killed, the next recovery finds it. It is withdrawn once the program records
itself.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError, guard
from entrenar_otel.identity.launcher import rank_from
from entrenar_otel.identity.process import new_process_name
from entrenar_otel.redact import arguments_without_secrets

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord
    from entrenar_otel.recording.process.lock import ProcessLock

#: How long the end waits for a lake.
_END_SECONDS = 20.0
_THEN = "the program is not touched"


class ProgramRecord:
    """Begins in a thread of its own: the program's start and its signals do not wait for a lake."""

    def __init__(
        self,
        command: Sequence[str],
        pid: int,
        environ: Mapping[str, str],
        *,
        started_at: datetime,
    ) -> None:
        self._command, self._pid, self._environ = command, pid, environ
        self._started_at = started_at
        self._lake: Lake | None = None
        self._record: RunRecord | None = None
        self._lock: ProcessLock | None = None
        self._withdrawn = threading.Event()
        self._beginning = threading.Thread(target=self._begin, name="entrenar-launch", daemon=True)
        self._beginning.start()

    def withdraw(self) -> None:
        """The program records its own run: that is the record."""
        if not self._withdrawn.is_set():
            self._withdrawn.set()
            if not self._beginning.is_alive():
                self._release()

    def end(self, state: str, reason: str | None) -> bool:
        """Write how it ended, or bring in what killed processes left; whether it was written."""
        done, at = threading.Event(), datetime.now(UTC)

        def write() -> None:
            with guard("run record", _THEN):
                self._beginning.join()
                if not self._withdrawn.is_set():
                    self._write(state, reason, at)
                    done.set()
                elif state != "completed" and self._lake is not None:
                    self._lake.recover(thorough=False)

        writer = threading.Thread(target=write, name="entrenar-launch-end", daemon=True)
        writer.start()
        writer.join(_END_SECONDS)
        return done.is_set()

    def _begin(self) -> None:
        with guard("run record", _THEN):
            from entrenar_otel.lake.records.runs import new_record
            from entrenar_otel.lake.records.statement import statement_of
            from entrenar_otel.monitor.request import RunRequest
            from entrenar_otel.recording.live_folder import naming
            from entrenar_otel.recording.process.lock import ProcessLock
            from entrenar_otel.run.settings import RunSettings

            request = RunRequest(
                run_id=self._environ["ENTRENAR_RUN_ID"], lake=self._environ.get("ENTRENAR_LAKE")
            )
            try:
                RunSettings.find(request.settings_file)
            except ConfigError as error:
                logger.warning("%s; recording with the defaults", error)
                request = replace(request, settings_file=None)
            lake = request.resolve(self._environ).open_lake()
            rank, world_size = rank_from(self._environ)
            process = new_process_name()
            record = new_record(
                run_id=request.run_id or "",
                rank=rank,
                world_size=world_size,
                day=self._started_at.strftime("%Y-%m-%d"),
                config=None,
                model_id=self._environ.get("ENTRENAR_MODEL_ID"),
                version=None,
                process=process,
                live=str(lake.live),
            )
            argv = [argument.encode(errors="replace").decode() for argument in self._command]
            self._record = replace(
                record,
                started_at=self._started_at,
                argv=arguments_without_secrets(argv),
                pid=self._pid,
                python="",
            )
            with naming(lake.live):
                self._lock = ProcessLock(lake.live, process)
            self._lock.describe(statement_of(lake.url, self._record))
            self._lake = lake
        if self._withdrawn.is_set():
            self._release()

    def _write(self, state: str, reason: str | None, at: datetime) -> None:
        from entrenar_otel.lake.records.runs import write_record
        from entrenar_otel.lake.records.writer import claim_on_the_spot

        if self._lake is None or self._record is None:
            return
        record = claim_on_the_spot(self._lake.storage, self._record)
        write_record(self._lake.storage, record.ended(state, at, reason))
        self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            with guard("run record", _THEN):
                lock.release()
