"""Holdings: what a living process has in its lake, and whether it is still there."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import replace
from typing import NamedTuple

from entrenar_otel.console import logger
from entrenar_otel.lake.hand_over import file_name
from entrenar_otel.lake.records.pulse import write_beat
from entrenar_otel.lake.records.runs import RunRecord, claim, read_record, write_record
from entrenar_otel.lake.store.catalog import DataFile, list_folder, list_pruned, run_folder
from entrenar_otel.lake.store.storage import Storage

#: Somebody removes a large lake file by file: it is said what is gone when nothing more goes.
_SETTLED_SECONDS = 1.0


class Gone(NamedTuple):
    """What somebody has removed, as far as it is not told yet."""

    record: bool
    files: int


class Holdings:
    """The record of a process and its files of samples, which somebody may remove while it runs.

    Looked at are the record, which was written first, and the newest file: whoever clears a lake, or loses
    its mount, takes one of both. Only where one is gone, the files are counted.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._newest: int | None = None
        self._files = 0
        self._is_told = False  # of a record that is gone, and could not be written again yet
        self._own: Hashable | None = None  # the mark of the record, when it was this process's
        self._seen: tuple[Gone, float] | None = None  # what is gone, and since when it is the same

    def add(self, number: int) -> None:
        """This segment has become a file of samples."""
        self._newest = number
        self._files += 1

    def look(self, record: RunRecord, *, is_last: bool = False) -> RunRecord:
        """Say what is gone, write the record again, and return the one to go on with.

        It is another attempt where the name belongs to another process by now. While more and more goes,
        `is_settled` is False, and nothing is done yet unless it `is_last`. Raises OSError, LakeError where
        the lake does not answer.
        """
        storage = self._storage
        has_record = storage.size_bytes(record.name) > 0
        gone = self._gone(record, has_record=has_record)
        if any(gone):
            if not self._is_steady(gone) and not is_last:
                return record
            self._say(record, gone)
        self._seen = None
        if not has_record:
            write_record(storage, record)
            write_beat(storage, record)
            self._is_told = False
        elif (mark := storage.mark(record.name)) is None or mark != self._own:
            there = read_record(storage, record.name)
            if there is not None and there.process != record.process:
                return self._next(record, there)
            self._own = mark
        return record

    @property
    def is_settled(self) -> bool:
        """Whether nothing is gone of which it is not said yet."""
        return self._seen is None

    def _gone(self, record: RunRecord, *, has_record: bool) -> Gone:
        newest = self._newest
        if has_record and (newest is None or self._has_file(record, newest)):
            return Gone(record=False, files=0)
        files = max(0, self._files - len(self._list(record)))
        return Gone(record=not has_record and not self._is_told, files=files)

    def _is_steady(self, gone: Gone) -> bool:
        """Whether it has been the same for a while."""
        now = time.monotonic()
        if self._seen is None or self._seen[0] != gone:
            self._seen = gone, now
        return now - self._seen[1] >= _SETTLED_SECONDS

    def _say(self, record: RunRecord, gone: Gone) -> None:
        parts = ["the record"] if gone.record else []
        if gone.files:
            parts.append(f"{gone.files:,} of {self._files:,} files of samples")
        self._is_told |= gone.record
        self._files, self._newest = self._files - gone.files, None
        logger.warning(
            "%s has lost %s of run %s: somebody removed them during the run, or the lake is no longer "
            "mounted. Those rows are gone unless the files are put back; recording goes on into what is "
            "there now. Do not remove a lake, or files in it, while runs are recorded into it",
            self._storage.url,
            " and ".join(parts),
            record.run_id,
        )

    def _has_file(self, record: RunRecord, number: int) -> bool:
        name = file_name("metrics", record.day, record.run_id, record.process, number)
        if self._storage.size_bytes(name):
            return True
        pruned = list_pruned(self._storage, record.day, record.run_id)  # or compacted: by `recover --force`
        return any(file.holds(record.process, number) for file in [*self._list(record), *pruned])

    def _list(self, record: RunRecord) -> list[DataFile]:
        files = list_folder(self._storage, run_folder("metrics", record.day, record.run_id))
        return [file for file in files if file.process == record.process]

    def _next(self, record: RunRecord, there: RunRecord) -> RunRecord:
        """The record as another attempt: the lake was cleared, and another process has begun in it since."""
        following = claim(self._storage, replace(record, attempt=0))
        logger.warning(
            "attempt %d of run %s is another process's by now (pid %s on %s), which began when the lake had "
            "lost this one's record: this process goes on as attempt %d",
            record.attempt,
            record.run_id,
            there.pid,
            there.host,
            following.attempt,
        )
        return following
