"""Fleet: a sweep of 200 short runs of eight writers each, through one gateway into one sink.

Each writer is a process with a `Monitor`, forked from one that has imported what the first of them had to,
and logs five values a step. Gateway (gateway.yaml) and sink are processes. Measured are: their CPU time,
of the sink with storing and merging, the files of the lake before and after they are merged, the series that
Prometheus would scrape, and how long after the last writer's end all is in SQL. Every sample is counted.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness import ROOT, Row, temporary
from benchmarks.otlp_kills import Sink
from entrenar_otel.lake import Lake
from tests.collector.process import Collector, collector_binary
from tests.ports import free_port

RUNS, WRITERS, STEPS = 200, 8, 500
#: Runs at a time.
AT_ONCE = 2
#: Values a step, of which the bits of one are compared.
_VALUES = 5
_SECONDS = 500.0
_TABLES = ("metrics", "events", "spans", "runs")


def measure() -> Iterator[Row]:
    with temporary() as folder, Fleet(folder, collector_binary()) as fleet:
        one = fleet.train(RUNS, STEPS, AT_ONCE)
    if not one.is_exact:
        raise RuntimeError(f"not every sample arrived once: {one}")
    writers = RUNS * WRITERS
    requests = sum(one.requests.values())
    told = ", ".join(f"{count:,} of {name}" for name, count in sorted(one.requests.items()))
    for name, spent in (("gateway", one.gateway_seconds), ("sink", one.sink_seconds)):
        yield Row(
            f"fleet: CPU of the {name}, a request",
            None,
            1e3 * spent / requests,
            "ms",
            f"{requests / spent:,.0f} requests/s/core; {requests:,} requests ({told}), "
            f"{one.values:,} values of {writers:,} writers, {spent:.0f} s of CPU",
        )
    yield Row(
        "fleet: all in SQL after the last writer's end",
        None,
        one.in_sql_seconds,
        "s",
        f"the sweep took {one.train_seconds:.0f} s, {AT_ONCE * WRITERS} writers at a time",
    )
    before, after = sum(one.files_before.values()), sum(one.files_after.values())
    told = "; ".join(f"{name} {one.files_before[name]:,} → {one.files_after[name]:,}" for name in _TABLES)
    yield Row(
        "fleet: files in the lake when all is merged",
        None,
        after,
        "files",
        f"{before:,} at most before ({told}); {one.lake_bytes / one.values:.1f} B a value in all",
    )
    yield Row(
        "fleet: series that one writer publishes",
        None,
        sum(one.series.values()) / writers,
        "series",
        f"{sum(one.series.values()):,} in all, of {len(one.series)} metrics",
    )


@dataclass
class Arrived:
    """What a sweep cost, and what of it arrived."""

    values: int
    #: What is missing in the lake, there twice, and not what was logged.
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    train_seconds: float = 0.0
    in_sql_seconds: float = 0.0
    gateway_seconds: float = 0.0
    sink_seconds: float = 0.0
    #: That the sink has acknowledged, by signal.
    requests: Counter[str] = field(default_factory=Counter)
    #: By table: at most while the sweep went on, and when all was merged.
    files_before: Counter[str] = field(default_factory=Counter)
    files_after: Counter[str] = field(default_factory=Counter)
    lake_bytes: int = 0
    #: On the gateway's page, by metric.
    series: Counter[str] = field(default_factory=Counter)

    @property
    def is_exact(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


class Fleet:
    """A gateway before a sink in one folder; as a context, both run."""

    def __init__(self, folder: Path, binary: str) -> None:
        self._folder, self._root = folder, folder / "sink-lake"
        self._page = f"127.0.0.1:{free_port()}"
        self._sink = Sink(folder, self._page)
        self._gateway = Collector(
            binary, folder / "gateway", "gateway.yaml", SINK_ENDPOINT=f"127.0.0.1:{self._sink.port}"
        )

    def __enter__(self) -> Fleet:
        self._sink.start()
        self._gateway.start()
        self._wait(self._has_page)
        return self

    def __exit__(self, *_: object) -> None:
        self._gateway.kill()
        if self._sink.is_alive:
            self._sink.end(signal.SIGTERM)

    def train(self, runs: int, steps: int, at_once: int = AT_ONCE) -> Arrived:
        """Have so many runs recorded, and look at what arrived. Raises RuntimeError where a writer failed."""
        arrived = Arrived(runs * WRITERS * steps * _VALUES)
        begun = time.monotonic()
        launched = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fleet", str(self._folder), *map(str, (runs, steps, at_once))],
            cwd=ROOT,
            env=self._environment(),
        )
        while launched.poll() is None:
            time.sleep(0.5)
            arrived.files_before |= self._files()
        if launched.returncode:
            raise RuntimeError("writers failed, see above")
        self._send_rest()
        ended = time.monotonic()
        arrived.train_seconds = ended - begun
        self._wait(lambda: self._metric("entrenar_sink_samples_total")[""] >= arrived.values)
        arrived.files_before |= self._files()
        self._count(arrived)
        arrived.in_sql_seconds = time.monotonic() - ended
        self._compare(arrived, runs, steps)
        self._wait(lambda: self._files()["metrics"] == runs * WRITERS)
        arrived.files_after = self._files()
        arrived.lake_bytes = sum(path.stat().st_size for path in self._root.rglob("*.parquet"))
        arrived.requests = self._metric("entrenar_sink_requests_total", "signal")
        arrived.gateway_seconds = self._gateway.cpu_seconds()
        arrived.sink_seconds = sum(psutil.Process(self._sink.pid).cpu_times()[:2])
        arrived.series = Counter(one.name for one in self._gateway.samples() if "run_id" in one.labels)
        return arrived

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self._gateway.endpoint,
            "ENTRENAR_OTLP_SAMPLES": "blocks",
            "OMP_NUM_THREADS": "1",
        }

    def _send_rest(self) -> None:
        """What writers have left: each run's live folder is that of another machine."""
        command = [sys.executable, "-m", "entrenar_otel.cli.main", "recover", "--send"]
        for live in (self._folder / "live").iterdir():
            environ = self._environment() | {"ENTRENAR_LIVE": str(live)}
            environ["ENTRENAR_LAKE"] = str(self._folder / "lake")

            def is_sent(live: Path = live, environ: dict[str, str] = environ) -> bool:
                if any(path.suffix in (".seg", ".unsent") for path in live.iterdir()):
                    subprocess.run(command, env=environ, capture_output=True, cwd=ROOT, check=False)
                    return False
                return True

            self._wait(is_sent)

    def _count(self, arrived: Arrived) -> None:
        sql = "SELECT count(*) AS n, count(DISTINCT (run_id, attempt, rank, seq, metric)) AS of FROM metrics"
        ((found, of),) = (row.values() for row in self._lake().query(sql).to_pylist())
        arrived.lost, arrived.doubled = arrived.values - of, found - of

    def _compare(self, arrived: Arrived, runs: int, steps: int) -> None:
        """Bit by bit."""
        lake = self._lake()
        for run in range(runs):
            sql = "SELECT value FROM metrics WHERE metric = 'value' ORDER BY rank, step"
            values = lake.query(sql, run_id=_run_id(run)).column("value").to_numpy()
            expected = [
                _value(run * WRITERS + rank, step) for rank in range(WRITERS) for step in range(steps)
            ]
            if len(values) == len(expected):  # else counted above
                arrived.wrong += int((values.view("u8") != np.array(expected).view("u8")).sum())

    def _lake(self) -> Lake:
        return Lake(self._root, live=self._folder / "none")

    def _files(self) -> Counter[str]:
        found = (path.relative_to(self._root).parts[0] for path in self._root.rglob("*.parquet"))
        return Counter(name for name in found if name in _TABLES)

    def _metric(self, name: str, label: str = "") -> Counter[str]:
        """One of the sink's metrics about itself, by a label."""
        with urllib.request.urlopen(f"http://{self._page}/metrics", timeout=60) as answer:
            page = answer.read().decode()
        return Counter(
            {
                sample.labels.get(label, ""): int(sample.value)
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == name
            }
        )

    def _has_page(self) -> bool:
        with suppress(OSError):
            self._metric("entrenar_sink_samples_total")
            return True
        return False

    @staticmethod
    def _wait(true: Callable[[], bool]) -> None:
        end = time.monotonic() + _SECONDS
        while not true():
            if time.monotonic() > end:
                raise TimeoutError("the fleet did not come to an end")
            time.sleep(0.2)


def _value(writer: int, step: int) -> float:
    """What a writer logs in a step, with all bits in use; finite, so that nothing is abnormal."""
    return writer + 1 / (3 + step)


def _run_id(number: int) -> str:
    return f"sweep-{number:04d}"


def _launch(folder: Path, runs: int, steps: int, at_once: int) -> int:
    """Fork the writers, `at_once` runs at a time; how many failed."""
    going = failed = 0
    for number in range(runs * WRITERS):
        if going == at_once * WRITERS or number == 1:
            failed += bool(os.wait()[1])
            going -= 1
        if number == 1:  # so that no other has to
            for name in (folder / "imported").read_text().split():
                with suppress(ImportError):
                    importlib.import_module(name)
        if (pid := os.fork()) == 0:
            _write(folder, *divmod(number, WRITERS), steps)
        going += bool(pid)
    return failed + sum(bool(os.wait()[1]) for _ in range(going))


def _write(folder: Path, run: int, rank: int, steps: int) -> None:
    """One writer, in a process that ends with it."""
    from entrenar_otel import Monitor
    from entrenar_otel.testing import open_run

    code = 1
    try:
        monitor = Monitor(
            _run_id(run),
            rank=rank,
            world_size=WRITERS,
            model_id="sweep",
            config={"run": run},
            lake=folder / "lake" / _run_id(run),
            live=folder / "live" / _run_id(run),
            settings_file=None,
            quiet=True,
        )
        with monitor:
            open_run(monitor)  # raises where monitoring could not begin
            for step in range(steps):
                monitor.log(
                    step=step,
                    loss=1 / (1 + step),
                    accuracy=step / (1 + step),
                    grad_norm=2 / (1 + step),
                    learning_rate=0.1,
                    value=_value(run * WRITERS + rank, step),
                )
                if step % 100 == 99:
                    time.sleep(0.1)
        if not run and not rank:
            (folder / "imported").write_text(" ".join(set(sys.modules) - {"__main__"}))
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(_launch(Path(sys.argv[1]), *map(int, sys.argv[2:])))
