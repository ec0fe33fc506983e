"""OTLP kills: trainers and the sink that they send to are killed at random; every sample arrives once.

Each trainer writes what `log` has acknowledged into shared memory, is killed, and the next one begins on the
same live folder. The sink is killed and started again meanwhile. In the end all that is left is sent, and the
sink's lake must have every acknowledged sample once, bit for bit, and of what was being written at most one.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: After so many trainers that could record nothing, it ends.
_MOST_UNABLE = 5
#: How long all that is left may take to be sent and rolled, on a busy machine.
_LAST_SECONDS = 300.0
_COMMAND = (sys.executable, "-m", "entrenar_otel.cli.main")
_TRAINER = """
import mmap, os, sys, time
from entrenar_otel import Monitor
from entrenar_otel.testing import open_run
from benchmarks.otlp_kills import value_of
number, path, run_id, at_most = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
with open(path, "r+b") as file:
    counter = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")
monitor = Monitor(run_id, quiet=True, interval_seconds=0.1).start()
open_run(monitor)  # raises where monitoring could not begin: then nothing is acknowledged
for i in range(at_most):
    monitor.log(step=i, number=float(number), value=value_of(number, i))
    if monitor.dropped:  # no room on the disk: this one was not acknowledged
        break
    counter[0] = i + 1  # one store: a kill finds no half of it
    if i % 20 == 0:
        time.sleep(0.001)
monitor.close()
"""
_ROWS = """
SELECT run_id, attempt, rank, metric, step, value FROM metrics
WHERE metric IN ('number', 'value')
"""


def value_of(number: int, i: int) -> float:
    """What a trainer logs in its step `i`: any bits, NaN with any payload among them."""
    bits = (i + 1) * (2 * number + 0x9E37_79B9_7F4A_7C15) & 0xFFFF_FFFF_FFFF_FFFF
    if i % 7 == 0:
        bits |= 0x7FF8 << 48  # a quiet NaN: a signalling one may become quiet on the way into a register
    elif bits >> 52 & 0x7FF == 0x7FF:
        bits ^= 1 << 60
    value: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
    return value


@dataclass
class Outcome:
    """What was killed, and what is wrong with what arrived."""

    trainers: int = 0
    trainers_killed: int = 0
    #: Those that could record nothing, for want of room on the disk say.
    unable: int = 0
    sinks_killed: int = 0
    acknowledged: int = 0
    arrived: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        """A line of it."""
        return (
            f"{self.trainers} trainers ({self.trainers_killed} killed), {self.sinks_killed} sinks killed, "
            f"{self.acknowledged:,} steps acknowledged, {self.arrived:,} arrived; "
            f"lost {self.lost}, doubled {self.doubled}, wrong {self.wrong}"
        )


class Sink:
    """A sink on a port of its own, started as often as it is killed; at `http` it may be asked."""

    def __init__(self, root: Path, http: str = "") -> None:
        self._root, self.http = root, http
        with socket.create_server(("127.0.0.1", 0)) as one:
            self.port = one.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it need not listen yet."""
        command = ["sink", "--lake", str(self._root / "sink-lake"), "--state", str(self._root / "state")]
        with (self._root / "sink.err").open("ab") as errors:
            self._process = subprocess.Popen(
                [*_COMMAND, *command, "--http", self.http, "--grpc", f"127.0.0.1:{self.port}"],
                stdout=errors,
                stderr=errors,
                cwd=ROOT,
            )

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(_LAST_SECONDS)

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid


class Kills:
    """One experiment in a folder of its own."""

    def __init__(self, root: Path, seed: int, *, mode: str = "blocks", steps: int = 3_000_000) -> None:
        self.root, self._mode, self._steps = root, mode, steps
        self._random = random.Random(seed)
        self.sink = Sink(root)
        self.outcome = Outcome()
        self._acknowledged: dict[int, int] = {}
        self._runs: dict[int, str] = {}

    def run(self, trainers: int, sinks: int, say: Callable[[str], None] = lambda _line: None) -> Outcome:
        """Kill so many of each, send what is left, and look at what arrived."""
        self.sink.start()
        done = threading.Event()
        killer = threading.Thread(target=self._kill_sinks, args=(sinks, done))
        killer.start()
        try:
            while (
                self.outcome.trainers_killed < trainers or self.outcome.sinks_killed < sinks
            ) and self.outcome.unable < _MOST_UNABLE:
                self._train(self._random.uniform(0.3, 2.5))
                if self.outcome.trainers % 10 == 0:
                    say(self.outcome.text())
        finally:
            done.set()
            killer.join()
        if not self.sink.is_alive:
            self.sink.start()
        self._send_rest(say)
        self.sink.end(signal.SIGTERM)
        self._check()
        return self.outcome

    def _kill_sinks(self, sinks: int, done: threading.Event) -> None:
        moments = random.Random(self._random.random())
        while self.outcome.sinks_killed < sinks and not done.wait(moments.uniform(0.2, 3.0)):
            self.sink.end()
            self.outcome.sinks_killed += 1
            done.wait(moments.choice([0.0, 0.0, 1.0]))
            self.sink.start()

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "ENTRENAR_LAKE": str(self.root / "lake"),
            "ENTRENAR_LIVE": str(self.root / "live"),
            "ENTRENAR_OTLP_SAMPLES": self._mode,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.sink.port}",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_TRACES_EXPORTER": "none",
        }

    def _train(self, seconds: float) -> None:
        """A trainer, killed `seconds` after its first step; one in five goes on with the run before."""
        number = self.outcome.trainers
        again = number and self._random.random() < 0.2
        self._runs[number] = self._runs[number - 1] if again else f"run-{number}"
        counter = self.root / f"counter-{number}"
        counter.write_bytes(bytes(4096))
        with counter.open("r+b") as file:
            shared = mmap.mmap(file.fileno(), 4096)
        command = [str(number), str(counter), self._runs[number], str(self._steps)]
        with (self.root / "trainer.err").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", _TRAINER, *command],
                env=self._environment(),
                stderr=errors,
                cwd=ROOT,
            )
        while process.poll() is None and not shared[0]:
            time.sleep(0.01)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            self.outcome.trainers_killed += 1
        process.wait()
        (acknowledged,) = struct.unpack_from("<Q", shared, 0)
        self._acknowledged[number] = acknowledged
        self.outcome.acknowledged += acknowledged
        if not acknowledged and process.returncode > 0:
            self.outcome.unable += 1
            self.outcome.problems.append(f"trainer {number} could not record: see trainer.err")
        self.outcome.trainers += 1

    def _send_rest(self, say: Callable[[str], None]) -> None:
        end = time.monotonic() + _LAST_SECONDS
        while time.monotonic() < end:
            done = subprocess.run(
                [*_COMMAND, "recover", "--send", "--lake", str(self.root / "lake")],
                env=self._environment(),
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=False,
            )
            left = sum(path.suffix in (".seg", ".unsent") for path in (self.root / "live").iterdir())
            say(f"recover --send: {done.returncode}, {left} segments are left")
            if done.returncode == 0 and not left:
                return
            if done.returncode == 2:  # it was not understood
                break
            time.sleep(1.0)
        self.outcome.problems.append(f"not all could be sent: {done.stdout}{done.stderr}")

    def _check(self) -> None:
        from entrenar_otel.lake import Lake

        one = self.outcome
        lake = Lake(self.root / "sink-lake", live=self.root / "no-live")
        rows = lake.query(_ROWS).to_pydict()
        numbers: dict[tuple[str, int, int], int] = {}
        values: dict[tuple[str, int, int], dict[int, list[float]]] = {}
        for run, attempt, metric, step, value in zip(
            *(rows[name] for name in ("run_id", "attempt", "metric", "step", "value")), strict=True
        ):
            if metric == "number":
                numbers[run, attempt, 0] = int(value)
            else:
                values.setdefault((run, attempt, 0), {}).setdefault(step, []).append(value)
        of_number = {numbers[key]: steps for key, steps in values.items() if key in numbers}
        for number, acknowledged in self._acknowledged.items():
            steps = of_number.get(number, {})
            one.arrived += len(steps)
            missing = [i for i in range(acknowledged) if i not in steps]
            one.lost += len(missing)
            one.doubled += sum(len(found) - 1 for found in steps.values())
            one.wrong += sum(
                struct.pack("<d", found[0]) != struct.pack("<d", value_of(number, i))
                for i, found in steps.items()
            )
            beyond = [i for i in steps if i > acknowledged]
            if missing or beyond:
                one.problems.append(
                    f"trainer {number} ({self._runs[number]}): {len(missing)} of {acknowledged} are missing "
                    f"({missing[:3]} …), {len(beyond)} more than were logged"
                )
        one.wrong += len(values) - len(of_number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.otlp_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of trainers, and of sinks (100)")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--mode", choices=["blocks", "events"], default="blocks")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="entrenar-kills-"))
    print(f"seed {options.seed}, in {root}", flush=True)
    kills = Kills(root, options.seed, mode=options.mode)
    outcome = kills.run(options.kills, options.kills, lambda line: print(line, flush=True))
    print(outcome.text())
    for problem in outcome.problems:
        print(f"PROBLEM {problem}")
    if held := not (outcome.problems or outcome.lost or outcome.doubled or outcome.wrong):
        shutil.rmtree(root)
    print("held" if held else f"what it left is in {root}")
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())
