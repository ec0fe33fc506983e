"""ASGI: every request is measured once, with its version, status and failure, and passed on as it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import httpx
import pytest

from entrenar_otel.serving import MetricsExporter, ModelMetrics
from entrenar_otel.serving.asgi import Message, Receive, Scope, Send


@pytest.fixture
def exporter() -> Iterator[MetricsExporter]:
    with MetricsExporter("digits@1.2.0", endpoint="127.0.0.1:0") as made:
        yield made


async def predict(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers as its path says."""
    if scope["type"] == "lifespan":
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        return
    if scope["path"] == "/raise":
        raise ValueError("no such digit")
    if scope["path"] == "/b":
        scope["state"]["model_version"] = "1.3.0"
    status = 503 if scope["path"] == "/busy" else 404 if scope["path"] == "/missing" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b"7", "more_body": True})
    await send({"type": "http.response.body", "body": b"8"})


def counts(exporter: MetricsExporter) -> dict[str, int]:
    """Requests by what is said of them."""
    found = re.findall(r"http_server_request_duration_seconds_count\{(.*)\} (\d+)", exporter.text())
    return {labels.partition('version="1.2.0",')[2]: int(count) for labels, count in found}


def test_requests(exporter: MetricsExporter) -> None:
    app = ModelMetrics(predict, exporter)

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            for path in ("/a", "/a", "/b", "/busy", "/missing"):
                assert (await client.get(path)).text == "78"
            await client.request("BREW", "/a")
            with pytest.raises(ValueError, match="no such digit"):
                await client.post("/raise")

    asyncio.run(ask())

    def labels(method: str, status: int | None, version: str = "1.2.0", error: str = "") -> str:
        texts = [f'error_type="{error}"'] if error else []
        texts.append(f'http_request_method="{method}"')
        texts += [] if status is None else [f'http_response_status_code="{status}"']
        return ",".join([*texts, f'training_model_version="{version}"'])

    assert {frozenset(known.split(",")): count for known, count in counts(exporter).items()} == {
        frozenset(labels("GET", 200).split(",")): 2,
        frozenset(labels("GET", 200, "1.3.0").split(",")): 1,
        frozenset(labels("GET", 503, error="503").split(",")): 1,
        frozenset(labels("GET", 404).split(",")): 1,
        frozenset(labels("_OTHER", 200).split(",")): 1,
        frozenset(labels("POST", None, error="ValueError").split(",")): 1,
    }


def test_what_is_no_request_is_passed_on(exporter: MetricsExporter) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(ModelMetrics(predict, exporter)({"type": "lifespan"}, receive, send))
    assert sent == [{"type": "lifespan.startup.complete"}]
    assert counts(exporter) == {}


def test_a_request_that_is_given_up(exporter: MetricsExporter) -> None:
    """A client that goes away cancels it: that is measured, and goes on."""

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        async def nothing() -> Message:
            return {}

        async def drop(message: Message) -> None:
            pass

        task = asyncio.create_task(
            ModelMetrics(never, exporter)({"type": "http", "method": "GET"}, nothing, drop)
        )
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    ((labels, count),) = counts(exporter).items()
    assert 'error_type="CancelledError"' in labels
    assert count == 1
