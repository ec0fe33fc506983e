"""Known: the records of one run or of all, asked for again and again; what did not change is read once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from entrenar_otel.lake.records.runs import RunRecord, read_record, record_names
from entrenar_otel.lake.store.storage import Storage

#: A file changed within the last seconds may change again without another time or size.
_SETTLED_SECONDS = 5.0


class KnownRecords:
    """What `find_records` finds of a run (None: of all), without parsing each record each time.

    Only in a local lake: what an object store says about an object costs as much as to read it. Raises
    LakeError.
    """

    def __init__(self, storage: Storage, run_id: str | None) -> None:
        self._storage, self._run_id = storage, run_id
        self._known: dict[str, tuple[tuple[datetime, int], RunRecord | None]] = {}
        self._since = ""
        self._before: list[str] = []

    def find(self) -> list[RunRecord]:
        """The records, oldest first."""
        now = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
        names = list(record_names(self._storage, self._run_id, self._since))
        if self._since:  # no attempt begins on a day that is over; those of earlier days may be removed
            there = set(names)
            names += [name for name in self._before if name not in there and self._storage.size_bytes(name)]
        self._since, self._before = now, names
        there = set(names)
        self._known = {name: known for name, known in self._known.items() if name in there}
        records = [record for name in names if (record := self._read(name)) is not None]
        return sorted(records, key=lambda r: (r.started_at, r.run_id, r.attempt, r.rank))

    def _read(self, name: str) -> RunRecord | None:
        changed_at = self._storage.modified_at(name) if self._storage.is_local else None
        if changed_at is None:
            return read_record(self._storage, name)
        state = changed_at, self._storage.size_bytes(name)
        if name in self._known and self._known[name][0] == state:
            return self._known[name][1]
        record = read_record(self._storage, name)
        if abs(time.time() - changed_at.timestamp()) > _SETTLED_SECONDS:
            self._known[name] = state, record
        return record
