"""The OpenTelemetry Collector as a process on free ports of loopback, started again on the same ones."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "collector-config"
#: To begin, to answer, to end, on a busy machine.
SECONDS = 120.0


def built(script: str, *arguments: str) -> str:
    """The path that a script prints of what it builds once; skips where it cannot be built, but not in CI."""
    command = [str(ROOT / "scripts" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 3 and not os.environ.get("CI"):
        pytest.skip(f"NOT TESTED HERE: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def collector_binary() -> str:
    return built("collector")


class Collector:
    """A Collector with these files of collector-config/, or others by their path, and a queue in `folder`."""

    def __init__(self, binary: str, folder: Path, *configs: str | Path, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._binary = folder, binary
        self._configs = [str(CONFIGS / one) for one in configs]
        self.ports = {name: free_port() for name in ("GRPC", "HTTP", "HEALTH", "PROMETHEUS")}
        self.self_port = free_port()
        self.queue = folder / "queue"
        self._environment = {
            **{f"COLLECTOR_{name}": f"127.0.0.1:{port}" for name, port in self.ports.items()},
            "COLLECTOR_SELF_PORT": str(self.self_port),
            "COLLECTOR_QUEUE": str(self.queue),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it takes OTLP by gRPC."""
        return f"127.0.0.1:{self.ports['GRPC']}"

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    @property
    def log(self) -> str:
        """All that it has said."""
        path = self.folder / "collector.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, *, wait: bool = True, **environment: str) -> Collector:
        """Start it, with what it is told this time; returns when it is healthy, unless `wait` is false."""
        assert not self.is_alive
        self._environment |= environment
        command = [self._binary, *(word for one in self._configs for word in ("--config", one))]
        with (self.folder / "collector.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=os.environ | self._environment, stdout=log, stderr=log
            )
        end = time.monotonic() + SECONDS
        while wait and not self.is_healthy():
            assert self.is_alive, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.02)
        return self

    def is_healthy(self) -> bool:
        """Whether its pipelines run."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.ports['HEALTH']}", timeout=5).close()
            return True
        return False

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def samples(self) -> list[Sample]:
        """What Prometheus scrapes: of the metrics that were sent to it."""
        page = self._page(self.ports["PROMETHEUS"])
        return [sample for family in text_string_to_metric_families(page) for sample in family.samples]

    def own_metric(self, name: str, **labels: str) -> float:
        """One of its metrics about itself, by the name on its page, over all series with these labels."""
        found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", self._page(self.self_port), flags=re.M)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(float(value) for given, value in found if wanted <= set(given.split(",")))

    def _page(self, port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def cpu_seconds(self) -> float:
        """The CPU time that it has taken so far."""
        assert self.process is not None
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
