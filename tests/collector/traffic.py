"""A trainer as a process that counts what `log` has acknowledged, and what of it is in a lake."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.otlp_kills import value_of
from entrenar_otel.lake import Lake

from .process import ROOT, SECONDS

_SCRIPT = """
import mmap, os, signal, struct, sys, time
from entrenar_otel import Monitor
from benchmarks.otlp_kills import value_of
number, path, run_id, per_second = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
with open(path, "r+b") as file:
    counter = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
goes_on = True
def stop(*_):
    global goes_on
    goes_on = False
signal.signal(signal.SIGTERM, stop)
monitor = Monitor(run_id, quiet=True, interval_seconds=0.1).start()
i, began = 0, time.monotonic()
while goes_on:
    monitor.log(step=i, value=value_of(number, i))
    i += 1
    counter[0] = i  # one store: a kill finds no half of it
    if i % 20 == 0:
        time.sleep(max(0.0, began + i / per_second - time.monotonic()))
monitor.close()
"""


@dataclass
class Arrived:
    """What a lake has of what was logged."""

    logged: int
    arrived: int
    lost: int
    doubled: int
    wrong: int

    @property
    def is_exact(self) -> bool:
        return self.arrived == self.logged and not (self.lost or self.doubled or self.wrong)


class Trainer:
    """One trainer in `folder`, with a lake and a live folder of its own; logs until it is stopped."""

    number = 0

    def __init__(self, folder: Path, endpoint: str, run_id: str = "r", **environment: str) -> None:
        Trainer.number += 1
        self.number, self.run_id = Trainer.number, run_id
        self.live = folder / "live"
        self._errors = folder / "trainer.err"
        self._environment = os.environ | {
            "ENTRENAR_LAKE": str(folder / "lake"),
            "ENTRENAR_LIVE": str(self.live),
            "ENTRENAR_OTLP_SAMPLES": "blocks",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            **environment,
        }
        counter = folder / f"counter-{self.number}"
        counter.write_bytes(bytes(4096))
        with counter.open("r+b") as file:
            self._counter = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
        self._counter_path = counter
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, per_second: float = 2000.0) -> Trainer:
        """Start it; returns when it has logged something."""
        command = [str(self.number), str(self._counter_path), self.run_id, str(per_second)]
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SCRIPT, *command], env=self._environment, stderr=errors, cwd=ROOT
            )
        self.wait_for(1)
        return self

    @property
    def logged(self) -> int:
        """How many steps `log` has acknowledged."""
        return int(struct.unpack_from("<Q", self._counter, 0)[0])

    @property
    def told(self) -> str:
        return self._errors.read_text()

    def wait_for(self, more: int) -> None:
        """Until so many more steps are logged: training never waits."""
        assert self._process is not None
        enough, end = self.logged + more, time.monotonic() + SECONDS
        while self.logged < enough:
            assert self._process.poll() is None, self.told
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self) -> None:
        """End the run in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(SECONDS) == 0, self.told

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(SECONDS)

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send_rest(self) -> None:
        """What waits in the live folder, until nothing does."""
        command = [sys.executable, "-m", "entrenar_otel.cli.main", "recover", "--send"]
        end = time.monotonic() + SECONDS
        while any(path.suffix in (".seg", ".unsent") for path in self.live.iterdir()):
            assert time.monotonic() < end, self.told
            subprocess.run(command, env=self._environment, capture_output=True, cwd=ROOT, check=False)

    def arrived(self, lake: Lake, attempt: int = 1) -> Arrived:
        """Step by step, bit by bit."""
        sql = f"SELECT step, value FROM metrics WHERE metric = 'value' AND attempt = {attempt}"
        rows: list[dict[str, Any]] = lake.query(sql, run_id=self.run_id).to_pylist()
        times = Counter(row["step"] for row in rows)
        return Arrived(
            logged=self.logged,
            arrived=len(times),
            lost=sum(step not in times for step in range(self.logged)),
            doubled=sum(times.values()) - len(times),
            wrong=sum(
                struct.pack("<d", row["value"]) != struct.pack("<d", value_of(self.number, row["step"]))
                for row in rows
            ),
        )


def wait_until(true: Callable[[], Any], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.05)
