"""Lakes with runs to look at, and a page that serves them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.page.answers import Answers
from entrenar_otel.page.server import PageServer
from entrenar_otel.page.settings import PageSettings
from entrenar_otel.web.address import Address
from tests.page.chromium import BINARY, Browser

#: Everything that a name must not do.
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">&amp;'\"`"
)


def record(run_id: str, lake: str = "lake", *, steps: int = 60, ends: bool = True, **config: Any) -> Monitor:
    """A run of six epochs whose loss falls, and rises again where `diverges` is set."""
    diverges = config.get("diverges", False)
    monitor = Monitor(run_id, lake=lake, quiet=True, config=config, processors=[]).start()
    for step in range(steps):
        loss = 2.0 * math.exp(-step / 20) + 0.1 * math.cos(step)
        if diverges and step > 40:
            loss *= 1.5 ** (step - 40)
        where = {"epoch": step // 10, "batch": step % 10, "step": step}
        monitor.log(**where, loss=loss, accuracy=1 / (1 + loss))
    if ends:
        monitor.close()
    return monitor


@pytest.fixture
def lake() -> Lake:
    """Three runs: one with a hostile name, and settings of that kind."""
    record("first", lr=0.1)
    record("second", lr=0.2, note=HOSTILE)
    record(HOSTILE, lr=0.3, clip=math.inf)
    return Lake("lake")


class Reply(NamedTuple):
    """What the page answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Asks a page as a browser would."""

    def __init__(self, server: PageServer) -> None:
        self.server = server
        self.port = server.address.port
        self.url = f"http://127.0.0.1:{self.port}"

    def __call__(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()


Serve = Callable[..., Client]
Cli = Callable[..., Any]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts pages: of a lake, with settings."""
    servers: list[PageServer] = []

    def start(lake: Lake | str | Path = "lake", **settings: Any) -> Client:
        lake = lake if isinstance(lake, Lake) else Lake(lake)
        server = PageServer(Answers(lake), PageSettings(Address("127.0.0.1", 0), **settings))
        server.start()
        servers.append(server)
        return Client(server)

    yield start
    for server in servers:
        server.answers.runs.wait()
        server.stop()


@pytest.fixture
def browser() -> Iterator[Browser]:
    """A window of its own."""
    if BINARY is None:
        pytest.skip("NOT TESTED HERE: the page in a browser, there is no chromium")
    one = Browser()
    yield one
    one.close()
