"""Dead: which processes recovery takes for dead, and what it leaves alone, since they may live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.errors import LakeError
from entrenar_otel.lake.records.pulse import life_of
from entrenar_otel.lake.records.runs import COMPLETED, RUNNING, STOPPED, read_record, record_name
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.recording.process.life import Life, LockFile, life_of_segment


class Dead:
    """Says of each process whether it is proven dead; `force` also takes what nobody heard of for dead."""

    def __init__(self, storage: Storage, *, force: bool = False) -> None:
        self._storage, self._force = storage, force
        self._unknown: set[str] = set()
        self._known: dict[str, bool] = {}

    def has_written(self, segment: Path, header: dict[str, Any]) -> bool:
        """Whether the process that wrote a segment is dead, where nobody is seen to hold the segment."""
        name = record_name(
            str(header["day"]), str(header["run_id"]), int(header["attempt"]), int(header["rank"])
        )
        return self._has(str(header["process"]), life_of_segment(segment, header), name)

    def has_locked(self, lock: LockFile) -> bool:
        """Whether the process of a lock is dead, where nobody is seen to hold the lock."""
        name = lock.about.get("record")
        return self._has(lock.process, lock.life(), name if isinstance(name, str) else None)

    def _has(self, process: str, life: Life, name: str | None) -> bool:
        if life is not Life.UNKNOWN:
            return life is Life.DEAD
        if process not in self._known:
            self._known[process] = self._is_over(process, name)
        return self._known[process]

    def _is_over(self, process: str, name: str | None) -> bool:
        """Of a process of which nothing is seen from here: what its record and its beat say."""
        try:
            record = read_record(self._storage, name) if name else None
        except LakeError:  # damaged: it says nothing
            record = None
        if record is not None and record.process == process:
            if record.state in (COMPLETED, STOPPED):  # by its own word: only its lake was away
                return True
            if record.state == RUNNING and life_of(self._storage, record) is Life.ALIVE:
                return False
        if not self._force:
            self._unknown.add(process)
        return self._force

    def say_left(self) -> None:
        """Say what is left alone, and what to do about it."""
        if self._unknown:
            logger.warning(
                "%d processes have left samples or a lock here and may still run: nothing proves that they "
                "are dead (another host, boot or container, or a lock that is missing). "
                "Nothing of theirs is touched: %s. Where you know that they are dead, bring it in with "
                "`entrenar-otel recover --force`",
                len(self._unknown),
                ", ".join(sorted(self._unknown)[:5]) + (" …" if len(self._unknown) > 5 else ""),
            )
