"""What judging costs: all default processors and the policy, as the heartbeat calls them once a second."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from entrenar_processors import Samples, Series
from entrenar_processors.config import Config
from entrenar_processors.jidoka import processors_of, rules_of
from entrenar_processors.policy import Policy

from entrenar_otel.andon.judge import Judge

#: Name, series, steps a second, share of one core that it may take.
CASES = (("20 series at 1,000 steps/s", 20, 1000, 0.02), ("2,000 series at 10 steps/s", 2000, 10, 0.05))
SECONDS, WARM = 40, 15


def ticks(n_series: int, steps: int, seed: int = 0) -> list[Samples]:
    """Healthy training: heavy-tailed noise about a falling curve, a third each of what is watched."""
    random = np.random.default_rng(seed)
    names = ("loss", "gradient_norm", "accuracy")
    series = [Series.of(names[i % 3], {"layer": i // 3}) for i in range(n_series)]
    found = []
    for second in range(SECONDS):
        seq = np.arange(second * steps, (second + 1) * steps)
        level = 1 + 2 / (1 + seq / 5000)
        values = level[:, np.newaxis] + 0.05 * random.standard_t(4, (steps, n_series))
        columns: Any = dict(zip(series, values.T, strict=True))
        found.append(Samples.from_columns(columns, seq=seq, step=seq, time_ns=seq * (10**9 // steps)))
    return found


def main() -> None:
    """Print CPU seconds a second of training, in all and by processor."""
    for name, n_series, steps, limit in CASES:
        blocks = ticks(n_series, steps)
        judge = Judge(processors_of(Config().monitor), Policy(rules_of(Config())))
        spent, by_processor, findings, alerts = [], dict.fromkeys(judge.processors, 0.0), 0, 0
        for second, samples in enumerate(blocks):
            begun = time.thread_time()
            found = judge.judge(samples)
            alerts += len(judge.decide(found, int(samples.blocks[0].time_ns[-1])))
            findings += len(found)
            if second >= WARM:
                spent.append(time.thread_time() - begun)
        for processor in by_processor:
            processor.reset()
            for second, samples in enumerate(blocks):
                begun = time.thread_time()
                processor.update(samples)
                if second >= WARM:
                    by_processor[processor] += time.thread_time() - begun
        middle = float(np.median(spent))
        print(f"{name}: {middle:.2%} of a core (limit {limit:.0%}); {findings} findings, {alerts} alerts")
        for processor, seconds in sorted(by_processor.items(), key=lambda one: -one[1]):
            print(f"    {type(processor).__name__:<24} {seconds / (SECONDS - WARM):.2%}")


if __name__ == "__main__":
    main()
