"""The storage contract, over a local folder, an Arrow file system, and a real S3-speaking server."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from entrenar_otel import LakeError, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.files import by_schema
from entrenar_otel.lake.store.storage import (
    ArrowStorage,
    LocalStorage,
    Storage,
    is_gone,
    open_storage,
    telling_gone,
)
from entrenar_otel.lake.tables.schema import METRICS
from entrenar_otel.testing import recorded_run

SCHEMA = pa.schema([("x", pa.int64())])


@pytest.fixture(params=["local", "arrow", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return LocalStorage(tmp_path / "lake")
    if request.param == "arrow":
        (tmp_path / "lake").mkdir()
        return ArrowStorage(pafs.LocalFileSystem(), str(tmp_path / "lake"), "arrow")
    return open_storage(request.getfixturevalue("s3").format(tmp_path.name))


def batches(*values: int) -> list[pa.RecordBatch]:
    made: list[pa.RecordBatch] = pa.table({"x": pa.array(values, pa.int64())}, schema=SCHEMA).to_batches()
    return made


def read(storage: Storage, name: str) -> list[int]:
    table = pq.ParquetFile(storage.location(name), filesystem=getattr(storage, "filesystem", None)).read()
    values: list[int] = table.column("x").to_pylist()
    return values


def test_write_list_remove(storage: Storage) -> None:
    """A file is there whole, is listed, can be replaced, and goes."""
    storage.write("a/b/one.parquet", SCHEMA, batches(1, 2))
    assert storage.list("a/b") == ["one.parquet"]
    assert storage.list("a") == ["b"]
    assert storage.list("nothing") == []
    assert read(storage, "a/b/one.parquet") == [1, 2]
    assert storage.size_bytes("a/b/one.parquet") > 0
    storage.write("a/b/one.parquet", SCHEMA, batches(3))
    assert read(storage, "a/b/one.parquet") == [3]
    storage.remove("a/b/one.parquet")
    storage.remove("a/b/one.parquet")
    assert storage.list("a/b") == []
    assert storage.size_bytes("a/b/one.parquet") == 0


def test_exclusive(storage: Storage) -> None:
    """A name that is taken stays with who has it."""
    storage.write("a/one.parquet", SCHEMA, batches(1), exclusive=True)
    with pytest.raises(FileExistsError):
        storage.write("a/one.parquet", SCHEMA, batches(2), exclusive=True)
    assert read(storage, "a/one.parquet") == [1]


def test_a_failed_write_leaves_nothing(storage: Storage) -> None:
    """Neither half a file nor a temporary one."""

    def failing() -> Iterator[pa.RecordBatch]:
        yield from batches(1)
        raise RuntimeError("halfway")

    storage.write("a/other.parquet", SCHEMA, batches(1))
    with pytest.raises(RuntimeError, match="halfway"):
        storage.write("a/one.parquet", SCHEMA, failing())
    assert storage.list("a") == ["other.parquet"]
    if isinstance(storage, LocalStorage):
        assert len(list((storage.root / "a").iterdir())) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nowhere://user:hunter2@host/x?key=hunter2#hunter2", "nowhere://host/x"),
        ("s3://AKIA:hun/ter2hunter2@bucket/lake", "s3://bucket/lake"),
        ("s3://AKIA:hunter2/bucket/lake", "s3://…"),
    ],
)
def test_a_bad_url_is_refused_without_its_secret(url: str, shown: str) -> None:
    """The message names the place, not the password, also where that is not encoded as it should be."""
    with pytest.raises(LakeError) as caught:
        open_storage(url)
    assert str(caught.value).startswith(f"{shown} is neither a folder nor a URL that Arrow knows: ")
    assert not re.search("AKIA|hun|ter2", str(caught.value))


def test_file_urls_are_folders(tmp_path: Path) -> None:
    """`file://` is the local folder, with its durability."""
    storage = open_storage(f"file://{tmp_path}/a%20b")
    assert isinstance(storage, LocalStorage)
    assert storage.url == f"{tmp_path}/a b"


def test_a_whole_run_on_object_storage(s3: str, tmp_path: Path) -> None:
    """Record, query live and after, recover, compact, prune: as on a folder."""
    url = s3.format(f"whole-{tmp_path.name}")
    with Monitor("one", lake=url, quiet=True, interval_seconds=0.1) as monitor:
        for step in range(50):
            monitor.log(loss=float(step), step=step)
        assert recorded_run(monitor).recorder.roll()
        for step in range(50, 100):
            monitor.log(loss=float(step), step=step)
        assert "secret" not in monitor.lake.url
        count = "SELECT count(*) AS n, sum(value) AS s FROM metrics"
        assert monitor.query(count).to_pylist() == [{"n": 100, "s": 4950.0}]
    lake = Lake(url)
    assert lake.query(count).to_pylist() == [{"n": 100, "s": 4950.0}]
    assert lake.query("SELECT state FROM runs").to_pylist() == [{"state": "completed"}]
    assert lake.curve("loss", "one").column("value").to_pylist() == [float(i) for i in range(100)]
    assert lake.recover() == []
    (pruned,) = lake.prune(timedelta(0))
    assert pruned.size_bytes > 0
    assert lake.query(count).to_pylist() == [{"n": 0, "s": None}]
    assert lake.query("SELECT count, mean FROM summaries").to_pylist() == [{"count": 100, "mean": 49.5}]


def test_what_a_dead_writer_left_is_removed(tmp_path: Path) -> None:
    """It is a day old and nobody holds its lock; nobody reads it meanwhile, and nothing else goes."""
    lake = Lake(tmp_path / "lake", live=tmp_path / "live")
    lake.storage.write_bytes("runs/day=2026-11-24/run=a/x.txt", b"x")
    folder = Path(lake.url) / "runs" / "day=2026-11-24" / "run=a"
    names = (f".{'0' * 16}.tmp", f".{'1' * 16}.tmp", f".{'2' * 16}.tmp", ".mine.tmp", "y.tmp")
    old, held, fresh, mine, other = (folder / name for name in names)
    in_live = tmp_path / "live" / f".a-0.control.{'3' * 16}.tmp"
    for path in (old, held, fresh, mine, other, in_live):
        path.write_text("half of a file")
        if path is not fresh:
            os.utime(path, (1, 1))
    assert sorted(lake.storage.list("runs/day=2026-11-24/run=a")) == ["x.txt", "y.tmp"]
    with held.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lake.recover()
        there = {path for path in (old, held, fresh, mine, other, in_live) if path.exists()}
        assert there == {held, fresh, mine, other}


def test_a_file_is_locked_while_it_is_written(tmp_path: Path) -> None:
    """So that nobody takes its writer for dead."""
    storage = LocalStorage(tmp_path)
    seen = []

    def slow() -> Iterator[pa.RecordBatch]:
        (temporary,) = tmp_path.rglob(".*.tmp")
        with temporary.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        seen.append(temporary)
        yield pa.RecordBatch.from_pydict({"run_id": ["a"]})

    storage.write("a/b.parquet", pa.schema([("run_id", pa.string())]), slow())
    assert len(seen) == 1


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_hard_links_or_fsync_of_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """FAT, SMB, FUSE: a name is still given once, and what such a file system lacks is no failure."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(number, "no")
        real(fd)

    def link(*_: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    storage = LocalStorage(tmp_path)
    schema = pa.schema([("x", pa.int64())])
    storage.write("a/b.parquet", schema, [], exclusive=True)
    with pytest.raises(FileExistsError):
        storage.write("a/b.parquet", schema, [], exclusive=True)
    assert os.listdir(tmp_path / "a") == ["b.parquet"]
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        storage.write("a/c.parquet", schema, [], exclusive=True)


def test_a_file_that_goes_while_it_is_read(storage: Storage) -> None:
    """Compacted or pruned meanwhile: every reader is told by the same error, and looks again."""
    with pytest.raises(FileNotFoundError, match="No such file"):
        by_schema(storage, ["metrics/day=2026-11-24/run=a/p-000000.parquet"], METRICS)
    message = "AWS Error NO_SUCH_KEY during GetObject operation: The specified key does not exist."
    with pytest.raises(FileNotFoundError, match="No such file"), telling_gone("x"):
        raise OSError(message)  # of a key that was there when its size was asked for
    with pytest.raises(PermissionError), telling_gone("x"):
        raise PermissionError("denied")
    assert is_gone(duckdb.IOException(message))
    assert not is_gone(duckdb.IOException("AWS Error NETWORK_CONNECTION"))
