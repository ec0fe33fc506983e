"""Memory: what stays after ten times as many samples.

A process of its own records five metrics a step, 100,000 steps a second, with the default heartbeat;
after 1 M and after 10 M samples everything is summed up, handed over and collected, and the
anonymous resident memory (`/proc/self/smaps_rollup`) is read. Mapped segments are files and do not
count. The greatest value in between, ticks and Parquet writing included, is in the note.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np

from benchmarks.harness import METRICS, Row, hand_over, started, temporary

CHUNK = 10_000
STEPS_A_SECOND = 100_000


def measure() -> Iterator[Row]:
    with temporary() as folder, started(folder) as monitor:
        fast = monitor.bind(*METRICS)
        values = np.random.default_rng(7).random((CHUNK, 5)).tolist()
        due, peak = monotonic(), 0.0

        def record(samples: int) -> float:
            nonlocal due, peak
            for _ in range(samples // (5 * CHUNK)):
                for row in values:
                    fast(*row)
                due += CHUNK / STEPS_A_SECOND
                sleep(max(0.0, due - monotonic()))
                peak = max(peak, _anonymous_mb())
            hand_over(monitor)
            gc.collect()
            return _anonymous_mb()

        first = record(1_000_000)
        last = record(9_000_000)
        count = monitor.sample_count("loss")
    yield Row(
        "anonymous RSS after 10 M samples, against 1 M",
        5.0,
        last - first,
        "MB",
        f"{first:.1f} → {last:.1f} MB, at most {peak:.1f} in between; {5 * count:,} samples",
    )


def _anonymous_mb() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Anonymous in smaps_rollup")
