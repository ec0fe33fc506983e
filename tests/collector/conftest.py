"""Collectors and sinks as processes, which end with the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.otlp_kills import Sink
from tests.faults.conftest import small_disk
from tests.ports import free_port

from .process import Collector
from .process import collector_binary as find_binary
from .prometheus import Prometheus

__all__ = ["small_disk"]  # a fixture of 24 MB


@pytest.fixture(scope="session")
def collector_binary() -> str:
    """Built once for all; who asks meanwhile waits."""
    return find_binary()


@pytest.fixture
def make_collector(collector_binary: str, tmp_path: Path) -> Iterator[Callable[..., Collector]]:
    """Makes a Collector with these configurations; `name` is its folder."""
    made: list[Collector] = []

    def make(name: str, *configs: str | Path, **environment: str) -> Collector:
        made.append(Collector(collector_binary, tmp_path / name, *configs, **environment))
        return made[-1]

    yield make
    for one in made:
        if one.is_alive:
            one.kill()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """A sink that is not started yet; its lake is `sink-lake`."""
    made = Sink(tmp_path)
    made.port = free_port()
    yield made
    if made.is_alive:
        with contextlib.suppress(ProcessLookupError):
            made.end()


@pytest.fixture
def make_prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """Starts a Prometheus of a version, 2 or 3, that scrapes these targets, by the name of their job."""
    made: list[Prometheus] = []

    def make(version: int, targets: dict[str, str] | None = None, *flags: str, rules: str = "") -> Prometheus:
        folder = tmp_path / f"prometheus-{len(made)}"
        made.append(Prometheus(version, folder, targets or {}, *flags, rules=rules))
        return made[-1].start()

    yield make
    for one in made:
        one.end()
