"""Which kind of writer a lake has: runs and a sink on one are refused in words, and a run goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.errors import LakeError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.records.writer import MARKER, is_of_sink, mark_for_sink
from entrenar_otel.lake.store.storage import open_storage


def test_an_empty_lake_becomes_the_sinks_and_stays_it(tmp_path: Any) -> None:
    storage = open_storage(tmp_path / "lake")
    assert not is_of_sink(storage)
    mark_for_sink(storage)
    storage.write_bytes("runs/day=2026-11-29/run=r/x.parquet", b"")
    mark_for_sink(storage)
    assert is_of_sink(storage)


def test_a_lake_that_runs_write_is_refused_to_a_sink(tmp_path: Any) -> None:
    with Monitor(lake=tmp_path / "lake", live=tmp_path / "live") as monitor:
        monitor.log(loss=1.0)
    with pytest.raises(LakeError, match="is written by runs themselves: give the sink a lake of its own"):
        mark_for_sink(open_storage(tmp_path / "lake"))


def test_a_run_on_a_sinks_lake_goes_on_is_kept_and_said_once(tmp_path: Any, caplog: Any) -> None:
    mark_for_sink(open_storage(tmp_path / "lake"))
    monitor = Monitor(lake=tmp_path / "lake", live=tmp_path / "live")
    for step in range(100):
        monitor.log(loss=1.0, step=step)
    assert monitor.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 100}]
    monitor.close()
    assert caplog.text.count("a sink writes this lake: give the run a lake of its own") == 1
    assert f"is a sink's lake: run {monitor.run_id} stays in" in caplog.text
    assert "entrenar-otel recover" not in caplog.text
    assert [path.name for path in (tmp_path / "lake").iterdir()] == [MARKER]
    assert list((tmp_path / "live").glob("*.seg"))
    lake = Lake(tmp_path / "lake", live=tmp_path / "live")
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 100}]
    with pytest.raises(LakeError, match="a sink writes this lake"):
        lake.recover()
    assert list((tmp_path / "live").glob("*.seg"))


def test_a_marker_on_object_storage(s3: Any, tmp_path: Any) -> None:
    storage = open_storage(s3.format(f"writer-{tmp_path.name}"))
    assert not is_of_sink(storage)
    mark_for_sink(storage)
    assert is_of_sink(storage)
    other = open_storage(s3.format(f"other-{tmp_path.name}"))
    other.write_bytes("runs/day=2026-11-29/run=r/x.parquet", b"")
    with pytest.raises(LakeError, match="is written by runs themselves"):
        mark_for_sink(other)


@pytest.mark.parametrize("content", [b"", b"\xff", b"{"])
def test_a_marker_that_cannot_be_read_is_refused(tmp_path: Any, content: Any) -> None:
    storage = open_storage(tmp_path)
    storage.write_bytes(MARKER, content)
    with pytest.raises(LakeError, match="it says what writes this lake"):
        is_of_sink(storage)


def test_a_marker_of_another_kind_is_no_sinks(tmp_path: Any) -> None:
    storage = open_storage(tmp_path)
    storage.write_bytes(MARKER, json.dumps(["sink"]).encode())
    assert not is_of_sink(storage)
