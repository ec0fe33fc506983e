"""Jidoka: what judging a run costs, and how many alerts the defaults make on real, healthy curves.

All default processors and the policy, as the heartbeat calls them once a second; CPU time of the thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import entrenar_native
import numpy as np
from entrenar_processors import Samples, Series
from entrenar_processors.alert import Action
from entrenar_processors.config.build import policy_of, processors_of
from entrenar_processors.config.models import Config
from entrenar_processors.samples import Block

from benchmarks.curves import Floats, curves, halves
from benchmarks.harness import Row
from entrenar_otel.andon.judging.judge import Judge

#: What, series, steps a second, whether each is set by a call of its own, share of one core that it may take.
CASES = (
    ("20 series at 1,000 steps/s", 20, 1000, False, 2.0),
    ("2,000 series at 10 steps/s", 2000, 10, False, 5.0),
    ("2,000 series at 10 steps/s, set one by one", 2000, 10, True, 5.0),
)
SECONDS, WARM = 60, 20
#: Steps that wait for one heartbeat, and how often they are judged anew.
WAITING, REPEATS = 20_000, 15
STEP_SECONDS = 0.5  # of the curves: what a language model's step may take


def measure() -> Iterator[Row]:
    for what, n_series, steps, apart, limit in CASES:
        ticks = _ticks(n_series, steps)
        spent, findings, alerts, of = _cost([_apart(one) for one in ticks] if apart else ticks)
        largest = max(of, key=lambda name: of[name])
        note = f"{findings} findings, {alerts} alerts; most of it {largest}, {of[largest]:.2g} %"
        yield Row(f"judging {what}", limit, spent, "% of a core", note)
    yield _waiting()
    for half, runs in zip(("tuned on", "held out"), halves(curves()), strict=True):
        steps = sum(len(curve) for curve in runs.values())
        told, logged = _alerts(runs)
        note = f"{told} alerts in {steps:,} steps; {logged} more were only logged (z-score)"
        yield Row(
            f"alerts that notify, untouched loss curves, {half}", None, told / steps * 1e4, "per 10k", note
        )


def _waiting() -> Row:
    """One tick of many steps, which are the same work value by value whoever waits for it."""
    samples, core = _ticks(3, WAITING, seconds=1), entrenar_native.core
    judged = _cost_of_one(samples)
    entrenar_native.core = None
    try:
        in_python, _ = _cost_of_one(samples)
    finally:
        entrenar_native.core = core
    what = f"judging {WAITING:,} waiting steps of three watched series"
    note = f"{judged[1]} findings; in pure Python {in_python:.0f} ms"
    return Row(what, 6.0, judged[0], "ms", note)


def _cost_of_one(ticks: list[Samples]) -> tuple[float, int]:
    """Milliseconds (median) of a new run's first tick, and its findings."""
    spent, findings = [], 0
    for _ in range(REPEATS):
        judge = _judge()
        begun = time.thread_time()
        for samples in ticks:
            found = judge.judge(samples)
            judge.decide(found, int(samples.blocks[0].time_ns[-1]))
        spent.append(time.thread_time() - begun)
        findings = len(found)
    return 1e3 * float(np.median(spent)), findings


def _judge() -> Judge:
    return Judge(processors_of(Config().monitor), policy_of(Config()))


def _ticks(n_series: int, steps: int, seed: int = 0, seconds: int = SECONDS) -> list[Samples]:
    """Healthy training: heavy-tailed noise about a falling curve, a third each of what is watched."""
    random = np.random.default_rng(seed)
    names = ("loss", "gradient_norm", "accuracy")
    series = [Series.of(names[i % 3], {"layer": i // 3}) for i in range(n_series)]
    found = []
    for second in range(seconds):
        seq = np.arange(second * steps, (second + 1) * steps)
        level = 1 + 2 / (1 + seq / 5000)
        values = level[:, np.newaxis] + 0.05 * random.standard_t(4, (steps, n_series))
        columns: Any = dict(zip(series, values.T, strict=True))
        found.append(Samples.from_columns(columns, seq=seq, step=seq, time_ns=seq * (10**9 // steps)))
    return found


def _apart(samples: Samples) -> Samples:
    """The same, each series in a block of its own, its rows between those of the others."""
    (block,) = samples.blocks
    k, at = len(block.series), (block.time_ns, block.epoch, block.batch, block.step)
    return Samples(
        Block((series,), *at, block.seq * k + i, block.values[:, i : i + 1])
        for i, series in enumerate(block.series)
    )


def _cost(blocks: list[Samples]) -> tuple[float, int, int, dict[str, float]]:
    """Per cent of a core (median tick), findings, alerts, and per cent by processor (median tick)."""
    judge, findings, alerts = _judge(), 0, 0
    spent: list[float] = []
    of: dict[str, list[float]] = {type(one).__name__: [] for one in judge.processors}
    for samples in blocks:
        begun = time.thread_time()
        found = judge.judge(samples)
        alerts += len(judge.decide(found, int(samples.blocks[0].time_ns[-1])))
        spent.append(time.thread_time() - begun)
        findings += len(found)
    for processor in judge.processors:
        processor.reset()
        for samples in blocks:
            begun = time.thread_time()
            processor.update(samples)
            of[type(processor).__name__].append(time.thread_time() - begun)
    by_name = {name: 100 * float(np.median(seconds[WARM:])) for name, seconds in of.items()}
    return 100 * float(np.median(spent[WARM:])), findings, alerts, by_name


def _alerts(runs: dict[str, Floats]) -> tuple[int, int]:
    """Alerts that would notify, and those only logged, over all runs."""
    told = logged = 0
    for curve in runs.values():
        judge = _judge()
        seq = np.arange(len(curve))
        time_ns = (seq * STEP_SECONDS * 1e9).astype(np.int64)
        for start in range(0, len(curve), 2):  # a heartbeat of a second
            part = slice(start, start + 2)
            samples = Samples.from_columns(
                {Series("loss"): curve[part]}, seq=seq[part], step=seq[part], time_ns=time_ns[part]
            )
            for alert in judge.decide(judge.judge(samples), int(time_ns[part][-1])):
                if not alert.is_resolved:
                    told += alert.action is not Action.LOG
                    logged += alert.action is Action.LOG
    return told, logged
