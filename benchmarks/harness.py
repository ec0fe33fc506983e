"""What all benchmarks share: rows, interleaved repeats, robust statistics, throw-away lakes.

The machine is small and noisy, so nothing is judged by one time: contenders take turns in short
blocks, each round gives one ratio, and the median of the ratios is what counts.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
from entrenar_processors import Samples
from numpy.typing import NDArray

from entrenar_otel import Monitor
from entrenar_otel.run.heartbeat import Heartbeat
from entrenar_otel.testing import open_run

ROOT = Path(__file__).resolve().parents[1]
METRICS = ("loss", "accuracy", "grad_norm", "learning_rate", "throughput")


@dataclass(frozen=True)
class Row:
    """One line of the table. `measured` is None where it could not be (`note` says why).

    `limit` is in `unit` too; a row without a limit is there for comparison. Less is better.
    """

    what: str
    limit: float | None
    measured: float | None
    unit: str
    note: str = ""
    #: Of a table of its own (report.py): its cells by column.
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether it is within its limit; None where there is no limit."""
        if self.limit is None:
            return None
        return self.measured is not None and self.measured <= self.limit

    @property
    def limit_text(self) -> str:
        return "" if self.limit is None else f"≤ {self.limit:.3g} {self.unit}"

    @property
    def measured_text(self) -> str:
        return "not measured" if self.measured is None else f"{self.measured:.3g} {self.unit}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


Contender = Callable[[int], object]


def interleave(contenders: Mapping[str, Contender], calls: int, rounds: int) -> dict[str, NDArray[Any]]:
    """Seconds per call of each contender in each round, `(rounds,)`.

    A contender runs its own loop of `calls` calls, so that all of them pay for the same loop. The
    order changes every round; the first round warms up and does not count.
    """
    names = list(contenders)
    shuffle = random.Random(7).shuffle
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 1):
        shuffle(names)
        for name in names:
            start = perf_counter()
            contenders[name](calls)
            times[name].append((perf_counter() - start) / calls)
    return {name: np.array(found[1:]) for name, found in times.items()}


def median_ratio(times: Mapping[str, NDArray[Any]], ours: str, theirs: str) -> float:
    """Median over the rounds of `ours / theirs`."""
    return float(np.median(times[ours] / times[theirs]))


def describe_ns(times: NDArray[Any]) -> str:
    return f"{np.median(times) * 1e9:,.0f} ns (min {times.min() * 1e9:,.0f})"


def bootstrap_median(values: NDArray[Any], draws: int = 10_000) -> tuple[float, float, float]:
    """The median and its 95 % interval (percentile bootstrap, seeded)."""
    picks = np.random.default_rng(7).integers(0, len(values), (draws, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


@contextmanager
def temporary() -> Iterator[Path]:
    """A folder on the disk that TMPDIR names, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="entrenar-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def started(folder: Path, **settings: Any) -> Iterator[Monitor]:
    """A started monitor, as a user has it, whose lake and live segments lie in `folder`."""
    settings = dict[str, Any](run_id="bench", quiet=True) | settings
    with Monitor(lake=folder / "lake", live=folder / "live", **settings) as monitor:
        yield monitor


def heartbeat_of(monitor: Monitor) -> Heartbeat:
    return open_run(monitor).heartbeat


def hand_over(monitor: Monitor) -> None:
    """What a tick does when a segment is due: drain, sum up, seal, write durable Parquet."""
    heartbeat = heartbeat_of(monitor)
    heartbeat.collect()
    heartbeat.recorder.roll()
    if not heartbeat.hand_over(final=True):  # waits for one that is going on
        raise RuntimeError("the lake could not be written")


#: For `started`: the heartbeat beats only when the benchmark says so.
BY_HAND = {"interval_seconds": 1e5}


def training_samples(steps: int, *, first: int = 0, seed: int = 7) -> Samples:
    """Five metrics of `steps` steps of about a millisecond, with the noise that real ones have.

    loss and gradient norm: float64 with all 52 bits in use; accuracy: a batch of 64; learning
    rate: a step schedule; throughput: from a clock.
    """
    random = np.random.default_rng(seed)
    step = np.arange(first, first + steps)
    loss = 2.3 * np.exp(-step / 50_000) + 0.05 * random.standard_normal(steps) ** 2
    seconds = np.round(1e-3 + 5e-5 * random.standard_normal(steps) ** 2, 9)
    return Samples.from_columns(
        {
            "loss": loss,
            "accuracy": np.round(64 * np.exp(-loss)) / 64,
            "grad_norm": np.sqrt(loss) * random.lognormal(0, 0.3, steps),
            "learning_rate": 0.1 * 0.5 ** (step // 50_000),
            "throughput": 64 / seconds,
        },
        seq=step,
        time_ns=1_700_000_000_000_000_000 + np.cumsum((seconds * 1e9).astype(np.int64)),
        epoch=step // 1000,
        batch=step % 1000,
        step=step,
    )


def run_python(
    code: str, *arguments: str, timeout: float = 120, environment: Mapping[str, str] | None = None
) -> Any:
    """Run code in a fresh interpreter and return the JSON that it printed last.

    Raises CalledProcessError or TimeoutExpired.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of `work`, after one call to warm up."""
    times = []
    for _ in range(repeats + 1):
        gc.collect()
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return float(np.median(times[1:]))


def command_seconds(folder: Path, arguments: list[str], repeats: int) -> list[float]:
    """CPU time of a command in a process of its own, from its start to its end, several times.

    Its lake is `lake` in that folder, its terminal 120 × 40.
    """
    seconds = []
    environment = os.environ | {"ENTRENAR_LAKE": str(folder / "lake"), "COLUMNS": "120", "LINES": "40"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installation has compiled modules
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    code = "from entrenar_otel.cli.main import main; main()"
    for _ in range(repeats + 1):
        before = os.times()
        subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        after = os.times()
        seconds.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    return seconds[1:]
