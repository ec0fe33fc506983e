"""Where it goes: instructions, warm and cold time of each part, on the loop's thread and in the heartbeat.

A call on the loop's thread: blocks of calls in a tight loop (warm), and single calls, each after 8 MB of
other memory were touched, so that neither code nor data is in the first two caches (cold): what a call finds
after a step that computes something. An empty call is taken off both. In the heartbeat: the CPU time that a
step of five metrics, three of them watched, takes in a tick of 1,000 steps (warm: one stage right after the
other; cold: 8 MB touched before each); Parquet is that of 20,000 steps. Of all times the lower quartile,
since others only ever add to them.
Instructions are counted by `valgrind --tool=callgrind` in a process of its own, between calls of `getpgid`,
at which it dumps what it has counted: they are the same on a busy machine as on a quiet one, times are not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from entrenar_processors import Samples, Summaries
from entrenar_processors.config.build import policy_of, processors_of
from entrenar_processors.config.models import Config

from benchmarks.harness import (
    BY_HAND,
    ROOT,
    Row,
    hand_over,
    heartbeat_of,
    started,
    temporary,
)
from benchmarks.hot_path import five_gauges
from entrenar_otel import Monitor
from entrenar_otel.andon.judging.judge import Judge
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.testing import open_run

ROUNDS, COLD_CALLS = 25, 150
TICK_STEPS, TICKS, SEGMENT_STEPS = 1_000, 20, 20_000
#: More than the second cache has.
_FLUSHED_BYTES = 8 << 20
#: Counting takes half a minute on a quiet machine; the group has ten minutes in all.
_COUNT_SECONDS = 400
LOOP, HEARTBEAT = "loop", "heartbeat"
EMPTY, DRAIN, PARQUET = "an empty call", "drain and decode", "Parquet, durable"
Call = Callable[[], object]


class Part(NamedTuple):
    """Something on the loop's thread: `prepare(calls)` gives what can be called so often, once."""

    name: str
    calls: int
    prepare: Callable[[int], Call]


def parts(monitor: Monitor) -> list[Part]:
    """What a loop calls, as it calls it; the first is an empty call, which is taken off all others."""
    log, fast = monitor.log, monitor.bind("loss", "accuracy", "grad_norm", "learning_rate", "throughput")
    provider = WrappingMeterProvider()
    monitor.adopt(provider)
    gauge = provider.get_meter("bench").create_gauge("training.temperature").set
    gauges = five_gauges()

    def same(call: Call) -> Callable[[int], Call]:
        return lambda _calls: call

    def steps(calls: int) -> Call:
        return _nexts(monitor.steps(range(calls)))

    def epochs(calls: int) -> Call:
        return _nexts(monitor.epochs(calls))

    def marked() -> None:
        monitor.begin_step()
        monitor.end_step()

    def block() -> None:
        with monitor.step(size=64):
            pass

    return [
        Part(EMPTY, 2_000, same(lambda: None)),
        Part("`log`, 5 metrics", 2_000, same(
            lambda: log(loss=0.5, accuracy=0.25, grad_norm=1.5, learning_rate=0.1, throughput=1e4)
        )),
        Part("`bind`, 5 metrics", 2_000, same(lambda: fast(0.5, 0.25, 1.5, 0.1, 1e4))),
        Part("`steps()`: from one step to the next", 1_000, steps),
        Part("`begin_step` and `end_step`", 1_000, same(marked)),
        Part("`with step()`", 1_000, same(block)),
        Part("`epochs()`: a span ends and the next begins", 50, epochs),
        Part("a plain gauge, 2 attributes", 2_000, same(lambda: gauge(0.5, {"epoch": 3, "phase": "train"}))),
        Part("five gauges of prometheus_client", 2_000, same(lambda: gauges(1))),
    ]  # fmt: skip


def _nexts(iterable: Any) -> Call:
    """Each call goes on by one; the iteration ends with the last, as a loop's does."""
    going = iter(iterable)
    return lambda: next(going, None)


def stages(monitor: Monitor) -> dict[str, Callable[[Samples], object]]:
    """What the heartbeat does with a tick's samples, by name, in its order."""
    heartbeat, run = heartbeat_of(monitor), open_run(monitor)
    judge = Judge(processors_of(Config().monitor), policy_of(Config()))

    def judged(samples: Samples) -> None:
        judge.decide(judge.judge(samples), int(samples.blocks[-1].time_ns[-1]))

    apart = processors_of(Config().monitor)
    return {
        "sums": Summaries().update,
        "aggregates for exporters": run.metrics.consume,
        "judging": judged,
        **{f"… {type(one).__name__}": one.update for one in apart},
        "sync": lambda _: heartbeat.recorder.sync(),
    }


class Tick:
    """1,000 steps of five metrics are recorded, noisy and healthy; then each stage has its turn."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor, self._recorder = monitor, heartbeat_of(monitor).recorder
        self._fast = monitor.bind("loss", "accuracy", "grad_norm", "learning_rate", "throughput")
        noise = np.random.default_rng(7).standard_normal((SEGMENT_STEPS, 5)).clip(-2, 2)
        self._rows = (np.array([2.0, 0.5, 1.0, 0.1, 1e4]) * (1 + 0.05 * noise)).tolist()
        self._at = 0
        self.stages = stages(monitor)

    def record(self, steps: int = TICK_STEPS) -> None:
        fast, rows = self._fast, self._rows
        for step in range(self._at, self._at + steps):
            fast(*rows[step % SEGMENT_STEPS], step=step)
        self._at += steps

    def drain(self) -> Samples:
        return self._recorder.drain(4)

    def rest(self) -> None:
        """What the heartbeat does between two ticks, so that the next finds what it would find."""
        heartbeat_of(self._monitor).tick(hand_over=False)


def measure() -> Iterator[Row]:
    counts = counted()
    with temporary() as folder, started(folder, **BY_HAND) as monitor:
        warm, cold = _calls(monitor)
    yield from _rows(LOOP, "a call on the loop's thread", warm, cold, counts, "ns")
    with temporary() as folder, started(folder, **BY_HAND) as monitor:
        warm, cold = _ticks(monitor)
    yield from _rows(HEARTBEAT, "in the heartbeat, a step of five metrics", warm, cold, counts, "ns")


def _rows(
    kind: str,
    heading: str,
    warm: dict[str, float],
    cold: dict[str, float],
    counts: dict[str, float],
    unit: str,
) -> Iterator[Row]:
    for name in warm:
        columns = {
            "part": name,
            "of": heading,
            "instructions": f"{counts[name]:,.0f}" if name in counts else "–",
            "warm": f"{1e9 * warm[name]:,.0f} {unit}",
            "cold": f"{1e9 * cold[name]:,.0f} {unit}",
        }
        note = f"warm {columns['warm']}, {columns['instructions']} instructions"
        yield Row(f"{kind}: {name}, cold", None, 1e9 * cold[name], unit, note, columns)


# -- times


def _flush(memory: Any = np.zeros(_FLUSHED_BYTES // 8)) -> None:  # noqa: B008 - it is allocated once
    memory += 1.0


def _calls(monitor: Monitor) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds a call of each part, warm and cold."""
    warm: dict[str, list[float]] = {}
    cold: dict[str, list[float]] = {}
    known = parts(monitor)
    for _ in range(ROUNDS + 1):
        for part in known:
            call = part.prepare(part.calls + 1)
            call()
            begun = perf_counter()
            for _ in range(part.calls):
                call()
            warm.setdefault(part.name, []).append((perf_counter() - begun) / part.calls)
            single = cold.setdefault(part.name, [])
            each = COLD_CALLS // ROUNDS
            call = part.prepare(each + 1)
            call()
            for _ in range(each):
                _flush()
                begun = perf_counter()
                call()
                single.append(perf_counter() - begun)
            _tidy(monitor)
    return _less(warm, skip=1), _less(cold, skip=COLD_CALLS // ROUNDS)


def _tidy(monitor: Monitor) -> None:
    """A heartbeat that judges nothing: a loss that is always the same would be an incident."""
    heartbeat = heartbeat_of(monitor)
    while len(heartbeat.recorder.drain(4)):
        pass
    heartbeat.tick()


def _less(times: dict[str, list[float]], *, skip: int) -> dict[str, float]:
    """Lower quartiles without the first round, less that of an empty call."""
    found = {name: float(np.quantile(seconds[skip:], 0.25)) for name, seconds in times.items()}
    nothing = found.pop(EMPTY)
    return {name: max(0.0, seconds - nothing) for name, seconds in found.items()}


def _ticks(monitor: Monitor) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of CPU a step of each stage, warm and cold."""
    tick = Tick(monitor)
    times: dict[bool, dict[str, list[float]]] = {False: {}, True: {}}
    for number in range(2 * TICKS + 2):
        is_cold = bool(number % 2)
        seconds = times[is_cold]
        tick.record()
        if is_cold:
            _flush()
        begun = process_time()
        samples = tick.drain()
        seconds.setdefault(DRAIN, []).append(process_time() - begun)
        for name, stage in tick.stages.items():
            if is_cold:
                _flush()
            begun = process_time()
            stage(samples)
            seconds.setdefault(name, []).append(process_time() - begun)
        tick.rest()
    for is_cold in (False, True) * 4:
        tick.record(SEGMENT_STEPS)
        heartbeat_of(monitor).collect()
        if is_cold:
            _flush()
        begun = process_time()
        hand_over(monitor)
        took = (process_time() - begun) * TICK_STEPS / SEGMENT_STEPS
        times[is_cold].setdefault(PARQUET, []).append(took)
        tick.rest()
    warm, cold = (
        {name: float(np.quantile(seconds[1:], 0.25)) / TICK_STEPS for name, seconds in times[is_cold].items()}
        for is_cold in (False, True)
    )
    return warm, cold


# -- instructions


def counted() -> dict[str, float]:
    """Instructions a call, or a step, by the name of the part; none without valgrind, or in time."""
    if shutil.which("valgrind") is None:
        return {}
    with temporary() as folder:
        out = folder / "callgrind"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--dump-before=getpgid"]
        code = "import sys; from benchmarks.where import work; work(sys.argv[1])"
        try:
            done = subprocess.run(
                [*command, sys.executable, "-c", code, str(folder)],
                cwd=ROOT,
                env=os.environ | {"PYTHONHASHSEED": "0", "ENTRENAR_SYSTEM_METRICS": "0"},
                capture_output=True,
                text=True,
                timeout=_COUNT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return {}
        if done.returncode:
            sys.stderr.write(done.stderr)  # times are told all the same
            return {}
        named = json.loads(done.stdout.strip().splitlines()[-1])
        dumps = [_total(Path(f"{out}.{number + 1}")) for number in range(2 * len(named))]
    found = {name: dumps[2 * at + 1] / calls for at, (name, calls) in enumerate(named)}
    nothing = found.pop(EMPTY)
    loop = [name for name, _ in named[: [name for name, _ in named].index(DRAIN)]]
    return {name: count - nothing if name in loop else count for name, count in found.items()}


def _total(dump: Path) -> int:
    match = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    assert match is not None, dump
    return int(match[1])


@contextmanager
def _count(named: list[tuple[str, int]], name: str, calls: int) -> Iterator[None]:
    """Between two dumps; the second has what is counted here."""
    os.getpgid(0)
    yield
    os.getpgid(0)
    named.append((name, calls))


def work(folder: str) -> None:
    """In the counted process."""
    named: list[tuple[str, int]] = []
    with started(Path(folder), **BY_HAND) as monitor:
        for thread in threading.enumerate():
            if thread.name == "entrenar-environment":  # it lists what is installed, once
                thread.join()
        for part in parts(monitor):
            calls = min(part.calls, 500)
            for _ in range(2):  # what is made once is made before
                call = part.prepare(calls + 3)
                call()
                call()
            with _count(named, part.name, calls):
                for _ in range(calls):
                    call()
            _tidy(monitor)
        tick = Tick(monitor)
        for number in range(3):
            tick.record()
            is_last = number == 2
            with _count(named, DRAIN, TICK_STEPS) if is_last else _nothing():
                samples = tick.drain()
            for name, stage in tick.stages.items():
                with _count(named, name, TICK_STEPS) if is_last else _nothing():
                    stage(samples)
            tick.rest()
        tick.record(SEGMENT_STEPS)
        heartbeat_of(monitor).collect()
        heartbeat = heartbeat_of(monitor)
        with _count(named, PARQUET, SEGMENT_STEPS):
            heartbeat.recorder.roll()
            while not heartbeat.hand_over(final=True):  # counted, it takes longer than it is waited for
                pass
        sys.stdout.write(json.dumps(named) + "\n")
        sys.stdout.flush()
        os._exit(0)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
