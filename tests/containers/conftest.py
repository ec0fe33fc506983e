"""A Docker engine and images: the machine's and the public ones, or both made here by scripts/."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.collector.process import built

from .compose import Compose, compose_commands

#: To begin, to answer and to end, on a busy machine.
SECONDS = 300


class Docker(NamedTuple):
    """Where the engine is, and the images by docker-compose.yml's variables.

    GRAFANA_IMAGE is there only where it can be pulled.
    """

    host: str
    images: dict[str, str]


@pytest.fixture(scope="session")
def engine() -> Iterator[Docker]:
    """One engine for all; who is the last to use one that was started for tests ends it."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "entrenar/docker/users"
    users.parent.mkdir(parents=True, exist_ok=True)
    with users.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        host = built("docker-engine")
        lines = built("container-images").splitlines()
        yield Docker(host, dict(line.split("=", 1) for line in lines))
    built("docker-engine", "--stop")


@pytest.fixture
def docker(engine: Docker, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """The engine, which this process and its children find."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    for name, image in engine.images.items():
        monkeypatch.setenv(name, image)
    return engine


@pytest.fixture
def until(wait_until: Callable[..., None]) -> Callable[..., None]:
    """Waits until something is true; to ask a container costs more than to ask a function."""
    return partial(wait_until, timeout_seconds=SECONDS, every_seconds=0.5)


@pytest.fixture
def make_project(docker: Docker) -> Iterator[Callable[..., Compose]]:
    """Makes projects, which go with all that is theirs."""
    commands = compose_commands()
    if not commands and not os.environ.get("CI"):
        pytest.skip("CONTAINERS ARE NOT TESTED HERE: install Docker Compose (Debian: docker-compose).")
    made: list[Compose] = []

    def make(**environment: str) -> Compose:
        made.append(Compose(commands[0], **environment))
        return made[-1]

    yield make
    for project in made:
        project("down", "--volumes", "--timeout", "60")
