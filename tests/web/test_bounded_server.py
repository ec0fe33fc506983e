"""Bounded server: it sleeps while nothing comes, and ends at once."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from entrenar_otel.web.background_server import BackgroundServer
from entrenar_otel.web.handler import Handler


class Greeter(Handler):
    def do_GET(self) -> None:
        self.send(HTTPStatus.OK, b"hello\n")


class Counting(BackgroundServer):
    """Counts how often it has looked."""

    looks = 0

    def _cut_overdue(self) -> None:
        self.looks += 1
        super()._cut_overdue()


@pytest.fixture
def server() -> Iterator[Counting]:
    one = Counting("127.0.0.1", 0, Greeter, b"", None)
    one.start()
    yield one
    one.stop()


def _get(server: Counting) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=60) as answer:
        return bytes(answer.read())


def test_asleep_while_nothing_comes(server: Counting, wait_until: Callable[..., None]) -> None:
    assert _get(server) == b"hello\n"
    wait_until(lambda: not server.is_busy)
    time.sleep(1)  # it looks once more after the request, which had a time limit
    before = server.looks
    time.sleep(1.5)
    assert server.looks <= before + 1
    assert _get(server) == b"hello\n"


def test_stops_at_once_while_asleep(server: Counting) -> None:
    thread = server._thread
    assert thread is not None
    server.stop(60)
    assert not thread.is_alive()


def test_a_wake_is_no_request(server: Counting, wait_until: Callable[..., None]) -> None:
    server.wake()
    wait_until(lambda: server.looks > 0)
    assert _get(server) == b"hello\n"


def test_woken_after_its_end(server: Counting) -> None:
    server.stop(60)
    server.wake()
    server.stop_serving()


def test_a_port_that_is_taken_leaves_no_socket(server: Counting) -> None:
    before = threading.active_count()
    with pytest.raises(OSError, match="in use"):
        Counting("127.0.0.1", server.port, Greeter, b"", None)  # an open socket would be a ResourceWarning
    assert threading.active_count() == before


def test_stopped_without_a_wait(wait_until: Callable[..., None]) -> None:
    for _ in range(20):  # an exception on its thread would fail the test
        one = Counting("127.0.0.1", 0, Greeter, b"", None)
        one.start()
        one.stop(0)
        thread = one._thread
        assert thread is not None
        wait_until(lambda thread=thread: not thread.is_alive())
