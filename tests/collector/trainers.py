"""Trainers as processes that do what they are told and whose values are known."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .process import ROOT, SECONDS

#: What all runs are judged by: nothing but what is provoked can be active.
SETTINGS = """
[[assertion]]
name = "memory"
type = "memory_usage"
max_bytes = 1
fail_on_violation = false
[[assertion]]
name = "spans"
type = "span_count"
max_spans = 8
span_name_pattern = "^known$"
fail_on_violation = false
[[monitor.threshold]]
name = "too_high"
metric = "loss"
max = 10
action = "pause"
[monitor.drift]
window = 20
[monitor]
zscore = { enabled = false }
spike = { enabled = false }
divergence = { enabled = false }
accuracy_drop = { enabled = false }
stuck = { enabled = false }
silent = { enabled = false }
"""
_BEGIN = """
import os, sys, time
from entrenar_otel import AndonStop, Monitor
def told(*words):
    print(*words, flush=True)
def begun(run_id):
    return Monitor(run_id, model_id="digits", quiet=True, interval_seconds=0.2).start()
"""
#: Of the machine, by tags; of a counter what is added at each step.
MACHINE: Sequence[tuple[dict[str, str], dict[str, float]]] = (
    (
        {},
        {
            "process.cpu.utilization": 0.5, "process.memory.usage": 1e9,
            "container.memory.usage": 2e9, "container.memory.available": 3e9,
        },
    ),
    ({"system.memory.state": "used"}, {"system.memory.usage": 4e9}),
    ({"cpu.mode": "user"}, {"system.cpu.utilization": 0.25}),
    ({"cpu.mode": "system"}, {"system.cpu.utilization": 0.125}),
    ({"cpu.mode": "iowait"}, {"system.cpu.utilization": 0.0625}),
    ({"disk.io.direction": "read"}, {"process.disk.io": 16, "system.disk.io": 48}),
    ({"disk.io.direction": "write"}, {"process.disk.io": 8, "system.disk.io": 24}),
    ({"network.io.direction": "receive"}, {"system.network.io": 96}),
    ({"network.io.direction": "transmit"}, {"system.network.io": 72}),
    (
        {"hw.id": "GPU-1", "hw.name": "gpu0", "hw.type": "gpu"},
        {
            "hw.gpu.utilization": 0.75, "hw.gpu.memory.utilization": 0.375,
            "hw.power": 300, "hw.temperature": 65,
        },
    ),
)  # fmt: skip
#: Two halves of 100 steps, since a rate sees what comes between two scrapes.
KNOWN = (
    f"""
machine = {MACHINE!r}
"""
    + """
monitor, step_seconds = begun("r"), float(os.environ["STEP_SECONDS"])
def half(first):
    for step in range(first, first + 100):
        accuracy = 0.9 + step / 1e5 if step < 100 else 0.5 + step / 1e4
        monitor.log(step=step, epoch=step // 100, loss=0.5, accuracy=0.9375, learning_rate=0.125,
                    gradient_norm=2.0, step_duration=step_seconds, data_wait=step_seconds / 5,
                    samples=32, tokens=64)
        monitor.log(step=step, loss=0.75, accuracy=accuracy, tags={"split": "validation"})
        for tags, values in machine:
            monitor.log(step=step, tags=tags, **values)
    for _ in range(2):
        with monitor.span("known"):
            pass
    monitor.log(step=first + 99, odd=float("nan"))
    monitor.log(step=first + 99, refused="text")
for number, _ in enumerate(sys.stdin):
    begin = time.time()
    half(100 * number)
    told(begin, time.time())
"""
)
#: One run after the other: completed, stopped by an alert, crashed; each goes on when it is told to.
ENDS = """
def wait():
    told(monitor.run_id)
    sys.stdin.readline()
for run_id, loss in (("done", 0.25), ("stopped", float("nan")), ("bad", 0.25)):
    monitor = begun(run_id)
    monitor.log(step=4, **{"train/loss": 0.25, "val/loss": 0.375})
    monitor.log(step=4, **{"train/accuracy": 0.625, "val/accuracy": 0.5})
    wait()
    try:
        with monitor:
            try:
                monitor.log(step=5, **{"train/loss" if run_id == "done" else "loss": loss})
            except AndonStop:
                wait()
                raise
            if run_id == "bad":
                raise RuntimeError("provoked")
    except (AndonStop, RuntimeError):
        pass
told("ended")
sys.stdin.read()
"""
PAUSED = """
monitor = begun("paused")
monitor.log(step=0, loss=1)
told("begun")
sys.stdin.readline()
while True:
    monitor.log(step=1, loss=20.0)
    time.sleep(0.01)
"""
#: The folder of segments goes away under a run, so that there can be no second one.
FULL = """
monitor = begun("full")
monitor.log(step=0, loss=1)
told("begun")
sys.stdin.readline()
os.rename("live", "elsewhere")
open("live", "w").close()
step = 0
while not monitor.dropped:
    step += 1
    monitor.log(step=step, loss=0.5)
for _ in range(9):
    monitor.log(step=step, loss=0.5)
told(monitor.dropped)
sys.stdin.read()
"""
#: It has a page of its own, and no Collector.
SCRAPED = """
monitor = begun("scraped")
monitor.log(step=0, loss=1)
told("begun")
sys.stdin.read()
"""


class Trainer:
    """A trainer in a folder of its own."""

    def __init__(
        self, folder: Path, script: str, environment: dict[str, str], *, settings: str = SETTINGS
    ) -> None:
        folder.mkdir()
        (folder / "renacer.toml").write_text(settings)
        self._errors = folder / "errors"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BEGIN + script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                text=True,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "ENTRENAR_LIVE": "live"}
                | environment,
            )

    def tell(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def told(self) -> list[str]:
        """The next words that it says."""
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline()
        assert line, self._errors.read_text()
        return line.split()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=SECONDS)
