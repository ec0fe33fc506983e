"""Tick: 100,000 waiting samples become durable Parquet, and what the loop notices of it.

20,000 calls of `log` wait; then the heartbeat drains, sums up, seals the segment and writes its
Parquet file (temporary name, fsync, rename, fsync of the folder). Once alone, once on a thread of
its own while a loop of numpy steps of about 0.6 ms goes on; a stall is what a step took longer than
the median step. The same number of steps without a tick shows the machine's own stalls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import perf_counter

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
            40.0,
            float(np.median(times)),
            "ms",
            f"median of {REPEATS}; min {times.min():.1f}, worst {times.max():.1f} ms",
        )
        yield _stall(monitor)


def _stall(monitor: Monitor) -> Row:
    log, step = log_by_keyword(monitor), step_of(0.6e-3)
    with_tick, without, typical = [], [], []
    for _ in range(REPEATS):
        log(CALLS)
        worker = threading.Thread(target=hand_over, args=(monitor,))
        worker.start()
        times = steps_while(step, worker.is_alive)
        worker.join()
        quiet = [_seconds(step) for _ in times]
        middle = float(np.median(quiet))
        with_tick.append(max(times) - middle)
        without.append(max(quiet) - middle)
        typical.append(middle)
    return Row(
        "worst stall of a 0.6 ms step meanwhile",
        5.0,
        1e3 * max(with_tick),
        "ms",
        f"of {REPEATS} ticks; median of their worst {1e3 * np.median(with_tick):.1f} ms; without a tick "
        f"worst {1e3 * max(without):.1f}, median of worst {1e3 * np.median(without):.1f} ms; "
        f"a step {1e3 * np.median(typical):.2f} ms",
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


def _seconds(step: Callable[[], object]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start
