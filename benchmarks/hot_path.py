"""Hot path: what one call of `log` and `bind` costs the training loop.

Blocks of 2,000 calls, 100 rounds, in turns with five `prometheus_client.Gauge.set(.5)`, a list
append inside a keyword function (on a list made for that block) and, in shorter blocks, the
OpenTelemetry SDK's `Gauge.set` with three attributes. The monitor is a real one: segments roll and
the heartbeat beats once a second meanwhile. The garbage collector stays on.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, perf_counter_ns, time_ns
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, Gauge

from benchmarks.harness import (
    METRICS,
    Contender,
    Row,
    describe_ns,
    interleave,
    median_ratio,
    started,
    temporary,
)
from entrenar_otel import Monitor

CALLS, ROUNDS = 2_000, 100
STEADY_SECONDS = 15


def measure() -> Iterator[Row]:
    with temporary() as folder, started(folder) as monitor:
        yield from _cost_of_a_call(monitor)
        yield from _steady(monitor)


def _cost_of_a_call(monitor: Monitor) -> Iterator[Row]:
    times = interleave(
        {
            "gauges": five_gauges(),
            "list": _list_append,
            "log": log_by_keyword(monitor),
            "log, by hand": _log_with_coordinates(monitor),
            "bind": bound(monitor),
            "bind, by hand": _bound_with_coordinates(monitor),
        },
        CALLS,
        ROUNDS,
    )
    gauges = f"five gauges {describe_ns(times['gauges'])}"

    def row(what: str, limit: float | None, ours: str, theirs: str = "gauges") -> Row:
        note = f"{describe_ns(times[ours])}; {gauges}" if theirs == "gauges" else describe_ns(times[theirs])
        return Row(what, limit, median_ratio(times, ours, theirs), "×", note)

    yield row("`bind`, 5 metrics ÷ five gauges", 0.45, "bind")
    yield row("`bind`, 5 metrics, epoch= and batch= ÷ five gauges", 0.45, "bind, by hand")
    yield row("`log`, 5 metrics by keyword ÷ five gauges", 1.0, "log")
    yield row("`log`, 5 metrics by keyword, epoch= and batch= ÷ five gauges", 1.0, "log, by hand")
    yield row("`log` ÷ list append in a keyword function", None, "log, by hand", "list")
    short = interleave({"log": log_by_keyword(monitor), "otel": five_otel_gauges()}, CALLS // 10, ROUNDS)
    ratio = median_ratio(short, "log", "otel")
    yield Row("`log` ÷ five OTel SDK `Gauge.set`", None, ratio, "×", describe_ns(short["otel"]))


def _steady(monitor: Monitor) -> Iterator[Row]:
    """One `log` each millisecond of a loop that computes in between, and five gauges beside it: what
    caches, hypervisor and neighbours do to the tail of anything."""
    gauges, log = five_gauges(), log_by_keyword(monitor)
    matrix = np.random.default_rng(7).random((64, 64))
    took: dict[Contender, list[int]] = {log: [], gauges: []}
    due = monotonic()
    for i in range(STEADY_SECONDS * 1000):
        due += 1e-3
        while monotonic() < due:
            matrix @ matrix
        for call in (log, gauges) if i % 2 else (gauges, log):
            start = perf_counter_ns()
            call(1)
            took[call].append(perf_counter_ns() - start)
    ours, theirs = (np.quantile(took[one], [0.5, 0.99, 0.999, 1.0]) / 1e3 for one in (log, gauges))
    yield Row(
        "`log` at a steady 1,000/s, p99.9",
        10.0,
        float(ours[2]),
        "µs",
        f"p50, p99, worst: {ours[0]:.1f}, {ours[1]:.1f}, {ours[3]:.0f} µs; five gauges in the same "
        f"loop: p99.9 {theirs[2]:.1f}, worst {theirs[3]:.0f} µs",
    )


def five_gauges() -> Contender:
    registry = CollectorRegistry()
    a, b, c, d, e = (Gauge(name, name, registry=registry) for name in METRICS)

    def run(calls: int) -> None:
        for _ in range(calls):
            a.set(0.5)
            b.set(0.5)
            c.set(0.5)
            d.set(0.5)
            e.set(0.5)

    return run


def five_otel_gauges() -> Contender:
    from opentelemetry.sdk.metrics import MeterProvider

    meter = MeterProvider(shutdown_on_exit=False).get_meter("benchmark")
    gauges = [meter.create_gauge(name) for name in METRICS]
    attributes = {"model": "digits", "split": "train", "rank": "0"}

    def run(calls: int) -> None:
        for _ in range(calls):
            for gauge in gauges:
                gauge.set(0.5, attributes)

    return run


def _list_append(calls: int) -> None:
    a: list[Any] = []

    def log(*, epoch: int, batch: int, **kw: float) -> None:
        a.append((time_ns(), epoch, batch, kw))

    for i in range(calls):
        log(epoch=3, batch=i, loss=0.5, accuracy=0.5, grad_norm=0.5, learning_rate=0.5, throughput=0.5)


def log_by_keyword(monitor: Monitor) -> Contender:
    def run(calls: int) -> None:
        for _ in range(calls):
            monitor.log(loss=0.5, accuracy=0.5, grad_norm=0.5, learning_rate=0.5, throughput=0.5)

    return run


def _log_with_coordinates(monitor: Monitor) -> Contender:
    def run(calls: int) -> None:
        for i in range(calls):
            monitor.log(
                epoch=3, batch=i, loss=0.5, accuracy=0.5, grad_norm=0.5, learning_rate=0.5, throughput=0.5
            )

    return run


def bound(monitor: Monitor) -> Contender:
    fast = monitor.bind(*METRICS)

    def run(calls: int) -> None:
        for _ in range(calls):
            fast(0.5, 0.5, 0.5, 0.5, 0.5)

    return run


def _bound_with_coordinates(monitor: Monitor) -> Contender:
    fast = monitor.bind(*METRICS)

    def run(calls: int) -> None:
        for i in range(calls):
            fast(0.5, 0.5, 0.5, 0.5, 0.5, epoch=3, batch=i)

    return run
