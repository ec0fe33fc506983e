"""Memory: what stays after ten times as many samples.

A process of its own records five metrics a step, 100,000 steps a second, with the default heartbeat;
after 1 M and after 10 M samples everything is summed up, handed over and collected, incidents are
complete, and the anonymous resident memory (`/proc/self/smaps_rollup`) is read. Mapped segments are files
and do not count. The greatest value in between, ticks, Parquet writing and incidents included, is in the
note. Random accuracies fall by chance: an incident of that has all samples from around it, here a million
and more, which DuckDB reads and sorts.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import numpy as np

from benchmarks.harness import METRICS, Row, hand_over, started, temporary
from entrenar_otel import Monitor
from entrenar_otel.lake.memory import give_back_memory
from entrenar_otel.testing import open_run

CHUNK = 10_000
STEPS_A_SECOND = 100_000
#: Until all incidents are complete.
_INCIDENT_SECONDS = 180.0


def measure() -> Iterator[Row]:
    with temporary() as folder, started(folder) as monitor:
        fast = monitor.bind(*METRICS)
        values = np.random.default_rng(7).random((CHUNK, 5)).tolist()
        due = peak = 0.0

        def record(samples: int) -> float:
            nonlocal due, peak
            due = monotonic()
            for _ in range(samples // (5 * CHUNK)):
                for row in values:
                    fast(*row)
                due += CHUNK / STEPS_A_SECOND
                sleep(max(0.0, due - monotonic()))
                peak = max(peak, _anonymous_mb())
            hand_over(monitor)
            _complete_incidents(monitor)
            gc.collect()
            give_back_memory()
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


def _complete_incidents(monitor: Monitor) -> None:
    """Wait until those in hand are written, which is half a minute after their alerts."""
    pipeline = open_run(monitor).pipeline
    assert pipeline is not None
    deadline = monotonic() + _INCIDENT_SECONDS
    while pipeline.incidents.in_hand:
        if monotonic() > deadline or not pipeline.incidents.worker.flush(_INCIDENT_SECONDS):
            raise RuntimeError("the incidents in hand were not written in time")
        sleep(0.5)


def _anonymous_mb() -> float:
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Anonymous in smaps_rollup")
