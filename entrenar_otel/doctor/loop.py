"""Loop: a training's, with and without a monitor in turn; run by `cost.py` in a process of its own.

A small network in numpy, as wide as makes a step take about a millisecond. Blocks of steps without a monitor
take turns with blocks that `log` five metrics, and with blocks that also go through `steps()`, so that each
sees the same machine. The heartbeat beats each 1.5 s, in which the monitored blocks have 1 s: the pace that
it has in a run. What the other threads used is divided by the monitored steps.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
from itertools import pairwise
from pathlib import Path
from time import monotonic, perf_counter, process_time, thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entrenar_otel.monitor.monitor import Monitor

STEP_SECONDS, BLOCK = 1e-3, 20
INTERVAL_SECONDS, BEATS = 1.5, 3
_BATCH, _RATE = 64, 0.01
_HEARTBEAT = "entrenar-heartbeat"


class Training:
    """A network of two hidden layers that learns nothing in particular."""

    def __init__(self) -> None:
        draw = np.random.default_rng(7)
        self.batches = [
            (draw.random((_BATCH, 64), dtype=np.float32), draw.integers(10, size=_BATCH))
            for _ in range(BLOCK)
        ]
        width = 64
        while self._quickest(width) < 0.95 * STEP_SECONDS and width < 2048:
            width += 32

    def _quickest(self, width: int) -> float:
        """A fresh network of this width, and the seconds that its quickest step takes."""
        draw = np.random.default_rng(7)
        self.weights = [
            (draw.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32)
            for shape in pairwise([64, width, width, 10])
        ]
        times = []
        for x, y in self.batches[:8]:
            begun = perf_counter()
            self.step(x, y)
            times.append(perf_counter() - begun)
        return min(times)

    def step(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[float, float, float]:
        """One step of gradient descent: loss, accuracy and gradient norm."""
        layers = [x]
        for weight in self.weights[:-1]:
            layers.append(np.maximum(layers[-1] @ weight, 0))
        scores = layers[-1] @ self.weights[-1]
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
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
            self.weights[i] -= _RATE * gradient
        return loss, accuracy, squares**0.5


def plain(train: Training, _monitor: Monitor) -> None:
    """A block without a monitor."""
    for x, y in train.batches:
        _loss, _accuracy, _norm = train.step(x, y)


def logged(train: Training, monitor: Monitor) -> None:
    """A block that records five metrics a step."""
    for x, y in train.batches:
        loss, accuracy, norm = train.step(x, y)
        monitor.log(loss=loss, accuracy=accuracy, grad_norm=norm, rate=_RATE, size=_BATCH)


def stepped(train: Training, monitor: Monitor) -> None:
    """The same through `steps()`."""
    for x, y in monitor.steps(train.batches):
        loss, accuracy, norm = train.step(x, y)
        monitor.log(loss=loss, accuracy=accuracy, grad_norm=norm, rate=_RATE, size=_BATCH)


BLOCKS = {"plain": plain, "log": logged, "steps": stepped}


def measured(beats: int = BEATS, interval_seconds: float = INTERVAL_SECONDS) -> dict[str, Any]:
    """CPU microseconds a step, by part; see `cost.Cost`."""
    train = Training()
    with tempfile.TemporaryDirectory(prefix="entrenar-doctor-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        begun = process_time()
        monitor = Monitor(
            "doctor",
            lake=folder / "lake",
            live=folder / "live",
            settings_file=None,
            interval_seconds=interval_seconds,
            quiet=True,
        )
        monitor.start()
        start_seconds = process_time() - begun
        first = monotonic() + interval_seconds / 2  # no beat falls on the border of what is measured
        while monotonic() < first:
            for block in BLOCKS.values():
                block(train, monitor)
        found = _rounds(train, monitor, beats * interval_seconds)
        begun = process_time()
        monitor.close()
        return found | {"start_ms": 1e3 * start_seconds, "end_ms": 1e3 * (process_time() - begun)}


def _rounds(train: Training, monitor: Monitor, seconds: float) -> dict[str, Any]:
    times: dict[str, list[float]] = {name: [] for name in BLOCKS}
    order, shuffle = list(BLOCKS), random.Random(7).shuffle  # noqa: S311 - an order, no secret
    heartbeat, everything, own = _heartbeat_seconds(), process_time(), thread_time()
    ends = monotonic() + seconds
    while monotonic() < ends or len(times["plain"]) < 3:
        shuffle(order)
        for name in order:
            begun = thread_time()
            BLOCKS[name](train, monitor)
            times[name].append((thread_time() - begun) / BLOCK)
    others = process_time() - everything - (thread_time() - own)
    beating = max(0.0, _heartbeat_seconds() - heartbeat)
    monitored = BLOCK * (len(times["log"]) + len(times["steps"]))
    a, b, c = (np.array(times[name]) for name in BLOCKS)
    middle, low, high = _median_of(c - a)
    return {
        "steps": monitored,
        "step_us": 1e6 * float(np.median(a)),
        "log_us": 1e6 * float(np.median(b - a)),
        "steps_us": 1e6 * (middle - float(np.median(b - a))),
        "loop_us": 1e6 * middle,
        "low_us": 1e6 * low,
        "high_us": 1e6 * high,
        "heartbeat_us": 1e6 * beating / monitored,
        "other_us": 1e6 * max(0.0, others - beating) / monitored,
    }


def _median_of(values: NDArray[Any]) -> tuple[float, float, float]:
    """The median and its 95 % interval (bootstrap, seeded)."""
    picks = np.random.default_rng(7).integers(0, len(values), (2000, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def _heartbeat_seconds() -> float:
    """CPU time of the heartbeat's thread; 0 where the system does not tell it by thread."""
    for thread in threading.enumerate():
        if thread.name == _HEARTBEAT:
            try:
                text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
                return int(text.split()[0]) / 1e9
            except (OSError, ValueError, IndexError):
                return 0.0
    return 0.0


if __name__ == "__main__":
    numbers = measured()
    sys.stdout.write(json.dumps(numbers | {"load": os.getloadavg()[0]}))
    sys.stdout.flush()
