"""System: what one reading of the machine costs, with its rows recorded.

The process and the host (and its control group, where one has a limit) are read as every 10 s in a run, 300
times in a row, on one thread whose CPU time is taken; the loop has no part in it. The share is that of one
core at the default interval. GPUs are read by NVML, on a thread of its own: their cost is that of the driver,
and not in this.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import thread_time

import numpy as np

from benchmarks.harness import BY_HAND, Row, started, temporary
from entrenar_otel.system.cgroup import Cgroup
from entrenar_otel.system.host_usage import HostUsage
from entrenar_otel.system.process_usage import ProcessUsage
from entrenar_otel.system.readings import Readings
from entrenar_otel.testing import recorded_run

READINGS, INTERVAL_SECONDS = 300, 10.0


def measure() -> Iterator[Row]:
    with temporary() as folder, started(folder, **BY_HAND) as monitor:
        record = recorded_run(monitor).recorder.record_row
        monitor.log(loss=1.0)
        cgroup, readings = Cgroup(), Readings()
        sources = [ProcessUsage(cgroup).read, HostUsage(cgroup).read]
        seconds, values = [], 0
        for _ in range(READINGS + 1):
            start = thread_time()
            for read in sources:
                read(readings)
                found = readings.take()
                record(tuple(found), tuple(found.values()))
                values += len(found)
            seconds.append(thread_time() - start)
    times = np.array(seconds[1:])
    median = float(np.median(times))
    yield Row(
        "a reading of the machine, CPU of a thread beside the loop",
        5.0,
        1e3 * median,
        "ms",
        f"median of {READINGS}; min {1e3 * times.min():.2f}, worst {1e3 * times.max():.2f} ms; "
        f"{values / (READINGS + 1):.0f} values; every {INTERVAL_SECONDS:g} s "
        f"{median / INTERVAL_SECONDS:.3%} of a core",
    )
