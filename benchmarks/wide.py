"""Wide: 10,000 metrics in one `log`, as of a model with a norm per layer and head; CPU time of the thread.

A mapping of 10,000 names, each call with a step: the first call of these names, which must look at each and
define them in the segment, and the later ones. New names in each of eight rounds, five later calls each;
then the heartbeat after one such call.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import thread_time

import numpy as np

from benchmarks.harness import BY_HAND, Row, heartbeat_of, started, temporary

METRICS, ROUNDS, LATER = 10_000, 8, 5
LIMIT_MS, LIMIT_FIRST_MS, LIMIT_TICK_MS = 4.0, 10.0, 10.0


def measure() -> Iterator[Row]:
    first: list[float] = []
    later: list[float] = []
    ticks: list[float] = []
    with temporary() as folder, started(folder, **BY_HAND) as monitor:
        monitor.log(loss=1.0)
        heartbeat = heartbeat_of(monitor)
        for number in range(ROUNDS):
            values = {f"norm.{number}.{i}": 0.5 for i in range(METRICS)}
            for call in range(1 + LATER):
                begun = thread_time()
                monitor.log(values, step=call)
                (later if call else first).append(1e3 * (thread_time() - begun))
                begun = thread_time()
                heartbeat.tick()
                if call:
                    ticks.append(1e3 * (thread_time() - begun))
    yield _row(f"{METRICS:,} metrics in one `log`", LIMIT_MS, later)
    yield _row(f"{METRICS:,} metrics in one `log`, the first call of these names", LIMIT_FIRST_MS, first)
    yield _row(f"a heartbeat after one `log` of {METRICS:,} metrics", LIMIT_TICK_MS, ticks)


def _row(what: str, limit: float, found: list[float]) -> Row:
    times = np.array(found)
    note = f"median of {len(times)}; min {times.min():.2f}, worst {times.max():.1f} ms"
    return Row(what, limit, float(np.median(times)), "ms", note)
