"""Many processes on one lake at once: ranks, recoveries, compactions, short runs."""

from __future__ import annotations

import signal
from typing import Any

import pytest

#: A run of several segments, left by kill -9, or ended without compaction.
RUNS = """
    small_segments(64 << 10)
    from entrenar_otel.run.open_run import OpenRun
    OpenRun.compact = lambda *_: None

    def run(run_id, end):
        monitor = Monitor(run_id, quiet=True, interval_seconds=60).start()
        for i in range(2500):
            monitor.log(loss=float(i), accuracy=-float(i), step=i)
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        monitor.close()
"""
CARE = """
    from entrenar_otel.testing import strict
    from datetime import timedelta
    sys.stdin.readline()
    with strict():
        Lake(os.environ["ENTRENAR_LAKE"]).recover()
"""


def test_eight_ranks_of_one_run(place: Any) -> None:
    script = """
        small_segments(64 << 10)
        with Monitor(interval_seconds=0.05) as monitor:
            say("ready")
            sys.stdin.readline()
            for i in range(2000):
                monitor.log(loss=i + monitor.rank / 8, step=i)
    """
    ranks = [
        place.make_child(script, ENTRENAR_RUN_ID="shared", RANK=str(rank), WORLD_SIZE="8")
        for rank in range(8)
    ]
    for child in ranks:
        child.expect("ready")
    for child in ranks:
        child.process.stdin.write("go\n")
        child.process.stdin.flush()
    ended = [child.end() for child in ranks]
    assert [one.returncode for one in ended] == [0] * 8, [one.stderr for one in ended]
    assert [len(one.said.splitlines()) for one in ended] == [2] + [0] * 7  # only rank 0 says it
    rows = place.lake.query(
        "SELECT rank, attempt, count(*) AS n, count(DISTINCT seq) AS seqs, sum(value) AS total, "
        "max(seq) AS last "
        "FROM metrics GROUP BY ALL ORDER BY rank"
    ).to_pylist()
    assert rows == [
        {"rank": r, "attempt": 1, "n": 2000, "seqs": 2000, "total": 1_999_000.0 + 250 * r, "last": 1999}
        for r in range(8)
    ]
    assert place.states() == {"shared": ["completed"] * 8}
    sizes = place.lake.query("SELECT DISTINCT world_size FROM runs").column(0).to_pylist()
    assert sizes == [8]
    assert not list(place.live.iterdir())


def test_four_recoveries_at_once(place: Any) -> None:
    """Of six dead runs and six that ended without compaction: every row once, nobody fails."""
    parent = place.make_nursery(RUNS)
    for i in range(12):
        parent.fork(run_id=f"run-{i}", end="kill" if i % 2 else "close")
        assert parent.status() == (-signal.SIGKILL if i % 2 else 0)
    carers = [place.make_child(CARE) for _ in range(4)]
    for child in carers:
        child.process.stdin.write("go\n")
        child.process.stdin.flush()
    while any(child.process.poll() is None for child in carers):
        assert place.count() == 12 * 5000
    for child in carers:
        done = child.end()
        assert done.returncode == 0, done.stderr
    sql = (
        "SELECT count(*), count(DISTINCT (run_id, metric, seq)), count(DISTINCT (run_id, value)) FROM metrics"
    )
    assert list(place.lake.query(sql).to_pylist()[0].values()) == [60_000, 60_000, 12 * 4999]
    assert place.states() == {f"run-{i}": ["crashed" if i % 2 else "completed"] for i in range(12)}
    assert not list(place.live.iterdir())
    folders = list(place.lake_path.glob("metrics/*/*"))
    assert [len(list(folder.iterdir())) for folder in folders] == [1] * 12  # all compacted


def test_recovery_beside_short_runs(place: Any) -> None:
    """A run that ends while somebody recovers keeps the end it wrote; nothing of a start is swept away."""
    parent = place.make_nursery("""
        def run(run_id):
            for i in range(60):
                with Monitor(f"{run_id}-{i}", quiet=True) as monitor:
                    monitor.log(loss=float(i))
                    assert monitor.enabled
    """)
    other = place.make_nursery("""
        def run():
            lake = Lake(os.environ["ENTRENAR_LAKE"])
            while not os.path.exists("stop"):
                lake.recover()
    """)
    other.fork()
    parent.fork(run_id="short")
    while not parent.is_ready():
        assert {state for states in place.states().values() for state in states} <= {"running", "completed"}
    assert parent.status() == 0
    (place.root / "stop").touch()
    assert other.status() == 0
    assert place.states() == {f"short-{i}": ["completed"] for i in range(60)}
    assert place.count() == 60


def test_two_claims_at_once_get_different_attempts(place: Any) -> None:
    script = """
        sys.stdin.readline()
        with Monitor("same", quiet=True) as monitor:
            monitor.log(loss=1.0)
            say(monitor.attempt)
            sys.stdin.readline()
    """
    children = [place.make_child(script) for _ in range(6)]
    for child in children:
        child.process.stdin.write("go\n")
        child.process.stdin.flush()
    assert sorted(int(child.hear()) for child in children) == [1, 2, 3, 4, 5, 6]
    for child in children:
        assert child.end().returncode == 0
    assert place.count() == 6
    assert place.value("SELECT count(DISTINCT attempt) FROM metrics") == 6


@pytest.mark.parametrize(
    "garbage", [b"\0" * 64, b"{not json", b"[]", b"\xff\xfe"], ids=["zeros", "torn", "list", "bytes"]
)
def test_a_damaged_lock_does_not_stop_recovery(place: Any, garbage: Any) -> None:
    """A machine that died leaves files whose content was not written."""
    place.make_nursery(RUNS).fork(run_id="dead", end="kill")
    assert place.children[0].status() == -signal.SIGKILL
    (lock,) = place.live.glob("*.lock")
    lock.write_bytes(garbage)
    place.lake.recover()
    assert place.states() == {"dead": ["crashed"]}
    assert place.count() == 5000
    assert not list(place.live.iterdir())
