"""A real Prometheus, Debian's 2 or a 3, as a process that scrapes once a second, asked over its API."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.ports import free_port

from .process import SECONDS, built

#: A series: its labels, the name among them.
Labels = frozenset[tuple[str, str]]


def prometheus_binary(version: int) -> str:
    """The path of the program; skips where there is none, but not in CI."""
    if version == 3:
        return built("test-program", "prometheus3")
    found = shutil.which("prometheus")
    if found is None and not os.environ.get("CI"):
        pytest.skip("NOT TESTED HERE: Prometheus 2: apt-get install prometheus")
    assert found is not None, "apt-get install prometheus"
    return found


class Api:
    """Questions to the Prometheus that listens there."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=SECONDS)

    def close(self) -> None:
        self._client.close()

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of an answer of its API."""
        answer = self._client.get(f"/api/v1/{path}", params=arguments)
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def query(self, expression: str, **more: str) -> dict[Labels, str]:
        """The series that an expression comes to now, and their values as text: NaN is NaN then."""
        result = self.ask("query", query=expression, **more)["result"]
        return {frozenset(one["metric"].items()): one["value"][1] for one in result}

    def firing(self, alert: str) -> set[str]:
        """The runs that an alert fires for; for one that is of no run, the instances."""
        found = self.query(f'ALERTS{{alertname="{alert}",alertstate="firing"}}')
        return {(of := dict(labels)).get("run_id", of.get("instance", "")) for labels in found}

    def value(self, expression: str) -> float | None:
        """What an expression comes to that has one series at most; none where it has none."""
        found = list(self.query(expression).values())
        assert len(found) <= 1, (expression, found)
        return float(found[0]) if found else None


class Prometheus(Api):
    """A Prometheus that scrapes `targets`, by the name of their job, which is the label `route`.

    A job of several targets has a comma between them; `rules` is the text of a file of rules.
    """

    def __init__(
        self, version: int, folder: Path, targets: dict[str, str], *flags: str, rules: str = ""
    ) -> None:
        super().__init__(f"127.0.0.1:{free_port()}")
        folder.mkdir()
        self._folder, self._binary, self._flags = folder, prometheus_binary(version), flags
        jobs = [
            {
                "job_name": name,
                "honor_labels": True,
                "static_configs": [{"targets": target.split(","), "labels": {"route": name}}],
            }
            for name, target in targets.items()
        ]
        config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
        if rules:
            (folder / "rules.yml").write_text(rules)
            config["rule_files"] = ["rules.yml"]
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Prometheus:
        """Start it; returns when it answers."""
        command = [self._binary, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]
        path = self._folder / "prometheus.log"
        with path.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address={self.address}", *self._flags],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, path.read_text()
            assert time.monotonic() < end, path.read_text()
            time.sleep(0.05)
        return self

    def _is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").is_success
        except httpx.TransportError:
            return False

    def end(self) -> None:
        self.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)


class Both:
    """A Prometheus 2 and a 3, which see the same."""

    def __init__(self, asked: Sequence[Prometheus]) -> None:
        self.asked = asked

    def finds(self, expression: str, count: int) -> None:
        """Wait until each finds so many series by it."""
        for one in self.asked:
            _until(partial(one.query, expression), lambda found: len(found) == count, expression)

    def has(self, expression: str, value: float) -> None:
        """Wait until it comes to that in each."""
        for one in self.asked:
            _until(partial(one.value, expression), lambda found: found == value, expression)

    def fires(self, alert: str, *of: str) -> None:
        """Wait until it fires for these runs or instances, and for no others."""
        for one in self.asked:
            _until(partial(one.firing, alert), lambda found: found == {*of}, alert)


def _until(ask: Callable[[], Any], is_right: Callable[[Any], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while not is_right(found := ask()):
        assert time.monotonic() < end, f"{what}: {found}"
        time.sleep(0.1)
