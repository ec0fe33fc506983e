"""Jidoka: what judging a run costs, and how many alerts the defaults make on real, healthy curves.

All default processors and the policy, as the heartbeat calls them once a second; CPU time of the thread.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from entrenar_processors import Samples, Series
from entrenar_processors.alert import Action
from entrenar_processors.samples import Block

from benchmarks.curves import Floats, curves, halves
from benchmarks.harness import Row
from benchmarks.judging import default_judge, healthy_ticks

#: What, series, steps a second, whether each is set by a call of its own, share of one core that it may take.
CASES = (
    ("20 series at 1,000 steps/s", 20, 1000, False, 2.0),
    ("2,000 series at 10 steps/s", 2000, 10, False, 5.0),
    ("2,000 series at 10 steps/s, set one by one", 2000, 10, True, 5.0),
)
SECONDS, WARM = 60, 20
STEP_SECONDS = 0.5  # of the curves: what a language model's step may take


def measure() -> Iterator[Row]:
    for what, n_series, steps, apart, limit in CASES:
        ticks = healthy_ticks(n_series, steps)
        spent, findings, alerts, of = _cost([_apart(one) for one in ticks] if apart else ticks)
        largest = max(of, key=lambda name: of[name])
        note = f"{findings} findings, {alerts} alerts; most of it {largest}, {of[largest]:.2g} %"
        yield Row(f"judging {what}", limit, spent, "% of a core", note)
    for half, runs in zip(("tuned on", "held out"), halves(curves()), strict=True):
        steps = sum(len(curve) for curve in runs.values())
        told, logged = _alerts(runs)
        note = f"{told} alerts in {steps:,} steps; {logged} more were only logged (z-score)"
        yield Row(
            f"alerts that notify, untouched loss curves, {half}", None, told / steps * 1e4, "per 10k", note
        )


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
    judge, findings, alerts = default_judge(), 0, 0
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
        judge = default_judge()
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
