"""A page over real HTTP, and a client that asks it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from entrenar_otel.prometheus.page import MetricsPage

LOSS = b'training_loss{run_id="r",rank="0",split="val"} 0.5\n'
SECONDS = 20.0  # that a test waits at most for what comes at once


def collected() -> MetricsData:
    """One point of a loss, whose line in the text is LOSS."""
    point = NumberDataPoint({"split": "val"}, 0, 1, 0.5)
    scopes = [
        ScopeMetrics(InstrumentationScope("s"), [Metric("training.loss", "Loss", "", Gauge([point]))], "")
    ]
    resource = Resource({"training.run.id": "r", "training.process.rank": 0})
    return MetricsData([ResourceMetrics(resource, scopes, "")])


@contextmanager
def _serving(collect: Callable[[], MetricsData | None] = collected, **settings: Any) -> Iterator[MetricsPage]:
    page = MetricsPage(collect, port=0, **settings)
    assert page.start()
    try:
        yield page
    finally:
        page.close()


def ask_page(page: MetricsPage, path: str = "/metrics", method: str = "GET", **headers: str) -> Any:
    """The answer, read, with its body as an attribute."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=SECONDS)
    try:
        connection.request(
            method, path, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer: Any = connection.getresponse()
        answer.body = answer.read()
        return answer
    finally:
        connection.close()


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def loss() -> bytes:
    """The line of the text that `data` makes."""
    return LOSS


@pytest.fixture
def data() -> MetricsData:
    """One point of a loss."""
    return collected()


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[MetricsPage]]:
    """Opens a page, by default of `data`, for the time of a block."""
    return _serving


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Asks a page: path, method, headers; gives the answer, with its `body` read."""
    return ask_page


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Waits for a condition."""
    return _until
