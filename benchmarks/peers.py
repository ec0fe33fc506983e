"""Peers: the same five metrics through W&B (offline), TensorBoard and Trackio, in turns with our `log`.

Each peer runs in a process of its own, against a monitor of its own, without network and in a
temporary folder; where it is missing or fails, its row says so. Blocks of 100 calls, 40 rounds, as
each peer's queue would otherwise measure its back pressure; only the calling thread's time counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import (
    METRICS,
    Contender,
    Row,
    describe_ns,
    interleave,
    median_ratio,
    run_python,
    started,
    temporary,
)
from benchmarks.hot_path import log_by_keyword

CALLS, ROUNDS = 100, 40
VALUES = dict.fromkeys(METRICS, 0.5)


def measure() -> Iterator[Row]:
    for name, (package, limit, _) in PEERS.items():
        what = f"`log` ÷ {name} `log` of the same five metrics"
        try:
            result = run_python(
                "import sys; from benchmarks.peers import compare; compare(sys.argv[1])",
                name,
                environment=_OFFLINE,
            )
        except subprocess.TimeoutExpired as error:
            yield Row(what, limit, None, "×", f"{package} took more than {error.timeout:.0f} s")
        except subprocess.CalledProcessError as error:
            yield Row(what, limit, None, "×", (error.stderr.strip().splitlines() or ["failed"])[-1])
        else:
            note = f"{result['version']}: {result['theirs']}; ours {result['ours']}"
            yield Row(what, limit, result["ratio"], "×", note)


_OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_DISABLE_GIT": "true",
    "WANDB__DISABLE_STATS": "true",
    "HF_HUB_OFFLINE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def compare(name: str) -> None:
    """In the peer's own process: prints ratio, times and version as JSON."""
    from importlib.metadata import version

    package, _, make = PEERS[name]
    with temporary() as folder, started(folder) as monitor, contextlib.redirect_stdout(sys.stderr):
        theirs = make(folder)
        times = interleave({"ours": log_by_keyword(monitor), "theirs": theirs}, CALLS, ROUNDS)
    result = {
        "ratio": median_ratio(times, "ours", "theirs"),
        "ours": describe_ns(times["ours"]),
        "theirs": describe_ns(times["theirs"]),
        "version": f"{package} {version(package)}",
    }
    print(json.dumps(result), flush=True)
    os._exit(0)  # what a peer does at exit is not what is measured, and may wait for a network


def _wandb(folder: Path) -> Contender:
    import wandb

    run = wandb.init(project="bench", dir=folder)

    def work(calls: int) -> None:
        for _ in range(calls):
            run.log(VALUES)

    return work


def _tensorboard(folder: Path) -> Contender:
    from tensorboard.summary import Writer

    writer = Writer(str(folder))

    def work(calls: int) -> None:
        for step in range(calls):
            for metric in METRICS:
                writer.add_scalar(metric, 0.5, step)

    return work


def _trackio(folder: Path) -> Contender:
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio

    run = trackio.init(project="bench", embed=False, auto_log_gpu=False, auto_log_cpu=False)

    def work(calls: int) -> None:
        for _ in range(calls):
            run.log(VALUES)

    return work


#: Name: package, limit of `log` as a share of theirs, and what makes the contender.
PEERS: dict[str, tuple[str, float | None, Callable[[Path], Contender]]] = {
    "W&B offline": ("wandb", 1 / 25, _wandb),
    "TensorBoard": ("tensorboard", None, _tensorboard),
    "Trackio": ("trackio", None, _trackio),
}
