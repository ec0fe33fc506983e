"""Records that are asked for again and again: read once, and again when they changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from entrenar_otel import Lake, Monitor
from entrenar_otel.lake.records.known import KnownRecords
from entrenar_otel.lake.records.runs import COMPLETED, find_records, read_record, write_record


def test_a_record_is_read_again_only_when_it_changed(
    start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is seen, another attempt too, and one that is removed is gone."""
    reads: list[str] = []

    def read(storage: Any, name: str) -> Any:
        reads.append(name)
        return read_record(storage, name)

    monkeypatch.setattr("entrenar_otel.lake.records.known.read_record", read)
    monitor = start()
    monitor.log(loss=1.0)
    monitor.flush()
    storage = Lake("lake").storage
    (record,) = find_records(storage, "r")
    known = KnownRecords(storage, "r")
    assert known.find() == known.find() == [record]
    assert len(reads) == 2  # it was written just now, and may change again unseen
    settled = time.time() - 60
    os.utime(storage.location(record.name), (settled, settled))
    assert known.find() == known.find() == known.find() == [record]
    assert len(reads) == 3
    monitor.close()
    assert [found.state for found in known.find()] == [COMPLETED]
    second = replace(record, attempt=2, day=f"{datetime.now(UTC):%Y-%m-%d}", process="other")
    write_record(storage, second)
    assert [found.attempt for found in known.find()] == [1, 2]
    storage.remove(second.name)
    assert [found.attempt for found in known.find()] == [1]


def test_attempts_of_earlier_days_stay_known(start: Callable[..., Monitor]) -> None:
    """A run of last month that goes on: the days between are not looked through each second."""
    start().close()
    storage = Lake("lake").storage
    (record,) = find_records(storage, "r")
    old = replace(record, attempt=7, day="2001-02-03", process="old")
    write_record(storage, old)
    known = KnownRecords(storage, "r")
    assert [found.attempt for found in known.find()] == [found.attempt for found in known.find()] == [1, 7]
    storage.remove(old.name)
    assert [found.attempt for found in known.find()] == [1]
