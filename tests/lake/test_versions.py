"""Files of other versions: read by name, and those of all versions that were released (tests/data/lakes)."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zlib import adler32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.compact import compact
from entrenar_otel.lake.listing import last_losses
from entrenar_otel.lake.store.files import by_schema
from entrenar_otel.lake.tables.schema import CURVES, EVENTS, METRICS, RUNS, SPANS, SUMMARIES, conform

LAKES = Path(__file__).parents[1] / "data" / "lakes"
ORDER = ["timestamp", "run_id", "epoch", "batch", "metric", "value", "tags", "step", "attempt", "rank", "seq"]


def put(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))


OTHERS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "less": lambda table: table.drop_columns(["attempt"]),
    "more": lambda table: table.append_column("extra", pa.array([1.0] * len(table))),
    "order": lambda table: table.select(ORDER),
    "text for a number": lambda table: put(table, "step", pa.string()),
    "wide": lambda table: put(table, "rank", pa.int64()),
    "nanoseconds": lambda table: put(table, "timestamp", pa.timestamp("ns", "UTC")),
}
SQL = (
    "SELECT run_id, count(*) AS n, sum(value) AS value, max(rank) AS rank, max(attempt) AS attempt, "
    "max(seq) AS seq, max(step) AS step, max(epoch_us(timestamp)) AS time, typeof(any_value(step)) AS type "
    "FROM metrics GROUP BY run_id ORDER BY run_id"
)


@pytest.mark.parametrize("is_live", [False, True], ids=["files", "with a live segment"])
@pytest.mark.parametrize("which", ["a", "b"])
@pytest.mark.parametrize("other", OTHERS)
def test_other_columns_beside_those_of_today(
    other: str, which: str, is_live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No value lands in another's column; what is not there is NULL, what is more is left out."""
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    for run_id in ("a", "b"):
        with Monitor(run_id, lake=tmp_path / "lake", quiet=True) as monitor:
            for step in range(10):
                monitor.log(loss=1.0, step=step)
    lake = Lake(tmp_path / "lake")
    live = None
    if is_live:
        live = Monitor("c", lake=lake.url, quiet=True, interval_seconds=1e5).start()
        live.log(loss=3.0, step=1)
    want = lake.query(SQL).to_pylist()
    (file,) = Path(lake.url).glob(f"metrics/*/run={which}/*.parquet")
    pq.write_table(OTHERS[other](pq.ParquetFile(file).read()), file)
    if other == "less":
        want = [row | ({"attempt": None} if row["run_id"] == which else {}) for row in want]
    assert lake.query(SQL).to_pylist() == want
    assert last_losses(lake, ["a", "b"]) == {"a": 1.0, "b": 1.0}
    assert lake.query(SQL, run_id=which).to_pylist() == [row for row in want if row["run_id"] == which]
    assert lake.query("SELECT * FROM metrics").schema.names == METRICS.names
    if live is not None:
        live.close()
    lake.prune(timedelta(0), which)
    (kept,) = lake.query("SELECT count, rank FROM summaries", run_id=which).to_pylist()
    assert kept == {"count": 10, "rank": 5}


@pytest.mark.parametrize("other", OTHERS)
def test_files_of_several_versions_are_merged(other: str, tmp_path: Path) -> None:
    """With today's columns; those that have more, or less than they must, stay as they are."""
    with Monitor("a", lake=tmp_path / "lake", quiet=True) as monitor:
        for step in range(10):
            monitor.log(loss=1.0, step=step)
    lake = Lake(tmp_path / "lake")
    (file,) = Path(lake.url).glob("metrics/*/run=a/*.parquet")
    rows = pq.ParquetFile(file).read()
    pq.write_table(OTHERS[other](rows), file.with_name(file.name.replace("000000", "000001")))
    (record,) = lake.runs()
    before = lake.query("SELECT * FROM metrics ORDER BY ALL").to_pylist()
    replaced = compact(lake.storage, record.day, "a", record.process)
    assert replaced == (0 if other in ("more", "less") else 2)
    assert lake.query("SELECT * FROM metrics ORDER BY ALL").to_pylist() == before
    if replaced:
        (merged,) = Path(lake.url).glob("metrics/*/run=a/*.parquet")
        assert pq.read_schema(merged).names == METRICS.names


def test_a_missing_map_or_list_is_empty(tmp_path: Path) -> None:
    """Nobody who takes tags or a span's events apart needs to know of NULL."""
    with Monitor("a", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=1.0, tags={"split": "test"})
    lake = Lake(tmp_path / "lake")
    for table, name in (("metrics", "tags"), ("spans", "events"), ("spans", "attributes")):
        (file,) = Path(lake.url).glob(f"{table}/*/*/*.parquet")
        rows = pq.ParquetFile(file).read().drop_columns([name])
        pq.write_table(rows, file)
        assert lake.query(f"SELECT DISTINCT {name} FROM {table}").column(0).to_pylist() == [[]]
        schema = {"metrics": METRICS, "spans": SPANS}[table]
        assert conform(rows, schema).column(name).to_pylist() == [[]] * len(rows)


def test_conform_loses_nothing_silently() -> None:
    """A value that does not fit is an error, not another value."""
    schema = pa.schema([pa.field("n", pa.int32(), nullable=False), pa.field("x", pa.string())])
    table = conform(pa.table({"more": [1, 2], "n": pa.array([3, 4], pa.int64())}), schema)
    assert table.to_pylist() == [{"n": 3, "x": None}, {"n": 4, "x": None}]
    with pytest.raises(pa.ArrowInvalid):
        conform(pa.table({"n": [1 << 40]}), schema)


def test_todays_files_are_one_scan(tmp_path: Path) -> None:
    """No cast stands between DuckDB and their columns."""
    with Monitor("a", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=1.0, tags={"split": "test"})
        monitor.event("hello", {"a": 1})
    lake = Lake(tmp_path / "lake")
    for table, schema in (("metrics", METRICS), ("events", EVENTS), ("spans", SPANS), ("runs", RUNS)):
        files = [str(one.relative_to(lake.url)) for one in Path(lake.url).glob(f"{table}/*/*/*.parquet")]
        (group,) = by_schema(lake.storage, files, schema)
        assert group.schema is schema
    lake.prune(timedelta(0))
    for table, schema in (("curves", CURVES), ("summaries", SUMMARIES)):
        files = [str(one.relative_to(lake.url)) for one in Path(lake.url).glob(f"{table}/*/*/*.parquet")]
        (group,) = by_schema(lake.storage, files, schema)
        assert group.schema is schema


def test_what_takes_a_files_place_is_looked_at(tmp_path: Path) -> None:
    """The columns of a file that was read before are known; another that has its name may have others."""
    lake = Lake(tmp_path / "lake")
    name = "metrics/day=2026-11-24/run=a/p-000000.parquet"
    lake.storage.write(name, METRICS, [])
    assert [by_schema(lake.storage, [name], METRICS)[0].schema for _ in range(2)] == [METRICS, METRICS]
    lake.storage.write(name, CURVES, [])
    assert by_schema(lake.storage, [name], METRICS)[0].schema.names == CURVES.names
    lake.storage.write_bytes(name, b"damaged")
    assert by_schema(lake.storage, [name], METRICS) == []
    lake.storage.remove(name)
    with pytest.raises(FileNotFoundError):
        by_schema(lake.storage, [name], METRICS)


# -- lakes of released versions ------------------------------------------------------------------------


@pytest.fixture(params=sorted(path.name for path in LAKES.iterdir()))
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """A lake as that version left it, with what a process that was killed left in the live folder."""
    shutil.copytree(LAKES / request.param, tmp_path, dirs_exist_ok=True)
    lake = Lake(tmp_path / "lake")
    for path in lake.live.glob("*.seg"):  # they name the folder in which they were made
        data = path.read_bytes()
        (first,), (length,) = struct.unpack_from("<q", data, 8), struct.unpack_from("<I", data, 24)
        header = json.loads(data[32 : 32 + length]) | {"lake": lake.url}
        text = json.dumps(header).encode()
        path.write_bytes(
            data[:24]
            + struct.pack("<II", len(text), adler32(text, adler32(struct.pack("<q", first))))
            + text.ljust((16 << 10) - 32, b"\0")
            + data[16 << 10 :]
        )
    for path in lake.live.glob("*.lock"):
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"lake": lake.url}))
    return lake


FROZEN = {("ended", 11, 57.0), ("killed", 20, 52.5)}
COUNT = "SELECT run_id, count(*), sum(value) FROM metrics GROUP BY run_id"


def counted(lake: Lake) -> set[tuple[object, ...]]:
    return {tuple(row.values()) for row in lake.query(COUNT).to_pylist()}


def test_a_lake_of_a_released_version(frozen: Lake) -> None:
    """It is read whole, recovered, resumed, compacted and pruned by this one."""
    assert counted(frozen) == FROZEN
    assert len(frozen.recover(force=True)) == 1  # its host is another one
    assert counted(frozen) == FROZEN
    states = {record.run_id: record.state for record in frozen.runs()}
    assert states == {"ended": "completed", "killed": "crashed"}
    assert not list(frozen.live.iterdir())
    has_spans = frozen.query("SELECT count(*) FROM spans WHERE end_time IS NULL").column(0).to_pylist()
    assert has_spans == [0]
    with Monitor("killed", lake=frozen.url, quiet=True) as monitor:
        monitor.log(loss=1.0)
    assert counted(frozen) == {("ended", 11, 57.0), ("killed", 21, 53.5)}
    frozen.prune(timedelta(0))
    kept = frozen.query("SELECT run_id, sum(count) FROM summaries GROUP BY 1 ORDER BY 1").to_pylist()
    assert [tuple(row.values()) for row in kept] == [("ended", 11), ("killed", 21)]


def test_this_version_has_a_frozen_lake() -> None:
    """`scripts/freeze_lake.py` makes it: a release without one could not be held to what it wrote."""
    from entrenar_otel import __version__

    assert (LAKES / __version__ / "lake").is_dir()
