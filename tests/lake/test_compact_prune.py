"""Compaction and retention: the same rows in fewer files; what stays of a pruned run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_otel import MetricRecord, MetricsStore, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake import compact as compact_module
from entrenar_otel.lake.records.pulse import write_beat
from entrenar_otel.lake.records.runs import write_record
from entrenar_otel.testing import recorded_run

ROWS = "SELECT * FROM metrics ORDER BY metric, CAST(tags AS VARCHAR), seq"


def record(lake: Path, segments: int, run_id: str = "one") -> list[float]:
    """A run of several segments that are left uncompacted; returns the losses."""
    generator = np.random.default_rng(0)
    losses: list[float] = []
    with Monitor(run_id, lake=lake, quiet=True) as monitor:
        for i in range(segments):
            for batch in range(50):
                losses.append(float(generator.lognormal()))
                monitor.log(loss=losses[-1], accuracy=0.5, epoch=i, batch=batch)
            monitor.log({"val/loss": 1.0, "loss": 2.0}, tags={"split": "validation"}, epoch=i)
            if i < segments - 1:
                assert recorded_run(monitor).recorder.roll()
    return losses


@pytest.fixture(autouse=True)
def no_spans_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the run's own spans and events would be counted too."""
    monkeypatch.setattr("entrenar_otel.otel.traces.run_spans.RunSpans.start", lambda *_: None)


@pytest.fixture
def uncompacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entrenar_otel.lake.compact.MAX_ROWS_AT_CLOSE", 0)


@pytest.mark.usefixtures("uncompacted")
def test_compaction_keeps_every_row_and_the_order(tmp_path: Path) -> None:
    """Four files become one, with the same rows, sorted like each of them."""
    record(tmp_path / "lake", 4)
    lake = Lake(tmp_path / "lake")
    assert len(list(tmp_path.glob("lake/metrics/*/*/*.parquet"))) == 4
    before = lake.query(ROWS)
    assert lake.compact() == 4
    (file,) = tmp_path.glob("lake/metrics/*/*/*.parquet")
    assert file.stem.endswith("-000000_000003")
    assert lake.query(ROWS).equals(before)
    stored = lake.query("SELECT metric, cardinality(tags) AS tags, seq FROM metrics").to_pylist()
    assert [tuple(row.values()) for row in stored] == sorted(tuple(row.values()) for row in stored)
    assert lake.compact() == 0


def test_a_short_run_is_compacted_at_its_end(tmp_path: Path) -> None:
    """Who looks at the folder finds one file."""
    record(tmp_path / "lake", 3)
    assert len(list(tmp_path.glob("lake/metrics/*/*/*.parquet"))) == 1


@pytest.mark.usefixtures("uncompacted")
def test_a_gap_is_never_merged_over(tmp_path: Path) -> None:
    """A segment that is still somewhere else must not seem to be in the compacted file."""
    record(tmp_path / "lake", 5)
    lake = Lake(tmp_path / "lake")
    files = sorted(tmp_path.glob("lake/metrics/*/*/*.parquet"))
    files[2].unlink()
    assert lake.compact() == 4
    assert sorted(path.stem[-13:] for path in tmp_path.glob("lake/metrics/*/*/*.parquet")) == [
        "000000_000001",
        "000003_000004",
    ]


@pytest.mark.usefixtures("uncompacted")
def test_what_a_killed_compaction_left_is_not_counted(tmp_path: Path) -> None:
    """Killed between its rename and the removals: no row twice, and the next one cleans up."""
    record(tmp_path / "lake", 3)
    lake = Lake(tmp_path / "lake")
    before = lake.query(ROWS)
    kept = {path: path.read_bytes() for path in tmp_path.glob("lake/metrics/*/*/*.parquet")}
    lake.compact()
    for path, data in kept.items():
        path.write_bytes(data)
    assert lake.query(ROWS).equals(before)
    lake.compact()
    assert len(list(tmp_path.glob("lake/metrics/*/*/*.parquet"))) == 1
    assert lake.query(ROWS).equals(before)


def test_prune_keeps_summaries_and_curves(tmp_path: Path) -> None:
    """They are those of the full-rate rows, as numpy computes them."""
    losses = np.array(record(tmp_path / "lake", 40))
    lake = Lake(tmp_path / "lake")
    assert lake.prunable() == []
    (dry,) = lake.prunable(timedelta(0))
    assert dry.run_id == "one"
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 4080}]
    lake.prune(timedelta(0))
    assert lake.query("SELECT count(*) AS n FROM metrics").to_pylist() == [{"n": 0}]
    (row,) = lake.query("SELECT * FROM summaries WHERE metric = 'loss' AND cardinality(tags) = 0").to_pylist()
    assert row["count"] == len(losses)
    assert row["last"] == losses[-1]
    for name, expected in {
        "mean": losses.mean(), "std": losses.std(ddof=1), "min": losses.min(), "max": losses.max(),
        "p50": np.quantile(losses, 0.5), "p90": np.quantile(losses, 0.9), "p99": np.quantile(losses, 0.99),
    }.items():  # fmt: skip
        assert row[name] == pytest.approx(expected, rel=1e-12), name
    curve = lake.query("SELECT * FROM curves WHERE metric = 'loss' AND cardinality(tags) = 0").to_pylist()
    assert len(curve) == 1000
    assert [point["mean"] for point in curve] == pytest.approx(losses.reshape(1000, 2).mean(axis=1))
    assert lake.curve("loss", "one", {"split": "validation"}).num_rows == 40
    assert lake.is_pruned("one")
    assert lake.query("SELECT state FROM runs").to_pylist() == [{"state": "completed"}]
    assert lake.prune(timedelta(0)) == []


def test_a_running_run_is_not_pruned(tmp_path: Path) -> None:
    """However old the limit says it is."""
    with Monitor("one", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
        assert monitor.lake.prunable(timedelta(0)) == []


def test_a_run_that_has_just_died_is_as_old_as_its_last_sign_of_life(tmp_path: Path) -> None:
    """Not as old as its start: it trained for a month, was killed, and nobody has recovered it yet."""
    program = """
        import glob, os, signal, time
        from entrenar_otel import Monitor
        from entrenar_otel.testing import recorded_run
        monitor = Monitor("one", lake="lake", quiet=True, interval_seconds=0.05).start()
        monitor.log(loss=1.0)
        assert recorded_run(monitor).recorder.roll()
        while not glob.glob("lake/metrics/*/*/*.parquet"):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    lake, month, week = Lake(tmp_path / "lake"), timedelta(days=30), timedelta(days=7)
    (record_of_it,) = lake.runs()
    write_record(
        lake.storage, replace(record_of_it, started_at=record_of_it.started_at - month, state="running")
    )
    (file,) = tmp_path.glob("lake/metrics/*/*/*.parquet")
    assert lake.prunable(week) == []
    assert [run.run_id for run in lake.prunable(timedelta(0))] == ["one"]
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - month.total_seconds()))
    assert [run.run_id for run in lake.prunable(week)] == ["one"]
    write_beat(lake.storage, record_of_it)
    assert lake.prunable(week) == []


def test_nothing_is_removed_by_a_clock_that_runs_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lake's own clock (a file server's, an object store's) must agree that a run is old enough."""
    record(tmp_path / "lake", 2)
    lake = Lake(tmp_path / "lake")
    rows = lake.query(ROWS)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=400)

    with monkeypatch.context() as patch:
        patch.setattr("entrenar_otel.lake.prune.datetime", Ahead)
        assert [run.run_id for run in lake.prunable()] == ["one"]
        assert lake.prune() == []
    assert "run one is not pruned: it ended at " in caplog.text
    assert lake.query(ROWS).equals(rows)
    assert [run.run_id for run in lake.prune(timedelta(0))] == ["one"]


def test_retention_acts_only_where_it_is_written(tmp_path: Path) -> None:
    """`retention_days` in renacer.toml, and only on the lake that the run found there by itself."""
    (tmp_path / "renacer.toml").write_text("[monitor]\nretention_days = 3\nlake = 'own'\n")
    assert recorded_run(Monitor(quiet=True)).request.settings.retention_days == 3
    assert recorded_run(Monitor(lake=tmp_path / "other", quiet=True)).request.settings.retention_days is None


ages = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)).map(lambda t: t.replace(tzinfo=UTC, fold=0))  # noqa: DTZ001 - hypothesis wants them naive
small = st.one_of(st.none(), st.integers(0, 2**31 - 1))
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
records = st.builds(
    MetricRecord,
    timestamp=ages, run_id=st.sampled_from(["a", "b/c"]), epoch=small, batch=small, metric=names,
    value=st.floats(), tags=st.dictionaries(names, names, max_size=2),
    step=st.one_of(st.none(), st.integers(0, 2**62)), rank=st.integers(0, 3), attempt=st.integers(1, 3),
    seq=st.integers(0, 2**40),
)  # fmt: skip


@given(st.lists(records, max_size=8, unique_by=lambda r: (r.run_id, r.attempt, r.rank, r.seq, r.metric)))
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_what_is_read(rows: list[MetricRecord]) -> None:
    """Any records, bit for bit, NaN included."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(f"{folder}/lake", live=f"{folder}/live")
        assert isinstance(lake, MetricsStore)
        lake.write(rows)
        found = lake.query("SELECT * FROM metrics").to_pylist()
        start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)
        assert lake.range(start, end).num_rows == len(rows)
    read = [MetricRecord(**{**row, "tags": dict(row["tags"])}) for row in found]
    assert sorted(map(comparable, read)) == sorted(map(comparable, rows))


def comparable(record: MetricRecord) -> list[str]:
    """The record as text: a NaN equals a NaN, and tags have no order."""
    return [str(sorted(one.items()) if isinstance(one, dict) else one) for one in record]


def test_row_limit_at_close_is_what_keeps_exit_short() -> None:
    """A long run is compacted by `recover`, not while the training program waits to exit."""
    assert 1_000_000 <= compact_module.MAX_ROWS_AT_CLOSE <= 10_000_000


@pytest.mark.usefixtures("uncompacted")
@pytest.mark.parametrize("removed", [0, 2, 3])
def test_a_prune_that_was_killed_while_segments_still_came(tmp_path: Path, removed: int) -> None:
    """Each sample is counted once: by the first summaries, by those of what came later, never by both.

    In between, too: of what is pruned in part, the summaries are of all.
    """
    record(tmp_path / "lake", 6)
    lake = Lake(tmp_path / "lake")
    count = lake.query("SELECT count(*) AS n FROM metrics").column(0)[0].as_py()
    files = sorted(tmp_path.glob("lake/metrics/*/*/*.parquet"))
    later = [(file, file.read_bytes()) for file in files[3:]]
    early = [(file, file.read_bytes()) for file in files[removed:3]]
    for file, _ in later:
        file.unlink()
    assert lake.prune(timedelta(0))
    for file, content in [
        *early,
        *later,
    ]:  # killed before it had removed all; then recovery
        file.write_bytes(content)
    counted = "SELECT sum(count)::BIGINT AS n FROM summaries"
    assert (
        lake.query(counted).column(0)[0].as_py()
        == lake.query(counted, run_id="one").column(0)[0].as_py()
        == count
    )
    assert lake.compact() == 0  # else a file would be held by the first summaries in part
    assert lake.prune(timedelta(0))
    assert lake.query("SELECT count(*) AS n FROM metrics").column(0)[0].as_py() == 0
    assert lake.query(counted).column(0)[0].as_py() == count


@pytest.mark.usefixtures("uncompacted")
def test_summaries_that_others_hold_are_not_counted(tmp_path: Path) -> None:
    """Of a stretch that was summarised again as a whole."""
    record(tmp_path / "lake", 3)
    lake = Lake(tmp_path / "lake")
    lake.prune(timedelta(0))
    (whole,) = tmp_path.glob("lake/summaries/*/*/*.parquet")
    before = lake.query("SELECT sum(count) AS n FROM summaries").to_pylist()
    whole.with_name(whole.name.replace("000000_000002", "000000_000001")).write_bytes(whole.read_bytes())
    assert lake.query("SELECT sum(count) AS n FROM summaries").to_pylist() == before
