"""kill -9 of a loop whose values are on a device: what is acknowledged is there, the rest whole or absent."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import numpy as np
import pytest

#: The device is two steps behind: a call of `log` returns once that of two steps before is recorded.
SCRIPT = """
    small_segments(128 << 10)
    begun = [0]

    class OnDevice:
        ndim, size, dtype = 0, 1, None

        def __init__(self, step):
            self.step = step

        def copy_to_host_async(self):
            pass

        def is_ready(self):
            return begun[0] >= self.step + 2

        def __float__(self):
            return float(self.step)

    def run(run_id, way):
        acknowledged = shared()
        monitor = Monitor(run_id, quiet=True, interval_seconds=0.02)
        assert monitor.start().enabled
        bound = monitor.bind("loss", "half")
        with monitor:
            for step in range(10**9):
                begun[0] = step
                if way == "log":
                    monitor.log(step=step, loss=OnDevice(step), half=step / 2)
                else:
                    bound(OnDevice(step), step / 2, step=step)
                acknowledged[0] = max(0, step - 1)
                if not step % 100:
                    time.sleep(0.003)
"""


@pytest.mark.parametrize("way", ["log", "bind"])
def test_what_was_recorded_survives_kill_9_and_what_was_on_its_way_is_absent(place: Any, way: str) -> None:
    seed = random.Random(way)
    parent = place.make_nursery(SCRIPT)
    for i in range(8):
        counter = place.counter()
        pid = parent.fork(run_id=f"late-{i}", way=way)
        enough = 1 + seed.randrange(5_000)
        while counter[0] < enough:
            assert not parent.is_ready(), parent.status()
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        assert parent.status() == -signal.SIGKILL
        acknowledged = counter[0]
        place.lake.recover()
        sql = "SELECT step, metric, value, seq FROM metrics ORDER BY seq, metric DESC"
        step, metric, value, seq = (
            column.to_numpy(zero_copy_only=False)
            for column in place.lake.query(sql, run_id=f"late-{i}").columns
        )
        count = len(step) // 2
        assert acknowledged <= count <= acknowledged + 1  # the call that it died in
        both = np.repeat(np.arange(count), 2)
        assert np.array_equal(step, both)
        assert np.array_equal(seq, both)
        assert metric.tolist() == ["loss", "half"] * count
        assert np.array_equal(value, np.where(np.arange(2 * count) % 2, both / 2, both))
