"""kill -9 in mid-loop, 200 times: what `log` acknowledged is there, once, and right."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import numpy as np
import pytest

THREADS = 2
#: Two threads log, in segments of which several are filled before the
#: kill; a heartbeat of 20 ms hands them over meanwhile. Every value says where it belongs.
SCRIPT = """
    small_segments(128 << 10)

    def run(run_id, width):
        acknowledged = shared()
        monitor = Monitor(run_id, quiet=True, interval_seconds=0.02)
        assert monitor.start().enabled
        names = [f"m{j}" for j in range(width)]

        def loop(thread):
            i, log = 0, monitor.log
            while True:
                base = thread * 1e9 + i
                log(epoch=thread, step=i, **{name: base + j / 64 for j, name in enumerate(names)})
                i += 1
                acknowledged[thread] = i
                if not i % (500 // width):
                    time.sleep(0.003)

        with monitor:
            for thread in range(2):
                threading.Thread(target=loop, args=(thread,), daemon=True).start()
            time.sleep(60)
"""
FRESH = (
    SCRIPT
    + """
    run(os.environ["KILL_RUN"], int(os.environ["KILL_WIDTH"]))
"""
)


def check(place: Any, run_id: Any, width: Any, logged: Any) -> Any:
    """Every acknowledged record, at most one more a thread, each whole, right and once."""
    sql = "SELECT epoch, step, seq, CAST(substr(metric, 2) AS INTEGER), value FROM metrics"
    columns = place.lake.query(sql, run_id=run_id).columns
    thread, step, seq, metric, value = (column.to_numpy() for column in columns)
    assert np.array_equal(value, thread * 1e9 + step + metric / 64)
    for one in range(THREADS):
        mine = thread == one
        n = len(np.unique(step[mine]))
        assert logged[one] <= n <= logged[one] + 1
        assert mine.sum() == n * width  # none missing of a record, none twice
        keys = step[mine] * width + metric[mine]
        assert np.array_equal(np.sort(keys), np.arange(n * width))
    records = np.unique(np.stack([seq, thread, step]), axis=1)
    assert np.array_equal(records[0], np.arange(records.shape[1]))  # seq without hole or repetition
    return len(value)


def kill_and_check(place: Any, pid: Any, kill: Any, counter: Any, run_id: Any, width: Any, delay: Any) -> Any:
    time.sleep(delay)
    files = list(place.lake_path.glob(f"metrics/*/run={run_id}/*.parquet"))
    kill()
    logged = [counter[thread] for thread in range(THREADS)]
    before = check(place, run_id, width, logged)
    place.lake.recover()
    assert check(place, run_id, width, logged) == before
    assert not list(place.live.iterdir())
    assert place.states()[run_id] == ["crashed"]
    return len(files), sum(logged)


@pytest.mark.parametrize("width", [5, 40])
@pytest.mark.parametrize("group", range(5))
def test_acknowledged_records_survive_kill_9(place: Any, group: Any, width: Any) -> None:
    """18 kills each, in forked children: 180."""
    seed = random.Random(group * 100 + width)
    parent = place.make_nursery(SCRIPT)
    rolled = logged = 0
    for i in range(18):
        counter = place.counter()
        run_id = f"kill-{i}"
        pid = parent.fork(run_id=run_id, width=width)

        def kill(pid: Any = pid) -> None:
            os.kill(pid, signal.SIGKILL)
            assert parent.status() == -signal.SIGKILL

        logged_before = 1 + seed.randrange(37_500 // width)  # a quarter of a second's, on a quiet machine
        while counter[0] < logged_before:
            time.sleep(0.001)
        files, records = kill_and_check(place, pid, kill, counter, run_id, width, 0.0)
        rolled, logged = rolled + files, logged + records
    assert rolled > 5  # the kills did fall across roll-overs and hand-overs
    assert logged > 5_000


@pytest.mark.parametrize("width", [5, 40])
def test_acknowledged_records_survive_kill_9_of_fresh_processes(place: Any, width: Any) -> None:
    """10 kills each, in processes of their own: 20."""
    seed = random.Random(width)
    for i in range(10):
        counter = place.counter()
        run_id = f"fresh-{i}"
        child = place.make_child(FRESH, KILL_RUN=run_id, KILL_WIDTH=str(width))

        def kill(child: Any = child) -> None:
            child.kill()
            assert child.end().returncode == -signal.SIGKILL

        while not counter[0]:
            assert child.process.poll() is None, child.end().stderr
            time.sleep(0.001)
        kill_and_check(place, child.pid, kill, counter, run_id, width, seed.uniform(0.0, 0.25))
