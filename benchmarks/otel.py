"""OpenTelemetry: what an instrument's call costs beside the SDK's own, and a heartbeat with 2,000 series.

`gauge.set` with three attributes, through our provider and through the SDK's with one in-memory reader,
in turns: 100 rounds of 2,000 calls (500 for the SDK). Once with attributes that are identity, once with
`epoch` and `batch` among them; the dictionary is made anew in each call, as loops do, and that is in
both sides. The SDK's limit of 2,000 series is out of reach here: `batch` runs through 100 values.

A heartbeat: between two, each of 2,000 series is set ten times through one gauge (`layer=…`), or is
among the names of ten calls of `log`. Median of 30, and what an exporter's collection takes then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.harness import (
    BY_HAND,
    Row,
    describe_ns,
    heartbeat_of,
    interleave,
    median_ratio,
    started,
    temporary,
)
from entrenar_otel import Monitor
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.testing import open_run

SERIES, TICKS = 2_000, 30
LIMIT_RATIO, LIMIT_TICK_MS = 0.25, 30.0


def measure() -> Iterator[Row]:
    yield from _calls()
    yield from _ticks()


def _gauge(monitor: Monitor) -> Any:
    provider = WrappingMeterProvider()
    monitor.adopt(provider)
    return provider.get_meter("bench").create_gauge("training.loss")


def _calls() -> Iterator[Row]:
    provider = MeterProvider(metric_readers=[InMemoryMetricReader()], shutdown_on_exit=False)
    theirs = provider.get_meter("bench").create_gauge("training.loss")
    with temporary() as folder, started(folder) as monitor:
        ours = _gauge(monitor)
        for what, calling in (("3 attributes", _identity), ("epoch, batch and split", _coordinates)):
            contenders = {"ours": calling(ours.set), "SDK": _fewer(calling(theirs.set))}
            times = interleave(contenders, 2_000, 100)
            times["SDK"] *= 4  # a quarter of the calls
            yield Row(
                f"`gauge.set` with {what} ÷ the SDK's",
                LIMIT_RATIO,
                median_ratio(times, "ours", "SDK"),
                "×",
                f"{describe_ns(times['ours'])}; SDK {describe_ns(times['SDK'])}",
            )


def _fewer(contender: Callable[[int], object]) -> Callable[[int], object]:
    return lambda calls: contender(calls // 4)


def _identity(call: Callable[..., Any]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            call(0.31, {"split": "train", "host": "a", "shard": "7"})

    return run


def _coordinates(call: Callable[..., Any]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for i in range(calls):
            call(0.31, {"epoch": 1, "batch": i % 100, "split": "train"})

    return run


def _ticks() -> Iterator[Row]:
    for what, make in (("set one by one", _by_gauge), ("in one `log`", _by_log)):
        with temporary() as folder, started(folder, **BY_HAND) as monitor:
            step = make(monitor)
            heartbeat, seconds = heartbeat_of(monitor), []
            for tick in range(TICKS + 5):
                for i in range(10):
                    step(10 * tick + i)
                begun = perf_counter()
                heartbeat.tick()
                seconds.append(perf_counter() - begun)
            begun = perf_counter()
            open_run(monitor).metrics.collect()
            collect = perf_counter() - begun
        found = 1e3 * np.array(seconds[5:])
        yield Row(
            f"a heartbeat with {SERIES:,} series, {what}",
            LIMIT_TICK_MS,
            float(np.median(found)),
            "ms",
            f"{10 * SERIES:,} samples; min {found.min():.1f}, worst {found.max():.1f} ms (a segment becomes "
            f"Parquet); collecting for an exporter {1e3 * collect:.1f} ms",
        )


def _by_gauge(monitor: Monitor) -> Callable[[int], None]:
    call = _gauge(monitor).set
    layers = [f"layer.{i}" for i in range(SERIES)]

    def step(number: int) -> None:
        for layer in layers:
            call(0.5, {"step": number, "layer": layer})

    return step


def _by_log(monitor: Monitor) -> Callable[[int], None]:
    values = {f"norm.{i}": 0.5 for i in range(SERIES)}
    return lambda number: monitor.log(values, step=number)
