"""Exchange: a request ends in time, whatever the other side does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from entrenar_otel.delivery.exchange import Exchange
from entrenar_otel.errors import DeliveryError
from entrenar_otel.handlers import Alertmanager, Apprise, Notice, Webhook

FOREVER = 1000.0  # what would be waited for without a deadline
SECONDS = 100.0  # in which a deadline of some seconds must have come, on any machine


class Dripping:
    """A server that answers with a byte every twentieth of a second, and never ends its head."""

    def __init__(self) -> None:
        self.is_closed = threading.Event()
        self.hung_up = threading.Event()
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self.is_closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._drip, args=(connection,), daemon=True).start()

    def _drip(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while not self.is_closed.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                self.hung_up.set()

    def close(self) -> None:
        self.is_closed.set()
        self._socket.close()


@pytest.fixture
def dripping() -> Iterator[Dripping]:
    made = Dripping()
    yield made
    made.close()


@pytest.mark.parametrize("kind", [Webhook, Alertmanager])
@pytest.mark.parametrize("timeout_seconds", [0.5, FOREVER], ids=["many attempts", "one attempt"])
def test_a_server_that_drips(
    dripping: Dripping, notice_of: Callable[..., Notice], kind: Any, timeout_seconds: float
) -> None:
    """Every byte comes within its timeout, the answer never: the alert fails at its deadline."""
    handler = kind(f"http://127.0.0.1:{dripping.port}", timeout_seconds=timeout_seconds, deadline_seconds=6.0)
    begun = time.monotonic()
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1:\d+ (did not answer within|cannot be reached)"):
        handler.handle(notice_of())
    assert time.monotonic() - begun < SECONDS
    assert dripping.connections == 1 if timeout_seconds == FOREVER else dripping.connections > 1
    assert dripping.hung_up.wait(SECONDS), "the connection stays open"


def test_a_service_of_apprise_that_drips(dripping: Dripping, notice_of: Callable[..., Notice]) -> None:
    """The same; what cannot be cut is not begun a second time while it hangs."""
    handler = Apprise(f"json://127.0.0.1:{dripping.port}/", deadline_seconds=1.0)
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(DeliveryError, match="not delivered to json://"):
            handler.handle(notice_of())
        assert time.monotonic() - begun < SECONDS
    assert dripping.connections == 1


def test_results_and_errors() -> None:
    """They come back as they are, from a thread that has the caller's context."""
    variable: ContextVar[str] = ContextVar("variable", default="")
    variable.set("here")
    assert Exchange(SECONDS).run(variable.get) == "here"
    with pytest.raises(ZeroDivisionError):
        Exchange(SECONDS).run(lambda: 1 / 0)


def test_what_hangs_is_left_behind() -> None:
    """The caller goes on in time; what comes late is nobody's."""
    gate = threading.Event()
    exchange = Exchange(0.05)
    with pytest.raises(TimeoutError):
        exchange.run(lambda: gate.wait(SECONDS))
    assert exchange.is_hanging
    gate.set()
    deadline = time.monotonic() + SECONDS
    while exchange.is_hanging:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.12 at its end: the request is made all the same."""

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Exchange(SECONDS).run(lambda: "answer") == "answer"
