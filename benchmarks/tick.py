"""Tick: 100,000 waiting samples become durable Parquet, and what the loop notices of it.

20,000 calls of `log` wait; then the heartbeat drains, sums up, seals the segment and writes its
Parquet file (temporary name, fsync, rename, fsync of the folder). Once alone, once on a thread of
its own while a loop of numpy steps of about 0.6 ms goes on; a stall is what a step took longer than
the median step. The same number of steps without a tick shows the machine's own stalls. What of a step is
neither the thread's own CPU time nor a wait for a processor (`/proc/self/task/…/schedstat`) is a wait for the
tick: for the GIL, so it says how long a tick holds it, on a busy machine too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.harness import BY_HAND, Row, hand_over, started, temporary
from benchmarks.hot_path import log_by_keyword
from entrenar_otel import Monitor

CALLS, REPEATS = 20_000, 15


def measure() -> Iterator[Row]:
    with temporary() as folder, started(folder, **BY_HAND) as monitor, threadpool_limits(1):
        log = log_by_keyword(monitor)
        seconds = []
        for _ in range(REPEATS + 1):
            log(CALLS)
            start = perf_counter()
            hand_over(monitor)
            seconds.append(perf_counter() - start)
        times = np.array(seconds[1:]) * 1e3
        yield Row(
            "tick with 100,000 waiting samples to durable Parquet",
            30.0,
            float(np.median(times)),
            "ms",
            f"median of {REPEATS}; min {times.min():.1f}, worst {times.max():.1f} ms",
        )
        yield from _stall(monitor)


def _stall(monitor: Monitor) -> Iterator[Row]:
    waits, tells = [], Path("/proc/self/schedstat").exists()
    log, step = log_by_keyword(monitor), step_of(0.6e-3)
    with_tick, without, typical = [], [], []
    for _ in range(REPEATS):
        log(CALLS)
        worker = threading.Thread(target=hand_over, args=(monitor,))
        worker.start()
        times: list[float] = []
        waited = [0.0]
        while not times or worker.is_alive():
            before = _ready_seconds() if tells else 0.0
            times.append(_seconds(step))
            waited.append(times[-1] - (_ready_seconds() - before) if tells else 0.0)
        worker.join()
        waits.append(max(waited))
        quiet = [_seconds(step) for _ in times]
        middle = float(np.median(quiet))
        with_tick.append(max(times) - middle)
        without.append(max(quiet) - middle)
        typical.append(middle)
    yield Row(
        "worst stall of a 0.6 ms step meanwhile",
        2.0,
        1e3 * max(with_tick),
        "ms",
        f"of {REPEATS} ticks; median of their worst {1e3 * np.median(with_tick):.1f} ms; without a tick "
        f"worst {1e3 * max(without):.1f}, median of worst {1e3 * np.median(without):.1f} ms; "
        f"a step {1e3 * np.median(typical):.2f} ms",
    )
    yield Row(
        "worst wait of such a step for the tick",
        2.0,
        1e3 * max(waits) if tells else None,
        "ms",
        f"of {REPEATS} ticks; median of their worst {1e3 * np.median(waits):.2f} ms"
        if tells
        else "this kernel does not say how long a thread waits for a processor",
    )


def step_of(seconds: float) -> Callable[[], object]:
    """A numpy step, mostly matrix products, that takes about so long."""
    random = np.random.default_rng(7)
    a, b = random.random((64, 256)), random.random((256, 256))
    products = 1  # grown until the quickest of some steps takes that long, whoever else is busy

    def step() -> None:
        for _ in range(products):
            np.maximum(a @ b, 0)

    while min(_seconds(step) for _ in range(20)) < seconds:
        products += 1
    return step


def steps_while(step: Callable[[], object], going_on: Callable[[], bool]) -> list[float]:
    times = []
    while True:
        times.append(_seconds(step))
        if not going_on():
            return times


def _ready_seconds() -> float:
    """How long this thread has run, or waited for a processor."""
    delays = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat").read_text().split()
    return thread_time() + int(delays[1]) / 1e9


def _seconds(step: Callable[[], object]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start
