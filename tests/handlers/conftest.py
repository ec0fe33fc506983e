"""Alerts to send, and real HTTP servers that answer, refuse, hang up or never answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from entrenar_processors import Series
from entrenar_processors.alert import Action, Alert, Level
from entrenar_processors.finding import Coordinates

from entrenar_otel.handlers import Notice, RunInfo

STARTED_NS = 1_767_323_045_123_000_000  # 2026-01-02T03:04:05.123Z
SECONDS = 20.0  # that a test waits at most for what comes at once
RUN = RunInfo("r1", attempt=2, rank=0, world_size=4, model_id="digits", lake="/data/lake", host="node7")


def _alert_of(name: str = "spike", **changes: Any) -> Alert:
    known: dict[str, Any] = {
        "source": "spike",
        "level": Level.WARNING,
        "action": Action.NOTIFY,
        "summary": "Loss spike",
        "episode": "1",
        "started_ns": STARTED_NS,
        "at": Coordinates(time_ns=STARTED_NS, epoch=3, batch=17, step=40, seq=41),
        "series": Series("loss", (("split", "train"),)),
        "value": 3.21,
        "expected": 1.02,
        "score": 6.5,
    }
    return Alert(name, **{**known, **changes})


def _notice_of(
    name: str = "spike", *, run: RunInfo = RUN, incident: str | None = None, **changes: Any
) -> Notice:
    return Notice(_alert_of(name, **changes), run, incident)


def _wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


class Request(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """Keeps what it is sent. `answers` are taken one after another, the last one for ever: a status with
    headers, or "close" (the connection, without an answer), or "hang".
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, dict[str, str]] | str] = [(200, {})]
        self.gate = threading.Event()
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.requests.append(Request(self.path, dict(self.headers.items()), body))
                answer = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                if answer == "hang":
                    outer.gate.wait(60)
                if isinstance(answer, str):
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                for name, value in answer[1].items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def other_server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own: no proxies, no pagers."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("WEBHOOK_URL", "WEBHOOK_SECRET", "WEBHOOK_TOKEN", "ALERTMANAGER_URL", "APPRISE_URLS"):
        monkeypatch.delenv(f"ENTRENAR_{name}", raising=False)


@pytest.fixture
def alert_of() -> Callable[..., Alert]:
    """Makes an alert of a loss spike at 2026-01-02T03:04:05.123Z, with what is given changed."""
    return _alert_of


@pytest.fixture
def notice_of() -> Callable[..., Notice]:
    """The same, with its run."""
    return _notice_of


@pytest.fixture
def wait_until() -> Callable[..., None]:
    return _wait_until
