"""What one query may take: memory, temporary files, time; and that it can be left."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import ConfigError, Monitor, QueryError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.sql.limits import Limits, parse_size, whole_process

ENDLESS = "SELECT count(*) FROM range(10000000000) a(i), range(1000000) b(j) WHERE i * j % 7 = 3"
LARGE = "SELECT count(*) FROM (SELECT DISTINCT hash(i), hash(i + 1), hash(i + 2) FROM range(200000000) t(i))"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    with Monitor("one", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
    return Lake(tmp_path / "lake")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    ("given", "size"),
    [("2GB", 2_000_000_000), ("1.5 GiB", 1610612736), ("500mb", 500_000_000), (4096, 4096), ("7", 7)],
)
def test_sizes(given: str | int, size: int) -> None:
    assert parse_size(given, "memory") == size


@pytest.mark.parametrize("given", ["", "much", "2 XB", "-1GB", "1e9"])
def test_what_is_no_size(given: str) -> None:
    with pytest.raises(ConfigError, match="ENTRENAR_QUERY_MEMORY: expected a size such as 2GB"):
        Limits.of(given or "x", environ={})


def test_the_defaults_and_what_changes_them() -> None:
    """An argument comes before the environment."""
    plain = Limits.of(environ={})
    assert 64_000_000 <= plain.memory_bytes <= 2_000_000_000
    assert (plain.spill_bytes, plain.seconds) == (2_000_000_000, 600.0)
    environ = {
        "ENTRENAR_QUERY_MEMORY": "1GB",
        "ENTRENAR_QUERY_SPILL": "0",
        "ENTRENAR_QUERY_TIMEOUT": "1h30m",
    }
    assert Limits.of(environ=environ) == Limits(1_000_000_000, 0, 5400.0)
    assert Limits.of("500MB", "1GB", 2.5, environ=environ) == Limits(500_000_000, 1_000_000_000, 2.5)
    for timeout in ("soon", "0s", -1, float("nan")):
        with pytest.raises(ConfigError, match="ENTRENAR_QUERY_TIMEOUT"):
            Limits.of(timeout=timeout)


def test_memory(lake: Lake, temporary: Path) -> None:
    """What does not fit goes to the disk, up to its limit; the message names what to raise."""
    with pytest.raises(
        QueryError, match=r"more than 200 MB .* 50 MB .*ENTRENAR_QUERY_MEMORY .*--spill"
    ) as raised:
        lake.query(LARGE, memory="200MB", spill="50MB")
    assert "\n" not in str(raised.value)
    assert list(temporary.iterdir()) == []
    small = LARGE.replace("200000000", "3000000")
    assert lake.query(small, memory="100MB", spill="2GB").column(0).to_pylist() == [3_000_000]
    assert list(temporary.iterdir()) == []


def test_an_answer_counts_too(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_QUERY_MEMORY", "100MB")
    with pytest.raises(QueryError, match=r"100 MB.*ENTRENAR_QUERY_MEMORY"):
        lake.query("SELECT * FROM range(100000000)")
    assert lake.query("SELECT * FROM range(1000000)").num_rows == 1_000_000


def test_time(lake: Lake) -> None:
    started = time.monotonic()
    with pytest.raises(QueryError, match=r"longer than 500 ms.*ENTRENAR_QUERY_TIMEOUT .*--timeout"):
        lake.query(ENDLESS, timeout=0.5)
    assert time.monotonic() - started < 60
    assert lake.query("SELECT count(*) FROM metrics", timeout="1m").column(0).to_pylist() == [1]


class Left(Exception):
    """What a signal's handler raises."""


@pytest.mark.parametrize("raised", [KeyboardInterrupt, Left])
def test_a_signal_leaves_a_query(raised: type[BaseException], lake: Lake) -> None:
    """With what its handler raises; the statement ends, and the next one works."""

    def leave(*_: Any) -> None:
        raise raised

    before = signal.signal(signal.SIGINT, leave)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(raised):
            lake.query(ENDLESS)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert not [one for one in threading.enumerate() if one.name == "entrenar-query"]
    assert lake.query("SELECT 1").column(0).to_pylist() == [1]


def test_a_query_where_no_thread_starts(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while Python ends."""

    def refuse(_: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert lake.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [1]


def test_a_query_without_room_for_temporary_files(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    assert lake.query("SELECT count(*) FROM metrics").column(0).to_pylist() == [1]


def test_what_a_killed_query_left_is_removed(lake: Lake, temporary: Path) -> None:
    """By the next process; not what is in use, new or somebody else's."""
    from entrenar_otel.lake.sql.execution import _remove_left

    mine = f"entrenar-query-{os.getuid()}-"
    for name in (f"{mine}old", f"{mine}new", "other"):
        (temporary / name).mkdir()
        (temporary / name / "spilled").write_text("x")
    for name in (f"{mine}old", "other"):
        os.utime(temporary / name, (1, 1))
    _remove_left.cache_clear()
    assert lake.query("SELECT 1").num_rows == 1
    assert sorted(one.name for one in temporary.iterdir()) == [f"{mine}new", "other"]


def test_the_command(lake: Lake, cli: Any) -> None:
    """It says what to do, and limits the whole process: single values are in no count of DuckDB's."""
    answer = cli("query", "--timeout", "500ms", ENDLESS)
    assert answer.code == 2
    assert "--timeout" in answer.err
    answer = cli("query", "--memory", "200MB", "SELECT len(repeat('x', 4000000000))")
    assert answer.code == 2
    assert "--memory" in answer.err
    answer = cli("query", "--memory", "much", "SELECT 1")
    assert answer.code == 2
    assert "expected a size such as 2GB" in answer.err
    assert cli("query", "-f", "csv", "SELECT count(*) FROM metrics").out.splitlines()[1] == "1"


def test_the_process_is_limited_only_meanwhile() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with whole_process(Limits(100_000_000)):
        assert 0 < resource.getrlimit(resource.RLIMIT_DATA)[0] < 1 << 44
        with pytest.raises(MemoryError):
            bytearray(3_000_000_000)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
