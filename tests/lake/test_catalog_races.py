"""Listings that others change meanwhile: torn ones, files that go before they are opened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel import MetricRecord
from entrenar_otel.lake import Lake
from entrenar_otel.lake.compact import compact
from entrenar_otel.lake.prune import Prunable, prune
from entrenar_otel.lake.store.catalog import (
    ATOMIC_LISTING,
    DataFile,
    list_folder,
    list_metrics,
    list_replaced,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DAY = "2026-01-02"


@pytest.fixture(params=["local", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """Five files of one process, ten rows each."""
    if request.param == "local":
        made = Lake(tmp_path / "lake")
    else:
        made = Lake(request.getfixturevalue("s3").format(f"races-{tmp_path.name}"))
    names = iter(f"host-1-00-{number:06d}" for number in range(5))
    with pytest.MonkeyPatch.context() as patch:
        # Lake.write names a file PROCESS-000000.parquet; here the number is the process's segment
        write = made.storage.write

        def renamed(name: str, *rest: Any) -> None:
            write(f"{name.rpartition('/')[0]}/{next(names)}.parquet", *rest)

        patch.setattr(made.storage, "write", renamed)
        for i in range(0, 50, 10):
            rows = [
                MetricRecord(NOW, "run", None, None, "loss", float(j), {}, seq=j) for j in range(i, i + 10)
            ]
            made.write(rows)
    return made


def values(lake: Lake) -> list[float]:
    return sorted(lake.query("SELECT value FROM metrics").column(0).to_pylist())


WHOLE = [float(i) for i in range(50)]


def test_a_file_that_is_compacted_before_it_is_opened(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The query looks again, and has every row once."""
    calls: list[int] = []

    def stale(*arguments: Any) -> list[DataFile]:
        files = list_metrics(*arguments)
        calls.append(len(files))
        if len(calls) == 1:
            assert compact(lake.storage, DAY, "run", "host-1-00") == 5
        return files

    monkeypatch.setattr("entrenar_otel.lake.sql.query.list_metrics", stale)
    assert values(lake) == WHOLE
    assert calls == [5, 1]


def test_a_compaction_that_another_one_overtakes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files it listed are gone when it opens them: it leaves it at that."""
    calls: list[int] = []

    def stale(*arguments: Any) -> list[DataFile]:
        files = list_folder(*arguments)
        calls.append(len(files))
        if len(calls) == 1:
            assert compact(lake.storage, DAY, "run", "host-1-00") == 5
        return files

    monkeypatch.setattr("entrenar_otel.lake.compact.list_folder", stale)
    assert compact(lake.storage, DAY, "run", "host-1-00") == 0
    assert values(lake) == WHOLE


def test_a_file_that_comes_while_replaced_ones_are_looked_for_is_not_removed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that somebody recovers just then: with two listings it would seem to be replaced."""
    folder = f"metrics/day={DAY}/run=run"
    there = lake.storage.list(folder)
    listings = [there[:-1], there, there]
    monkeypatch.setattr(lake.storage, "list", lambda _folder: listings.pop(0))
    assert list_replaced(lake.storage, folder) == []


def test_a_long_listing_that_a_compaction_tears(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the compacted file nor those it replaced are in the first listing: it is made again."""
    lake = Lake(tmp_path / "lake")
    others = [f"other-1-00-{number:06d}.parquet" for number in range(0, 1000, 2)]
    before = [f"host-1-00-{number:06d}.parquet" for number in range(10)]
    torn, after = others + before[:3], [*others, "host-1-00-000000_000009.parquet"]
    listings = [torn, after, after]
    monkeypatch.setattr(lake.storage, "list", lambda _folder: listings.pop(0))
    files = list_folder(lake.storage, "metrics")
    assert len(files) == 501
    assert [(file.first, file.last) for file in files if file.process == "host-1-00"] == [(0, 9)]
    assert listings == []
    assert ATOMIC_LISTING < 370  # entries of 88 bytes in a buffer of 32 kB


def test_a_prune_that_was_killed_with_a_compaction_half_undone(lake: Lake) -> None:
    """The replaced files go first, or they would count again."""
    kept = {name: lake.storage.location(name) for name in lake.storage.list(f"metrics/day={DAY}/run=run")}
    assert len(kept) == 5
    removed = []
    remove = lake.storage.remove

    def die_after_one(name: str) -> None:
        remove(name)
        removed.append(name)
        raise KeyboardInterrupt

    storage = lake.storage
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "remove", die_after_one)
        with pytest.raises(KeyboardInterrupt):
            compact(storage, DAY, "run", "host-1-00")
    assert values(lake) == WHOLE
    folder = f"metrics/day={DAY}/run=run"
    files = (*list_replaced(storage, folder), *list_folder(storage, folder))
    run = Prunable("run", NOW, files, 1)
    for survivors in (4, 3, 2, 1, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "remove", die_after_one)
            with pytest.raises(KeyboardInterrupt):
                prune(storage, run)
        run = Prunable("run", NOW, run.files[1:], 1)
        assert values(lake) == (WHOLE if survivors else [])
    (row,) = lake.query("SELECT count, mean, min, max, last FROM summaries").to_pylist()
    assert row == {"count": 50, "mean": 24.5, "min": 0.0, "max": 49.0, "last": 49.0}
    assert lake.query("SELECT sum(count)::BIGINT AS n FROM curves").to_pylist() == [{"n": 50}]


def test_compaction_makes_no_more_row_groups_than_the_rows_need(tmp_path: Path) -> None:
    """One a metric would make a wide run a fifth larger, and as many reads of the whole as metrics."""
    lake = Lake(tmp_path / "lake")
    write, names = lake.storage.write, iter(f"host-1-00-{number:06d}" for number in range(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            lake.storage,
            "write",
            lambda name, *rest: write(f"{name.rpartition('/')[0]}/{next(names)}.parquet", *rest),
        )
        for i in range(3):
            rows = [
                MetricRecord(
                    NOW, "run", None, None, f"m{j:03d}", float(i), {"odd": "yes"} if j % 2 else {}, seq=i
                )
                for j in range(400)
            ]
            lake.write(rows)
    sizes = [path.stat().st_size for path in tmp_path.glob("lake/metrics/*/*/*.parquet")]
    assert compact(lake.storage, DAY, "run", "host-1-00") == 3
    (file,) = tmp_path.glob("lake/metrics/*/*/*.parquet")
    parquet = pq.ParquetFile(file)
    assert (parquet.num_row_groups, parquet.metadata.num_rows) == (1, 1200)
    assert file.stat().st_size < sum(sizes)
    keys = [(row["metric"], row["seq"]) for row in parquet.read().to_pylist()]
    assert keys == [(f"m{j:03d}", i) for j in range(400) for i in range(3)]


def test_a_run_killed_before_anything_was_in_the_lake_can_be_pruned(tmp_path: Path) -> None:
    """Nothing to prune is no error."""
    assert Lake(tmp_path / "lake").prune(timedelta(0)) == []
