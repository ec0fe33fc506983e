"""A sink, alone or behind a Collector, and what it has stored of programs that are no runs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.otlp_kills import Sink
from entrenar_otel.lake import Lake
from tests.ports import free_port

from ..process import Collector
from ..traffic import wait_until

COORDINATES = ("epoch", "batch", "step", "seq", "attempt", "rank")


class Way(NamedTuple):
    """Where a program sends to."""

    grpc: str
    http: str


class Stored:
    """What a lake has of programs that are no runs, once so many rows of it are there."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def wait_for(self, sql: str, are_all: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """What a query comes to, once it is all."""
        rows: list[dict[str, Any]] = []

        def are_there() -> bool:
            rows[:] = self._lake.query(sql).to_pylist()
            return are_all(rows)

        wait_until(are_there)
        return rows

    def rows(self, table: str, count: int, run_id: str) -> list[dict[str, Any]]:
        """All rows of a program, by time, without the coordinates of a run, which it has not."""
        sql = f"SELECT * FROM otel_{table} WHERE run_id = '{run_id}' ORDER BY ALL"
        rows = self.wait_for(sql, lambda rows: len(rows) >= count)
        assert len(rows) == count, rows
        assert {(row["attempt"], row["rank"]) for row in rows} == {(1, 0)}
        return [{key: value for key, value in row.items() if key not in COORDINATES} for row in rows]

    def metrics(self, count: int, run_id: str) -> dict[tuple[Any, ...], float]:
        """Value by name and tags, of metrics that were sent once."""
        rows = self.rows("metrics", count, run_id)
        assert len({row["timestamp"] for row in rows}) == 1
        found = {(row["metric"], *map(tuple, row["tags"])): row["value"] for row in rows}
        assert len(found) == count
        return found


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(Lake(tmp_path / "sink-lake", tmp_path / "none"))


@pytest.fixture
def to_sink(sink: Sink) -> Way:
    """Straight into it."""
    sink.http = f"127.0.0.1:{free_port()}"
    sink.start()
    way = Way(f"127.0.0.1:{sink.port}", sink.http)
    wait_until(lambda: all(map(_listens, way)))
    return way


def _listens(address: str) -> bool:
    host, _, port = address.partition(":")
    with suppress(OSError):
        socket.create_connection((host, int(port))).close()
        return True
    return False


@pytest.fixture
def one_collector(to_sink: Way, make_collector: Callable[..., Collector]) -> Collector:
    """Before the sink."""
    return make_collector("one", "all-in-one.yaml", SINK_ENDPOINT=to_sink.grpc).start()


@pytest.fixture
def to_collector(one_collector: Collector) -> Way:
    return Way(one_collector.address, f"127.0.0.1:{one_collector.ports['HTTP']}")
