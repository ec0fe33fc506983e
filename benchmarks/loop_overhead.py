"""Loop overhead: what monitoring costs a real training, in CPU time of all threads.

A network in numpy learns scikit-learn's digits, its layers as wide as makes a step take about a
millisecond; BLAS has one thread. Epochs without monitor take turns with epochs that have a bound
function, `log`, `steps()` and `log` of five metrics, or everything: `epochs()` with its spans, `steps()`,
`log`, a plain OpenTelemetry gauge with two attributes, `/metrics`, and OTLP for metrics, spans, events and
blocks of all samples, to an endpoint in a process of its own. So each sees the same machine. The metrics are
computed in all of them. The monitor is a started one with a lake. Of the clock only half is the monitored
loop's, so what goes by the clock is half as often as by default, which is as often a step: the heartbeat
every 2 s, log records and blocks every 1.8 s, the machine's numbers every 20 s, exports every 10 s.

A pair is what fits into 2 s, hence about one beat. To its monitored side goes the loop thread's CPU
time there and that of all other threads of the process (the heartbeat, the lake's, what reads the machine,
exporters), whenever they ran; to its plain side the loop thread's alone. A segment is full only every
209,000 steps, so what it costs to map, flush and write one as Parquet is measured apart and its share of a
step added.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter, process_time, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opentelemetry import metrics
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits

from benchmarks.endpoint import endpoint
from benchmarks.harness import (
    BY_HAND,
    ROOT,
    Row,
    bootstrap_median,
    hand_over,
    heartbeat_of,
    started,
    temporary,
)
from entrenar_otel import Monitor

PAIRS, PAIR_SECONDS, BATCH = 24, 2.0, 64
RATE = 0.05
_MOST_EPOCHS = 1_000_000
LIMIT_PERCENT, LIMIT_EVERYTHING_PERCENT = 0.3, 0.5


def measure() -> Iterator[Row]:
    with threadpool_limits(1):
        train = Training()
        loops: dict[str, tuple[Loop, float]] = {
            "`bind`": (_with_bind, LIMIT_PERCENT),
            "`log`": (_with_log, LIMIT_PERCENT),
            "`steps()` and `log`": (_with_steps, LIMIT_PERCENT),
            "everything on": (_with_everything, LIMIT_EVERYTHING_PERCENT),
        }
        for what, (loop, limit) in loops.items():
            everything = everything_on() if what == "everything on" else nullcontext()
            with everything, temporary() as folder, started(folder, **half_as_often(folder)) as monitor:
                yield _compare(what, train, loop, monitor, limit)


def half_as_often(folder: Path) -> dict[str, Any]:
    """Settings of a monitor whose loop has half of the clock."""
    settings = folder / "renacer.toml"
    own = (ROOT / "renacer.toml").read_text(encoding="utf-8")
    settings.write_text(f"{own}\n[monitor.system]\ninterval_seconds = 20\n", encoding="utf-8")
    return {"interval_seconds": PAIR_SECONDS, "settings_file": settings}


@contextmanager
def everything_on() -> Iterator[None]:
    """The environment in which all leaves that can, half as often."""
    with endpoint() as url:
        os.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "ENTRENAR_OTLP_SAMPLES": "blocks",
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_METRIC_EXPORT_INTERVAL": "10000",
            "OTEL_BSP_SCHEDULE_DELAY": "10000",
            "OTEL_BLRP_SCHEDULE_DELAY": "1800",
        }
        yield


class Training:
    """Digits in shuffled batches, and a network of two hidden layers that are as wide as makes a
    step take about a millisecond."""

    def __init__(self) -> None:
        x, y = load_digits(return_X_y=True)
        order = np.random.default_rng(7).permutation(len(x))
        self.batches = [
            ((x[rows] / 16.0).astype(np.float32), y[rows]) for rows in np.array_split(order, len(x) // BATCH)
        ]
        self.width = 64
        while self._made(self.width) < 0.95e-3:
            self.width += 16

    def _made(self, width: int) -> float:
        """A fresh network, and the seconds that its quickest step takes, whoever else is busy."""
        random = np.random.default_rng(7)
        sizes = [64, width, width, 10]
        self.weights = [
            (random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32)
            for shape in pairwise(sizes)
        ]
        times = []
        for x, y in self.batches * 3:
            start = perf_counter()
            self.step(x, y)
            times.append(perf_counter() - start)
        return min(times)

    def step(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float, float, float, int]:
        """One step of gradient descent; returns the five metrics that the loop reports."""
        layers = [x]
        for weight in self.weights[:-1]:
            layers.append(np.maximum(layers[-1] @ weight, 0))
        scores = np.exp(layers[-1] @ self.weights[-1])
        shares = scores / scores.sum(axis=1, keepdims=True)
        rows = np.arange(len(x))
        loss = float(-np.log(shares[rows, y] + 1e-9).mean())
        accuracy = float((shares.argmax(axis=1) == y).mean())
        shares[rows, y] -= 1
        error = shares / len(x)
        squares = 0.0
        for i in (2, 1, 0):
            gradient = layers[i].T @ error
            error = (error @ self.weights[i].T) * (layers[i] > 0)
            squares += float(np.vdot(gradient, gradient))
            self.weights[i] -= RATE * gradient
        return loss, accuracy, squares**0.5, RATE, len(x)


Step = Callable[[Any, Any], tuple[float, float, float, float, int]]
Loop = Callable[[Monitor, list[Any], Step], None]


def _plain(batches: list[Any], step: Step) -> None:
    for x, y in batches:
        _loss, _accuracy, _norm, _rate, _size = step(x, y)


def _with_log(monitor: Monitor, batches: list[Any], step: Step) -> None:
    for x, y in batches:
        loss, accuracy, norm, rate, size = step(x, y)
        monitor.log(loss=loss, accuracy=accuracy, grad_norm=norm, rate=rate, size=size)


@cache
def _bound(monitor: Monitor) -> Callable[..., None]:
    return monitor.bind("loss", "accuracy", "grad_norm", "rate", "size")


def _with_bind(monitor: Monitor, batches: list[Any], step: Step) -> None:
    fast = _bound(monitor)
    for x, y in batches:
        fast(*step(x, y))


@cache
def _made_once(monitor: Monitor) -> tuple[Iterator[int], Callable[[float, dict[str, Any]], None]]:
    """As in a training: one loop over all epochs, of which each call takes the next, and one gauge."""
    gauge = metrics.get_meter("digits").create_gauge("training.temperature")
    return iter(monitor.epochs(_MOST_EPOCHS)), gauge.set


def _with_everything(monitor: Monitor, batches: list[Any], step: Step) -> None:
    epochs, set_gauge = _made_once(monitor)
    epoch = next(epochs)
    for x, y in monitor.steps(batches):
        loss, accuracy, norm, rate, size = step(x, y)
        monitor.log(loss=loss, accuracy=accuracy, grad_norm=norm, rate=rate, size=size)
        set_gauge(norm, {"epoch": epoch, "phase": "train"})


def _with_steps(monitor: Monitor, batches: list[Any], step: Step) -> None:
    for x, y in monitor.steps(batches):
        loss, accuracy, norm, rate, size = step(x, y)
        monitor.log(loss=loss, accuracy=accuracy, grad_norm=norm, rate=rate, size=size)


def _compare(what: str, train: Training, loop: Loop, monitor: Monitor, limit: float) -> Row:
    plain_seconds: list[float] = []
    extra_percent: list[float] = []
    epochs = 0
    ends = monotonic() + PAIR_SECONDS / 2  # so that no beat falls on the border of two pairs
    while len(plain_seconds) < PAIRS + 2:
        ends += PAIR_SECONDS
        plain = own = 0.0
        steps = 0
        everything = process_time()
        while monotonic() < ends:
            epochs += 1
            for turn in (epochs % 2, 1 - epochs % 2):
                start = thread_time()
                if turn:
                    _plain(train.batches, train.step)
                    plain += thread_time() - start
                else:
                    loop(monitor, train.batches, train.step)
                    own += thread_time() - start
            steps += len(train.batches)
        others = process_time() - everything - plain - own
        plain_seconds.append(plain / steps)
        extra_percent.append(100 * (own + others - plain) / plain)
    step_us = 1e6 * float(np.median(plain_seconds[2:]))
    segment_percent = 100 * 1e6 * _segment_seconds(loop, train) / step_us
    middle, low, high = (one + segment_percent for one in bootstrap_median(np.array(extra_percent[2:])))
    return Row(
        f"whole cost of {what} to a digits loop, CPU of all threads",
        limit,
        middle,
        "%",
        f"95 % interval {low:.2f} to {high:.2f} %, {PAIRS} pairs of about {steps} steps of {step_us:,.0f} µs "
        f"(layers of {train.width}); {middle * step_us / 100:.1f} µs a step, of which "
        f"{segment_percent * step_us / 100:.2f} a share of the segment's",
    )


def _segment_seconds(loop: Loop, train: Training, steps: int = 200_000) -> float:
    """CPU time a step, in all threads, for what happens once a segment."""
    drawn = iter(np.random.default_rng(7).random(steps).tolist())
    with temporary() as folder, started(folder, **BY_HAND) as monitor:
        loop(monitor, train.batches[:1] * steps, lambda _x, _y: (next(drawn), 0.5, 0.25, RATE, BATCH))
        heartbeat_of(monitor).tick()
        start = process_time()
        hand_over(monitor)
        heartbeat_of(monitor).tick()  # the new segment's pages are mapped
        heartbeat_of(monitor).tick()  # and flushed
        return (process_time() - start) / steps
