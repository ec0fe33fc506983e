"""A query in a loop from another process: the count never falls and never doubles, whatever happens."""

from __future__ import annotations

import signal
from typing import Any

import pytest

#: Logs two metrics a record into small segments, counting what `log` acknowledged.
WRITER = """
    small_segments(64 << 10)

    def run(run_id="live", die=0, records=1 << 60):
        acknowledged = shared()
        if die:
            die_at_step(die, os.environ["ENTRENAR_LAKE"], os.environ["ENTRENAR_LIVE"])
        monitor = Monitor(run_id, quiet=True, interval_seconds=0.01)
        i = 0
        with monitor:
            assert monitor.enabled
            while i < records:
                monitor.log(loss=float(i), accuracy=i / 2, step=i)
                i += 1
                acknowledged[0] = i
                if i % 50 == 0:
                    time.sleep(0.001)
"""
#: One run, killed, of several segments and files; `records` each.
DEAD = """
    small_segments(64 << 10)
    monitor = Monitor("dead", quiet=True, interval_seconds=60)
    monitor.start()
    for i in range(4000):
        monitor.log(loss=float(i), accuracy=i / 2, step=i)
        if i == 2000:
            open_run(monitor).heartbeat.tick()
    say("ready")
    os.kill(os.getpid(), signal.SIGKILL)
"""
#: An old run that ended, of several files, not compacted.
OLD = """
    small_segments(64 << 10)
    import entrenar_otel.monitor.monitor, datetime
    from entrenar_otel.run.open_run import OpenRun
    OpenRun.compact = lambda *_: None
    with Monitor("old", quiet=True) as monitor:
        for i in range(4000):
            monitor.log(loss=float(i), step=i)
"""
OPERATIONS = """
    from datetime import timedelta

    def run(operation, die=0):
        lake = Lake(os.environ["ENTRENAR_LAKE"])
        if die:
            die_at_step(die, os.environ["ENTRENAR_LAKE"], os.environ["ENTRENAR_LIVE"])
        if operation == "recover":
            lake.recover()
        elif operation == "compact":
            lake.compact()
        elif operation == "prune":
            lake.prune(timedelta(0), "old")
"""
WHOLE = "SELECT count(*) = count(DISTINCT (metric, seq)) AND max(seq) + 1 = count(*) / 2 FROM metrics"
LOOK = """
SELECT count(*), count(DISTINCT (metric, seq)),
       count(*) FILTER (value <> CASE metric WHEN 'loss' THEN step ELSE step / 2 END)
FROM metrics
"""


class Reader:
    """Counts a writer's rows: all that was acknowledged before the query, none twice."""

    def __init__(self, place: Any, run_id: Any, per_record: Any = 2) -> None:
        self.place, self.run_id, self.per_record = place, run_id, per_record
        self.counter = place.counter()
        self.before, self.asked = 0, 0

    def look(self) -> None:
        floor = self.counter[0]
        rows, distinct, wrong = self.place.lake.query(LOOK, run_id=self.run_id).to_pylist()[0].values()
        ceiling = self.counter[0] + 1
        self.asked += 1
        assert wrong == 0
        assert rows == distinct, f"{rows - distinct} rows twice"
        assert floor * self.per_record <= rows <= ceiling * self.per_record
        assert rows >= self.before
        self.before = rows


def test_through_rolls_and_hand_overs(place: Any) -> None:
    reader = Reader(place, "live")
    child = place.make_child(WRITER + "    run()\n")
    place.wait_until(lambda: reader.counter[0])
    files = place.lake_path.glob
    while reader.asked < 40 or len(list(files("metrics/*/*/*.parquet"))) <= 10:
        reader.look()
    child.kill(signal.SIGKILL)
    child.end()
    reader.look()
    place.lake.recover()
    reader.look()


def test_while_the_writer_is_stopped(place: Any) -> None:
    """SIGSTOPped: it is alive, so its segments are left alone, and everything is there."""
    reader = Reader(place, "live")
    child = place.make_child(WRITER + "    run()\n")
    place.wait_until(lambda: reader.counter[0] > 3000)
    for _ in range(10):
        child.kill(signal.SIGSTOP)
        logged = reader.counter[0]
        for _ in range(3):
            reader.look()
            assert logged * 2 <= reader.before <= logged * 2 + 2
        place.lake.recover()
        reader.look()
        assert place.states() == {"live": ["running"]}
        child.kill(signal.SIGCONT)
        place.wait_until(lambda logged=logged: reader.counter[0] > logged)
    child.kill(signal.SIGKILL)
    child.end()
    reader.look()
    place.lake.recover()
    reader.look()
    assert place.states() == {"live": ["crashed"]}


@pytest.mark.parametrize("third", range(3))
def test_killed_at_each_step_of_a_hand_over(place: Any, third: Any) -> None:
    """Steps 1 to 60 of a run's life: its record, segments, Parquet files, end, compaction."""
    parent = place.make_nursery(WRITER)
    for die in range(1 + third, 61, 3):
        run_id = f"step-{die}"
        reader = Reader(place, run_id)
        parent.fork(run_id=run_id, die=die, records=5000)
        while not parent.is_ready():
            reader.look()
        assert parent.status() in (-signal.SIGKILL, 0)
        reader.look()
        place.lake.recover()
        reader.look()
        place.lake.recover()
        reader.look()
        assert place.states().get(run_id, ["crashed"]) in (["crashed"], ["completed"])


def kept(place: Any, view: Any) -> Any:
    sql = f"SELECT count(*), sum(count)::BIGINT, min(min), max(max) FROM {view}"
    return list(place.lake.query(sql, run_id="old").to_pylist()[0].values())


@pytest.mark.parametrize("operation", ["recover", "compact", "prune"])
def test_killed_at_each_step_of(place: Any, operation: Any) -> None:
    """Killed at every step, then done again: at each moment the counted run has all its rows."""
    place.make_child(DEAD).end()
    place.run(OLD)
    if operation == "compact":
        list(place.lake.recover(thorough=False))
    restore = place.keep()
    parent = place.make_nursery(OPERATIONS)
    die, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        die += 1
        restore()
        parent.fork(operation=operation, die=die)
        while not parent.is_ready():
            assert place.count("dead") == 8000
        status = parent.status()
        assert place.count("dead") == 8000
        parent.fork(operation=operation)
        assert place.count("dead") == 8000
        assert parent.status() == 0
        assert place.value(WHOLE, run_id="dead")
        if operation == "prune":
            assert place.count("old") == 0
            assert kept(place, "summaries") == [1, 4000, 0.0, 3999.0]
            assert kept(place, "curves") == [1000, 4000, 0.0, 3999.0]
        else:
            assert place.count("old") == 4000
    assert status == 0
    assert die > 5
