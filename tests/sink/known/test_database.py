"""The database of what is stored: where it cannot be read it is made anew, and the lake says what it knew."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from entrenar_otel.sink.roller import Roller

from ..wire import log_file, logs, steps


def of_another_version(path: Any) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()


@pytest.mark.parametrize("spoil", [of_another_version, lambda path: path.write_bytes(b"no database" * 1000)])
def test_one_that_cannot_be_read_costs_no_row_and_doubles_none(
    lake: Any, tmp_path: Any, caplog: Any, spoil: Any
) -> None:
    state = tmp_path / "state"
    for spoilt in (False, True):
        if spoilt:
            spoil(state / "known.sqlite")
        roller = Roller(lake.storage, state)
        roller.roll(log_file(state, logs(steps(0, 20 if spoilt else 10))))
        roller.close()
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 100}]
    assert "it is made anew from the lake" in caplog.text
    assert (state / "known.damaged").exists()
