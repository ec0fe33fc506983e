"""Start-up: importing what a loop needs, and runs so short that starting and closing is all they do.

The import is timed inside fresh interpreters (median of 9) and looked at for modules that it must
not bring. 1,000 runs follow each other in one process and one lake, each with five calls of `log`;
each is started, recorded and closed durably.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import numpy as np

from benchmarks.harness import Row, run_python, started, temporary

HEAVY = ("duckdb", "pyarrow", "scipy", "sklearn", "matplotlib", "grpc")
RUNS = 1_000
_IMPORT = f"""
import json, sys, time
start = time.perf_counter()
from entrenar_otel import Monitor
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {HEAVY} if name in sys.modules]]))
"""


def measure() -> Iterator[Row]:
    run_python(_IMPORT)  # compiles what is not compiled yet
    found = [run_python(_IMPORT) for _ in range(9)]
    times = np.array([seconds for seconds, _ in found])
    note = f"median of {len(times)}, min {times.min():.3f} s"
    yield Row("`from entrenar_otel import Monitor`", 0.25, float(np.median(times)), "s", note)
    early = sorted({name for _, names in found for name in names})
    note = f"{', '.join(early) or 'none'} of {', '.join(HEAVY)}"
    yield Row("heavy modules that the import brings", 0.0, len(early), "modules", note)
    yield _short_runs()


def _short_runs() -> Row:
    seconds = []
    with temporary() as folder:
        for number in range(RUNS):
            start = perf_counter()
            with started(folder, run_id=f"short-{number:04d}") as monitor:
                for step in range(5):
                    monitor.log(step=step, loss=0.5)
            seconds.append(perf_counter() - start)
    times = 1e3 * np.array(seconds)
    return Row(
        f"{RUNS:,} short runs, start and close each",
        50.0,
        float(np.mean(times)),
        "ms",
        f"mean; median {np.median(times):.1f}, p99 {np.quantile(times, 0.99):.1f}, first 100 "
        f"{times[:100].mean():.1f}, last 100 {times[-100:].mean():.1f} ms",
    )
