"""Wide runs: what commands cost of runs of 10,000 metrics.

Two runs of 100 steps, a million samples each: a loss, an accuracy, and a gradient norm for each of 9,998
parts of a network. CPU time of a command in a process of its own with all that it imports, which a busy
machine disturbs least, and the least of several.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import BY_HAND, Row, command_seconds, hand_over, started, temporary

STEPS, METRICS = 100, 10_000
PARTS = ("attention.query", "attention.key", "attention.value", "mlp.up", "mlp.down")
#: Each command, and its limit in seconds.
COMMANDS: dict[str, float | None] = {
    "show wide-a": 1.0,
    "show wide-a --json": None,
    "ls": 1.0,
    "alerts wide-a": 1.0,
    "watch wide-a --once": None,
    "compare wide-a wide-b": None,
    "report wide-a -o report.md": None,
    "plot wide-a -m loss -o run.png": None,
}
_REPEATS = 3


def measure() -> Iterator[Row]:
    with temporary() as folder:
        for seed, run_id in enumerate(("wide-a", "wide-b")):
            _record(folder, run_id, seed)
        for command, limit in COMMANDS.items():
            seconds = command_seconds(folder, command.split(), _REPEATS)
            note = f"CPU time, least of {len(seconds)}; median {np.median(seconds):.3g} s"
            yield Row(f"`{command}`, with start-up, 10,000 metrics", limit, min(seconds), "s", note)


def _record(folder: Path, run_id: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    names = [f"layers.{at // len(PARTS)}.{PARTS[at % len(PARTS)]}.grad_norm" for at in range(METRICS - 2)]
    norms = random.lognormal(0, 1, len(names))
    with started(folder, run_id=run_id, **BY_HAND) as monitor:
        for step in range(STEPS):
            values = norms * np.exp(-step / 50) + 0.01 * random.standard_normal(len(names))
            loss = 2 * np.exp(-step / 30) + 0.01 * float(random.standard_normal())
            of_parts = dict(zip(names, values.tolist(), strict=True))
            monitor.log({"loss": loss, "accuracy": 1 - np.exp(-step / 30), **of_parts}, step=step)
        hand_over(monitor)
