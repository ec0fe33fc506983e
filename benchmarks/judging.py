"""Judging: one tick of many steps, which is the same work value by value whoever waits for it.

20,000 steps of three watched series (a loss, a gradient norm, an accuracy) with heavy-tailed noise about a
curve, as a new run's judge sees them at once: all default processors and the policy; CPU time of the thread,
the median of 15. In pure Python, without the native core, in the note.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import entrenar_native
import numpy as np
from entrenar_processors import Samples, Series
from entrenar_processors.config.build import policy_of, processors_of
from entrenar_processors.config.models import Config

from benchmarks.harness import Row
from entrenar_otel.andon.judging.judge import Judge

#: Steps that wait for one heartbeat, and how often they are judged anew.
WAITING, REPEATS = 20_000, 15


def measure() -> Iterator[Row]:
    samples, core = healthy_ticks(3, WAITING, seconds=1), entrenar_native.core
    judged = _cost_of_one(samples)
    entrenar_native.core = None
    try:
        in_python, _ = _cost_of_one(samples)
    finally:
        entrenar_native.core = core
    what = f"judging {WAITING:,} waiting steps of three watched series"
    note = f"{judged[1]} findings; in pure Python {in_python:.0f} ms"
    yield Row(what, 3.0, judged[0], "ms", note)


def _cost_of_one(ticks: list[Samples]) -> tuple[float, int]:
    """Milliseconds (median) of a new run's first tick, and its findings."""
    spent, findings = [], 0
    for _ in range(REPEATS):
        judge = default_judge()
        begun = time.thread_time()
        for samples in ticks:
            found = judge.judge(samples)
            judge.decide(found, int(samples.blocks[0].time_ns[-1]))
        spent.append(time.thread_time() - begun)
        findings = len(found)
    return 1e3 * float(np.median(spent)), findings


def default_judge() -> Judge:
    """A new run's, with all default processors and the policy."""
    return Judge(processors_of(Config().monitor), policy_of(Config()))


def healthy_ticks(n_series: int, steps: int, seed: int = 0, seconds: int = 60) -> list[Samples]:
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
