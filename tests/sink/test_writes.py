"""Files are written side by side, and when that is over none is being written, whatever failed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from entrenar_otel.lake.store.storage import LocalStorage, open_storage
from entrenar_otel.sink.storing.writes import WRITES, Writes

SCHEMA = pa.schema([("number", pa.int64())])


def batches(number: int) -> list[pa.RecordBatch]:
    return [pa.record_batch({"number": [number]}, schema=SCHEMA)]


def failing() -> Any:
    raise ValueError("a mistake")
    yield


def never(_error: BaseException) -> bool:
    return False


def test_all_are_there_when_it_says_so(tmp_path: Path) -> None:
    with Writes(open_storage(tmp_path)) as writes:
        for number in range(5 * WRITES):
            writes.put(f"t/{number}.parquet", SCHEMA, batches(number), never)
        writes.finish()
        assert len(list((tmp_path / "t").iterdir())) == 5 * WRITES


def test_a_failure_that_is_known_stops_nothing_and_another_is_raised(tmp_path: Path) -> None:
    seen: list[BaseException] = []

    def is_known(error: BaseException) -> bool:
        seen.append(error)
        return isinstance(error, ValueError)

    with Writes(open_storage(tmp_path)) as writes:
        writes.put("t/1.parquet", SCHEMA, failing(), is_known)
        writes.put("t/2.parquet", SCHEMA, batches(2), is_known)
        writes.finish()
        assert [path.name for path in (tmp_path / "t").iterdir()] == ["2.parquet"]
        writes.put("t/3.parquet", SCHEMA, failing(), never)
        with pytest.raises(ValueError, match="a mistake"):
            writes.finish()
    assert [str(error) for error in seen] == ["a mistake"]


def test_nothing_is_being_written_after_an_error(tmp_path: Path, monkeypatch: Any) -> None:
    """The same files are written again then, and two at once would be one too many."""
    gate, real = threading.Event(), LocalStorage.write

    def slow(*arguments: Any, **more: Any) -> None:
        gate.wait(60)
        real(*arguments, **more)

    monkeypatch.setattr(LocalStorage, "write", slow)
    with pytest.raises(ZeroDivisionError):
        put_and_fail(tmp_path, gate)
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["1.parquet"]


def put_and_fail(folder: Path, gate: threading.Event) -> None:
    with Writes(open_storage(folder)) as writes:
        writes.put("t/1.parquet", SCHEMA, batches(1), never)
        threading.Timer(0.2, gate.set).start()
        raise ZeroDivisionError
