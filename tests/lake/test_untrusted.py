"""One odd or damaged file, in the lake or in the live folder, keeps nobody from all the others."""

from __future__ import annotations

import json
import logging
import os
import shutil
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from zlib import adler32

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from entrenar_otel import Monitor
from entrenar_otel.errors import LakeError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.records.runs import read_record
from entrenar_otel.lake.store.skipped import say_once
from entrenar_otel.recording.segment import HEADER_BYTES

COUNT = "SELECT run_id, count(*) AS n FROM metrics GROUP BY run_id ORDER BY run_id"


@pytest.fixture
def lake(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Lake:
    caplog.set_level(logging.WARNING, "entrenar_otel")
    for run_id in ("good", "bad"):
        with Monitor(run_id, lake=tmp_path / "lake", quiet=True) as monitor:
            for step in range(10):
                monitor.log(loss=1 / (step + 1), step=step)
            monitor.event("hello")
    return Lake(tmp_path / "lake")


def file_of(lake: Lake, table: str) -> Path:
    (file,) = Path(lake.url).glob(f"{table}/day=*/run=bad/*.parquet")
    return file


def rewritten(file: Path, **columns: Any) -> None:
    """Put other values into the columns of a file of one row."""
    table = pq.ParquetFile(file).read()
    for name, value in columns.items():
        if name in table.column_names:
            table = table.set_column(table.schema.get_field_index(name), name, pa.array([value]))
        else:
            table = table.append_column(name, pa.array([value]))
    pq.write_table(table, file)


def made(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "text": lambda file: file.write_text("hello\n" * 100),
    "foreign": lambda file: pq.write_table(pa.table({"x": [1, 2]}), file),
    "folder": lambda file: made(file, Path.mkdir),
    "pipe": lambda file: made(file, os.mkfifo),
    "link": lambda file: made(file, lambda path: path.symlink_to(__file__)),
    "dangling": lambda file: made(file, lambda path: path.symlink_to("/nonexistent/x")),
}
RECORDS: dict[str, Callable[[Path], object]] = {
    "no rows": lambda file: pq.write_table(pq.ParquetFile(file).read().slice(0, 0), file),
    "two rows": lambda file: pq.write_table(pa.concat_tables([pq.ParquetFile(file).read()] * 2), file),
    "attempt": lambda file: rewritten(file, attempt="one"),
    "another attempt": lambda file: rewritten(file, attempt=pa.scalar(7, pa.int32())),
    "day": lambda file: rewritten(file, day="x/../../../../escaped"),
    "run": lambda file: rewritten(file, run_id="../good"),
    "process": lambda file: rewritten(file, process="../../x"),
    "state": lambda file: rewritten(file, state="dancing"),
    "config": lambda file: rewritten(file, config="{"),
    "no start": lambda file: rewritten(file, started_at=None),
    "later": lambda file: rewritten(file, format=3),
}


@pytest.mark.parametrize("damage", [*DAMAGE, *RECORDS])
def test_a_run_record(damage: str, lake: Lake, cli: Any, caplog: pytest.LogCaptureFixture) -> None:
    """All commands go on, it is named once and left as it is, and its run can be resumed."""
    file = file_of(lake, "runs")
    (DAMAGE | RECORDS)[damage](file)
    caplog.clear()
    for command in (
        ["ls"],
        ["show", "good"],
        ["events", "good"],
        ["recover"],
        ["prune", "--older-than", "1d"],
    ):
        answer = cli(*command)
        assert answer.code == 0, answer
    assert [record.run_id for record in lake.runs()] == ["good"]
    named = [record for record in caplog.records if str(file) in record.getMessage()]
    assert len(named) == 1
    with Monitor("bad", lake=lake.url, quiet=True) as monitor:
        monitor.log(loss=1.0)
    resumed = [(record.attempt, record.state) for record in lake.runs() if record.run_id == "bad"]
    assert resumed == [(2, "completed")]
    assert os.path.lexists(file)
    assert not list(Path(lake.url).parent.rglob("*escaped*"))


@pytest.mark.parametrize("table", ["metrics", "events", "spans"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_data_file(damage: str, table: str, lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """All other rows are answered, the file is named, recovery and pruning go on and leave it."""
    file = file_of(lake, table)
    DAMAGE[damage](file)
    caplog.clear()
    for _ in range(2):
        rows = lake.query(f"SELECT DISTINCT run_id FROM {table} ORDER BY 1").column(0).to_pylist()
        assert rows == ["good"]
    assert len([one for one in caplog.records if str(file) in one.getMessage()]) == 1
    lake.recover()
    lake.prune(older_than=timedelta(0))
    assert os.path.lexists(file)
    pruned = lake.query("SELECT DISTINCT run_id FROM summaries ORDER BY 1").column(0).to_pylist()
    assert pruned == (["good"] if table == "metrics" else ["bad", "good"])


def test_a_lake_that_does_not_answer_is_no_damaged_record(lake: Lake) -> None:
    """Where nothing can be read, nothing is taken for damaged."""

    class Away:
        is_local, url = False, "s3://lake"

        def location(self, name: str) -> str:
            return name

        def read_bytes(self, name: str, limit: int) -> bytes:
            raise OSError("no route to host")

    with pytest.raises(LakeError, match="no route to host"):
        read_record(Away(), "runs/day=2026-11-24/run=x/attempt-0001-rank-00000.parquet")  # type: ignore[arg-type]


def header(given: Any, first: int = 0) -> bytes:
    text = json.dumps(given).encode()
    check = adler32(text, adler32(struct.pack("<q", first)))
    return (struct.pack("<8sqqII", b"ENTRSEG1", first, HEADER_BYTES, len(text), check) + text).ljust(
        HEADER_BYTES, b"\0"
    )


JUNK: dict[str, Callable[[Path, dict[str, Any]], object]] = {
    "no keys": lambda live, _: (live / "aa-000000.seg").write_bytes(header({"v": 2}) + bytes(49152)),
    "some keys": lambda live, full: (live / "aa-000000.seg").write_bytes(
        header({"lake": full["lake"], "run_id": "x"}) + bytes(49152)
    ),
    "a list": lambda live, _: (live / "aa-000000.seg").write_bytes(header([1, 2]) + bytes(49152)),
    "types": lambda live, full: (live / "aa-000000.seg").write_bytes(
        header(full | {"attempt": "one", "clock_ns": None}) + bytes(49152)
    ),
    "a pipe": lambda live, _: os.mkfifo(live / "aa-000000.seg"),
    "a folder": lambda live, _: (live / "aa-000000.seg").mkdir(),
    "a link to nowhere": lambda live, _: (live / "aa-000000.seg").symlink_to("/nonexistent"),
    "40 GB": lambda live, full: (
        (live / "aa-000000.seg").write_bytes(header(full | {"bytes": 40 << 30})),
        os.truncate(live / "aa-000000.seg", 40 << 30),
    ),
    "a day": lambda live, full: (live / "aa-000000.seg").write_bytes(
        header(full | {"day": "x/../../../../escaped"}) + bytes(49152)
    ),
    "a lock that is a folder": lambda live, _: (live / "aa.lock").mkdir(),
    "a lock that is a pipe": lambda live, _: os.mkfifo(live / "aa.lock"),
    "a lock's record": lambda live, full: (live / "aa.lock").write_text(
        json.dumps({"lake": full["lake"], "record": "../../../../etc/passwd"})
    ),
    "a lock's number": lambda live, full: (live / "aa.lock").write_text(
        json.dumps({"lake": full["lake"], "record": 7})
    ),
    "a successor that is a folder": lambda live, _: (live / ".aa.new").mkdir(),
    "a command that is a folder": lambda live, _: (live / "aa.control").mkdir(),
}


@pytest.mark.parametrize("junk", JUNK)
def test_the_live_folder(junk: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Queries, recovery and a new run go on, what is said is said once, and nothing leaves the lake."""
    lake = Lake(tmp_path / "lake")
    full = {
        "lake": lake.url,
        "run_id": "x",
        "attempt": 1,
        "rank": 0,
        "day": "2026-01-01",
        "process": "aa",
        "pid": 1,
        "clock_ns": 0,
        "number": 0,
        "bytes": 65536,
    }
    JUNK[junk](lake.live, full)
    with Monitor("new", lake=lake.url, quiet=True) as monitor:
        monitor.log(loss=0.5)
        for _ in range(3):
            assert lake.query(COUNT).to_pylist() == [{"run_id": "new", "n": 1}]
        lake.recover()
    lake.recover()
    assert lake.query(COUNT).to_pylist() == [{"run_id": "new", "n": 1}]
    said = [one for one in caplog.messages if str(lake.live) in one]
    assert len(said) == len(set(said))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "live"]


def test_a_later_segment_is_left_alone_with_its_lock(tmp_path: Path) -> None:
    """It is neither renamed nor removed: whoever updates has it."""
    lake = Lake(tmp_path / "lake")
    later = lake.live / "aa-000000.seg"
    later.write_bytes(header({"format": 2}) + bytes(49152))
    lock = lake.live / "aa.lock"
    lock.write_text("{}")
    before = later.read_bytes()
    lake.recover()
    assert later.read_bytes() == before
    assert lock.exists()


def test_it_is_said_again_where_the_file_has_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "x"
    for text in ("a", "bc"):
        file.write_text(text)
        say_once(file, "odd")
        say_once(file, "odd")
    assert caplog.messages == ["odd", "odd"]


def test_no_name_leads_out_of_the_lake(tmp_path: Path) -> None:
    """Whatever it was made of."""
    lake = Lake(tmp_path / "lake")
    for name in ("../x", "a/../../x", "/x", "a//x", "a/./x", "x\0"):
        with pytest.raises(LakeError, match="is no name of a file in the lake"):
            lake.storage.write_bytes(name, b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["live"]


def test_names_that_are_patterns(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    """DuckDB would read all files that they match, and count rows twice."""
    before = lake.query(COUNT).to_pylist()
    file = file_of(lake, "metrics")
    shutil.copy(file, odd := file.with_name("*-000000.parquet"))
    shutil.copy(file, file.with_name("notes.parquet"))
    for folder in ("run=b*", "run=[bg]*"):
        (file.parents[1] / folder).mkdir()
        shutil.copy(file, file.parents[1] / folder / file.name)
    (file.parents[2] / "day=*").mkdir()
    shutil.copytree(file.parent, file.parents[2] / "day=*" / file.parent.name)
    for _ in range(2):
        assert lake.query(COUNT).to_pylist() == before
    assert caplog.text.count(f"{odd} is left out") == 1
