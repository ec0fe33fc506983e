"""Watching: what `watch` costs beside a training that goes on, each a process of its own, on a real terminal.

The training has 200,000 steps of five metrics behind it, 1,000,000 samples, and then makes steps of a
millisecond of sleep and a little more: about 900 a second, where the machine is quiet. `watch` looks once a
second; what it takes to start is left out.
"""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness import METRICS, ROOT, Row, started

STEPS = 200_000
_SETTLE_SECONDS = 10.0
_SECONDS = 30.0
_ROWS, _COLUMNS = 40, 120


def watch_beside_training(folder: Path) -> Row:
    """The share of a core that `watch` takes, user and system."""
    what = "share of a core of `watch` beside a training"
    with _training(folder) as training, _watch(folder) as (watch, written):
        time.sleep(_SETTLE_SECONDS)
        before, began = _cpu_seconds(watch), time.monotonic()
        of_training, at = _cpu_seconds(training), written[0]
        time.sleep(_SECONDS)
        took = time.monotonic() - began
        if watch.poll() is not None:
            return Row(what, 3.0, None, "%", "watch ended before")
        share = 100 * (_cpu_seconds(watch) - before) / took
        beside = 100 * (_cpu_seconds(training) - of_training) / took
        sent = (written[0] - at) / took / 1e3
    note = f"CPU time over {took:.0f} s; the training takes {beside:.0f} %, {sent:.1f} kB a second are drawn"
    return Row(what, 3.0, share, "%", note)


def train(folder: str) -> None:
    """The training: says when its first million samples are there, and goes on until its input ends."""
    random = np.random.default_rng(7)
    values = np.exp(-np.arange(STEPS) / 50_000)[:, np.newaxis] + 0.05 * random.standard_normal((STEPS, 5))
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    with started(Path(folder)) as monitor:
        log = monitor.bind(*METRICS)
        for step, row in enumerate(values.tolist()):
            log(*row, step=step)
        print("ready", flush=True)
        step = STEPS
        while not is_over.is_set():
            time.sleep(0.001)
            log(*values[step % STEPS].tolist(), step=step)
            step += 1


@contextlib.contextmanager
def _training(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; from benchmarks.watching import train; train(sys.argv[1])"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.stdin.close()


@contextlib.contextmanager
def _watch(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """The command, and how many bytes it has drawn."""
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (_ROWS, _COLUMNS))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    written = [0]

    def read() -> None:
        with contextlib.suppress(OSError):  # nobody writes any more
            while data := os.read(terminal, 1 << 16):
                written[0] += len(data)

    with subprocess.Popen(
        [sys.executable, "-m", "entrenar_otel.cli.main", "watch", "--lake", str(folder / "lake")],
        cwd=folder,
        env=environment
        | {"TERM": "xterm-256color", "PYTHONPATH": path, "ENTRENAR_LIVE": str(folder / "live")},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    ) as process:
        os.close(its_end)
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield process, written
        finally:
            with contextlib.suppress(OSError):
                os.write(terminal, b"q")
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
    os.close(terminal)


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)
