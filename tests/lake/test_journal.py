"""Events and spans in the lake: whatever was noted is one row, from the moment it was noted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.sql.live import read_live, segment_paths
from entrenar_otel.lake.store.catalog import DataFile, list_files
from entrenar_otel.lake.tables.journal import event_rows, span_rows
from entrenar_otel.lake.tables.schema import EVENTS, SPANS, Owner
from entrenar_otel.recording.notes import EVENT, SPAN_ENDED, SPAN_STARTED
from entrenar_otel.testing import open_run, recorded_run

START = 1_790_000_000_000_000_000
TRACE = "ab" * 16


def span(number: int, parent: int | None = None, **more: Any) -> dict[str, Any]:
    return {
        "trace_id": TRACE,
        "span_id": f"{number:016x}",
        "parent_span_id": None if parent is None else f"{parent:016x}",
        "name": "training.epoch",
        "kind": "INTERNAL",
        "start_ns": START + number * 1000,
        "scope": "test",
        "attributes": {"epoch": number},
        "links": [],
    } | more


def ended(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return document | {
        "end_ns": document["start_ns"] + 500_000_000, "status": "OK", "status_message": None, "events": [],
    } | more  # fmt: skip


def event(number: int, **more: Any) -> dict[str, Any]:
    return {"name": "training.finding", "time_ns": START + number, "severity": "WARNING"} | more


@pytest.fixture(autouse=True)
def no_spans_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own spans and events would be among those that are counted here."""
    monkeypatch.setattr("entrenar_otel.otel.traces.run_spans.RunSpans.start", lambda *_: None)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    with Monitor("one", lake=tmp_path / "lake", quiet=True, interval_seconds=3600) as made:
        yield made


def hand_over(monitor: Monitor) -> None:
    assert recorded_run(monitor).recorder.roll()
    open_run(monitor).heartbeat.collect()
    assert open_run(monitor).heartbeat.hand_over(final=True)


def statuses(lake: Lake, sql: str = "SELECT span_id, status, end_time FROM spans ORDER BY 1") -> list[Any]:
    rows = lake.query(sql).to_pylist()
    return [(int(row["span_id"], 16), row["status"], row["end_time"] is not None) for row in rows]


# -- columns --------------------------------------------------------------------------------------


def test_a_span_with_everything() -> None:
    """Text attributes as they are, others as JSON text; events and links keep their own."""
    document = ended(
        span(1, 0),
        attributes={"text": "x", "whole": 3, "true": True, "half": 0.5, "list": [1, 2], "null": None},
        links=[{"trace_id": TRACE, "span_id": "1" * 16, "attributes": {"a": 1}}],
        events=[{"name": "e", "time_ns": START, "attributes": {"nan": math.nan}}],
        status="ERROR",
        status_message="no",
    )
    (row,) = span_rows([document], Owner("one", 2, 3)).to_pylist()
    assert row["attributes"] == [
        ("text", "x"), ("whole", "3"), ("true", "true"), ("half", "0.5"), ("list", "[1,2]"), ("null", "null"),
    ]  # fmt: skip
    assert row["links"] == [{"trace_id": TRACE, "span_id": "1" * 16, "attributes": [("a", "1")]}]
    assert [(e["name"], e["attributes"]) for e in row["events"]] == [("e", [("nan", "NaN")])]
    assert (row["run_id"], row["attempt"], row["rank"]) == ("one", 2, 3)
    assert (row["status"], row["status_message"], row["duration_seconds"]) == ("ERROR", "no", 0.5)
    assert (row["start_time"].microsecond, row["parent_span_id"]) == (1, "0" * 16)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        dict.fromkeys(("name", "time_ns", "start_ns", "end_ns", "attributes", "events", "links", "epoch")),
        {"name": 5, "time_ns": "now", "start_ns": -1, "end_ns": 2**70, "attributes": [1], "events": [1]},
        {"epoch": 2**31, "batch": 0.5, "step": 2**63, "severity": None, "trace_id": 5, "links": {"a": 1}},
        {
            "name": "\ud800",
            "body": {"\udfff": 1},
            "attributes": {"\ud800": "\udfff"},
            "kind": [],
            "scope": {},
        },
    ],
)
def test_whatever_was_noted_becomes_a_row(odd: dict[str, Any], tmp_path: Path) -> None:
    """A row that cannot be written would keep its segment out of the lake for ever."""
    for make, schema in ((event_rows, EVENTS), (span_rows, SPANS)):
        table = make([odd, odd], Owner("r", 1, 0))
        assert table.schema == schema
        pq.write_table(table, tmp_path / "x.parquet")
        assert pq.read_table(tmp_path / "x.parquet").num_rows == 2


def test_columns_of_the_files(monitor: Monitor, lake: Lake) -> None:
    """Order, types and nullability are the contract; files are sorted by time."""
    for i in (3, 1, 2):
        recorded_run(monitor).recorder.note(SPAN_ENDED, ended(span(i)))
        recorded_run(monitor).recorder.note(EVENT, event(i * 1000))
    hand_over(monitor)
    for table, schema, column in (("events", EVENTS, "timestamp"), ("spans", SPANS, "start_time")):
        (path,) = Path(lake.url).glob(f"{table}/day=*/run=one/*-000000.parquet")
        file = pq.ParquetFile(path)
        found = file.schema_arrow
        assert found.names == schema.names
        assert found.types == schema.types
        assert [f.nullable for f in found] == [f.nullable for f in schema]
        times = file.read().column(column).to_pylist()
        assert times == sorted(times)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


# -- queries --------------------------------------------------------------------------------------


def test_a_span_is_one_row_open_or_ended(monitor: Monitor, lake: Lake) -> None:
    """Over live segments, files and both; the open run span is carried from segment to segment."""
    note = recorded_run(monitor).recorder.note
    monitor.log(loss=1.0)
    assert lake.query("SELECT * FROM spans").schema.names == SPANS.names
    note(SPAN_STARTED, span(0))
    expected = [(0, "UNSET", False)]
    for i in range(1, 5):
        note(SPAN_STARTED, span(i, 0))
        note(EVENT, event(i, span_id=f"{i:016x}"))
        assert statuses(lake) == [*expected, (i, "UNSET", False)]
        if i == 2:
            hand_over(monitor)
            assert statuses(lake) == [*expected, (i, "UNSET", False)]
        note(SPAN_ENDED, ended(span(i, 0)))
        expected.append((i, "OK", True))
        assert statuses(lake) == expected
        if i == 3:
            recorded_run(monitor).recorder.roll()
            assert statuses(lake) == expected
    assert lake.query("SELECT count(*) n, count(DISTINCT span_id) d FROM events").to_pylist() == [
        {"n": 4, "d": 4}
    ]
    note(SPAN_ENDED, ended(span(0)))
    monitor.close()
    assert statuses(lake) == [(0, "OK", True), *expected[1:]]
    assert lake.query("SELECT count(*) FROM spans", run_id="other").column(0).to_pylist() == [0]


def test_joined_with_metrics(monitor: Monitor, lake: Lake) -> None:
    """All views of a query are of one moment, and nested columns unfold."""
    monitor.log(loss=0.5, epoch=1)
    recorded_run(monitor).recorder.note(
        SPAN_ENDED,
        ended(span(1), events=[{"name": "spike", "time_ns": START, "attributes": {"z": 4}}]),
    )
    recorded_run(monitor).recorder.note(EVENT, event(1, epoch=1))
    sql = """
      SELECT s.name, m.value, e.severity, s.attributes['epoch'] AS epoch, unnest(s.events).name AS event
      FROM spans s JOIN metrics m ON m.epoch = CAST(s.attributes['epoch'] AS INTEGER)
      JOIN events e ON e.epoch = m.epoch"""
    expected = [
        {"name": "training.epoch", "value": 0.5, "severity": "WARNING", "epoch": "1", "event": "spike"}
    ]
    assert lake.query(sql).to_pylist() == expected
    hand_over(monitor)
    assert lake.query(sql).to_pylist() == expected


def test_what_is_not_asked_for_costs_nothing(
    monitor: Monitor, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query of metrics neither parses a note nor lists a folder of spans."""
    monitor.log(loss=1.0)
    recorded_run(monitor).recorder.note(EVENT, event(1))
    listed: list[str] = []
    list_folder = lake.storage.list

    def noted(name: str) -> list[str]:
        listed.append(name)
        return list_folder(name)

    monkeypatch.setattr(lake.storage, "list", noted)
    with monkeypatch.context() as patch:
        patch.setattr("entrenar_otel.recording.decode.parse_note", lambda _: pytest.fail("parsed"))
        assert lake.query("SELECT count(*) FROM metrics, runs").column(0).to_pylist() == [1]
    assert not [name for name in listed if name.startswith(("events", "spans"))]


def test_a_segment_handed_over_while_it_is_read(
    monitor: Monitor, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its open spans are in its successor, which the reader's first listing did not have."""
    recorded_run(monitor).recorder.note(SPAN_STARTED, span(1))
    recorded_run(monitor).recorder.note(SPAN_ENDED, ended(span(2)))

    def stale(live: Path) -> list[Path]:
        paths = segment_paths(live)
        monkeypatch.setattr("entrenar_otel.lake.sql.live.segment_paths", segment_paths)
        hand_over(monitor)
        return paths

    monkeypatch.setattr("entrenar_otel.lake.sql.live.segment_paths", stale)
    assert statuses(lake) == [(1, "UNSET", False), (2, "OK", True)]

    def late(*given: Any) -> list[DataFile]:  # ended and handed over after the live segments were read
        monkeypatch.setattr("entrenar_otel.lake.sql.views.list_files", list_files)
        recorded_run(monitor).recorder.note(SPAN_ENDED, ended(span(1)))
        monitor.close()
        return list_files(*given)

    monkeypatch.setattr("entrenar_otel.lake.sql.views.list_files", late)
    assert statuses(lake) == [(1, "OK", True), (2, "OK", True)]


# -- keeping --------------------------------------------------------------------------------------


def test_old_lakes_have_empty_views(tmp_path: Path, lake: Lake) -> None:
    """A run without notes makes no folder for them."""
    with Monitor("old", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    assert sorted(path.name for path in Path(lake.url).iterdir()) == ["metrics", "runs"]
    assert lake.query("SELECT * FROM events").schema.names == [*EVENTS.names, "severity_number"]
    assert lake.query("SELECT count(*) FROM spans").column(0).to_pylist() == [0]
    assert lake.recover() == []


@pytest.mark.parametrize("gap", ["samples", "nothing"])
def test_compaction_merges_and_pruning_keeps(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    """Sorted by time; over a segment without notes only where it is known to be in the lake."""
    monkeypatch.setattr("entrenar_otel.lake.compact.MAX_ROWS_AT_CLOSE", 0)
    with Monitor("one", lake=tmp_path / "lake", quiet=True, interval_seconds=3600) as monitor:
        for i in range(5):
            if i != 2 or gap == "samples":
                monitor.log(loss=float(i))
            if i != 2:
                recorded_run(monitor).recorder.note(EVENT, event(10_000 * (9 - i), attributes={"i": i}))
                recorded_run(monitor).recorder.note(
                    SPAN_ENDED, ended(span(9 - i), events=[{"name": "x"}] * i)
                )
            if i < 4:
                hand_over(monitor)
    sqls = [f"SELECT * FROM {table} ORDER BY {by}" for table, by in (("events", 1), ("spans", 1))]
    before = [lake.query(sql) for sql in sqls]
    assert [len(table) for table in before] == [4, 4]
    lake.compact()
    for table, sql, rows in zip(("events", "spans"), sqls, before, strict=True):
        names = sorted(path.stem[-13:] for path in Path(lake.url).glob(f"{table}/*/*/*.parquet"))
        assert names == (["000000_000004"] if gap == "samples" else ["000000_000001", "000003_000004"])
        assert lake.query(sql).equals(rows)
        assert pa.concat_tables([lake.query(sql.partition(" ORDER")[0])]).equals(rows) or gap == "nothing"
    assert len(lake.prune(timedelta(0))) == 1
    assert [lake.query(sql) for sql in sqls] == before
    assert lake.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [0]


def test_an_interrupted_hand_over_loses_and_doubles_nothing(
    tmp_path: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lake that fails at each of the three writes, once: then the next try has all of it."""
    with Monitor("one", lake=tmp_path / "lake", quiet=True, interval_seconds=3600) as monitor:
        monitor.log(loss=1.0)
        recorded_run(monitor).recorder.note(SPAN_STARTED, span(1))
        recorded_run(monitor).recorder.note(SPAN_ENDED, ended(span(2)))
        recorded_run(monitor).recorder.note(EVENT, event(1))
        recorded_run(monitor).recorder.roll()
        open_run(monitor).heartbeat.collect()
        storage = monitor.lake.storage
        write, calls = storage.write, 0
        for failing in range(1, 5):
            calls = 0

            def fail(*given: Any, failing: int = failing, **options: Any) -> None:
                nonlocal calls
                calls += 1
                if calls == failing:
                    raise OSError("the lake is away")
                write(*given, **options)

            monkeypatch.setattr(storage, "write", fail)
            assert open_run(monitor).heartbeat.hand_over(final=True) == (failing == 4)
            assert statuses(lake) == [(1, "UNSET", False), (2, "OK", True)]
            for table in ("events", "metrics"):
                assert lake.query(f"SELECT count(*) FROM {table}").column(0).to_pylist() == [1]
        monkeypatch.setattr(storage, "write", write)
    assert read_live(lake.live, lake.url) == []
