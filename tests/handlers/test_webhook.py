"""Webhook: what it sends, to whom it sends it again, and that its secrets stay its own."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.errors import DeliveryError
from entrenar_otel.handlers import Deliveries, Notice, Webhook
from entrenar_otel.handlers.payload import fingerprint

SECONDS = 20.0
LABELS = {
    "alertname": "spike",
    "level": "WARNING",
    "metric": "loss",
    "model_id": "digits",
    "rank": "0",
    "run_id": "r1",
    "severity": "warning",
    "source": "spike",
    "split": "train",
    "team": "vision",
}
ANNOTATIONS = {
    "attempt": "2",
    "batch": "17",
    "description": "ALERT spike WARNING: Loss spike (epoch 3, batch 17, step 40)",
    "epoch": "3",
    "expected": "1.02",
    "host": "node7",
    "incident": "https://lake.example.com/incidents/1",
    "lake": "/data/lake",
    "runbook_url": "https://wiki.example.com/spike",
    "score": "6.5",
    "step": "40",
    "summary": "Loss spike",
    "value": "3.21",
}


def test_the_whole_body(server: Any, notice_of: Callable[..., Notice]) -> None:
    """Version 4 of Alertmanager's webhook JSON."""
    notice = notice_of(
        incident="https://me:pw@lake.example.com/incidents/1?token=SECRET",
        labels={"team": "vision"},
        annotations={"runbook_url": "https://wiki.example.com/spike"},
    )
    Webhook(f"{server.url}/hook").handle(notice)
    (request,) = server.requests
    assert request.path == "/hook"
    assert request.headers["Content-Type"] == "application/json"
    assert request.json == {
        "version": "4",
        "groupKey": '{}:{alertname="spike", level="WARNING", metric="loss", model_id="digits", rank="0", '
        'run_id="r1", severity="warning", source="spike", split="train", team="vision"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "entrenar-otel",
        "groupLabels": LABELS,
        "commonLabels": LABELS,
        "commonAnnotations": ANNOTATIONS,
        "externalURL": "",
        "alerts": [
            {
                "status": "firing",
                "labels": LABELS,
                "annotations": ANNOTATIONS,
                "startsAt": "2026-01-02T03:04:05.123Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "https://lake.example.com/incidents/1",
                "fingerprint": fingerprint(LABELS),
            }
        ],
    }


def test_the_end(server: Any, notice_of: Callable[..., Notice]) -> None:
    """The same labels, so the same fingerprint, though value and place are others; a key of its own."""
    hook = Webhook(server.url)
    began = notice_of()
    hook.handle(began)
    hook.handle(notice_of(ended_ns=began.alert.started_ns + 5 * 10**9, value=9.0, peak=4.0, count=7))
    first, last = (one.json for one in server.requests)
    assert (last["status"], last["alerts"][0]["status"]) == ("resolved", "resolved")
    assert last["alerts"][0]["endsAt"] == "2026-01-02T03:04:10.123Z"
    assert last["alerts"][0]["fingerprint"] == first["alerts"][0]["fingerprint"]
    assert last["groupKey"] == first["groupKey"]
    assert len({one.headers["Idempotency-Key"] for one in server.requests}) == 2


def test_again_until_it_is_accepted(server: Any, notice_of: Callable[..., Notice]) -> None:
    """503, 429, a cut connection: the same bytes and the same key each time; Retry-After is kept."""
    server.answers = [(503, {"Retry-After": "2"}), (429, {}), "close", (202, {})]
    begun = time.monotonic()
    Webhook(server.url).handle(notice_of())
    assert time.monotonic() - begun > 2
    assert len(server.requests) == 4
    assert len({(one.body, one.headers["Idempotency-Key"]) for one in server.requests}) == 1


@pytest.mark.parametrize(
    ("answer", "told", "least"),
    [
        ((500, {}), "answered 500 Internal Server Error", 2),
        ((503, {"Retry-After": "3600"}), "answered 503 Service Unavailable", 1),
        ("close", "cannot be reached: RemoteProtocolError", 2),
        ("hang", "cannot be reached: ReadTimeout|did not answer within", 1),
    ],
)
def test_for_ever(answer: Any, told: str, least: int, server: Any, notice_of: Callable[..., Notice]) -> None:
    """What never gets better ends at the deadline."""
    server.answers = [answer]
    hook = Webhook(f"{server.url}/SECRET", timeout_seconds=0.5, deadline_seconds=2)
    with pytest.raises(DeliveryError, match=told):
        hook.handle(notice_of())
    assert len(server.requests) >= least


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (400, "answered 400 Bad Request: refused, so not sent again"),
        (401, "answered 401 Unauthorized"),
        (404, "answered 404 Not Found"),
        (499, "answered 499:"),
    ],
)
def test_refused(status: int, told: str, server: Any, notice_of: Callable[..., Notice]) -> None:
    """Sent once; the message has the status."""
    server.answers = [(status, {})]
    with pytest.raises(DeliveryError, match=told):
        Webhook(server.url).handle(notice_of())
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(
    status: int, server: Any, other_server: Any, notice_of: Callable[..., Notice]
) -> None:
    """An alert goes nowhere but where it was told to; the message says where that would have been."""
    server.answers = [(status, {"Location": f"{other_server.url}/SECRET"})]
    with pytest.raises(DeliveryError, match=rf" to {other_server.url}: redirects are not followed") as caught:
        Webhook(server.url).handle(notice_of())
    assert "SECRET" not in str(caught.value)
    assert not other_server.requests


def test_tls_with_a_server_that_speaks_none(server: Any, notice_of: Callable[..., Notice]) -> None:
    """The error names host and port, not the path."""
    hook = Webhook(server.url.replace("http:", "https:") + "/SECRET", deadline_seconds=1)
    with pytest.raises(
        DeliveryError, match=r"https://127\.0\.0\.1:\d+ cannot be reached: ConnectError"
    ) as caught:
        hook.handle(notice_of())
    assert "SECRET" not in str(caught.value)


def test_nobody_listens(server: Any, notice_of: Callable[..., Notice]) -> None:
    """The error says that the connection was refused."""
    url = server.url
    server.close()
    with pytest.raises(DeliveryError, match=r"cannot be reached: ConnectError: .*refused"):
        Webhook(url, deadline_seconds=1).handle(notice_of())


def test_signed_as_github_does(
    server: Any, monkeypatch: pytest.MonkeyPatch, notice_of: Callable[..., Notice]
) -> None:
    """A receiver that knows the secret checks the bytes it got."""
    monkeypatch.setenv("ENTRENAR_WEBHOOK_SECRET", "s3cret")
    monkeypatch.setenv("ENTRENAR_WEBHOOK_TOKEN", "t0ken")
    Webhook(server.url, headers={"X-Team": "vision"}).handle(notice_of())
    (request,) = server.requests
    wanted = hmac.new(b"s3cret", request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Entrenar-Signature"] == f"sha256={wanted}"
    assert request.headers["Authorization"] == "Bearer t0ken"
    assert request.headers["X-Team"] == "vision"
    assert b"s3cret" not in request.body


def test_secrets_are_in_no_log_and_no_error(
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    notice_of: Callable[..., Notice],
) -> None:
    """Whatever the outcome, at DEBUG, with every library's loggers: only scheme://host."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ENTRENAR_WEBHOOK_SECRET", "SECRET1")
    monkeypatch.setenv("ENTRENAR_WEBHOOK_TOKEN", "SECRET2")
    monkeypatch.setenv("ENTRENAR_WEBHOOK_URL", f"http://127.0.0.1:{server.port}/SECRET3?k=SECRET4")
    with_password = Webhook(f"http://me:SECRET5@127.0.0.1:{server.port}/SECRET6", deadline_seconds=1)
    hook = Webhook(deadline_seconds=1)
    texts = [repr(hook), repr(with_password)]
    answers: list[Any] = [(200, {}), (500, {}), (404, {}), "close"]
    for answer in answers:
        server.answers = [answer]
        for one in (hook, with_password):
            try:
                one.handle(notice_of())
            except DeliveryError as error:
                texts.append("".join(traceback.format_exception(error)))
                texts.append(f"{error.__context__!r} {error.__cause__!r}")
            deliveries = Deliveries([one])
            deliveries.send(notice_of())
            assert deliveries.close(SECONDS) == []
    assert {one.path for one in server.requests} == {"/SECRET3?k=SECRET4", "/SECRET6"}
    assert "SECRET" not in "".join(texts)
    assert "SECRET" not in caplog.text
    assert f"http://127.0.0.1:{server.port} answered 404 Not Found" in caplog.text


def test_httpx_still_logs_for_others(server: Any, caplog: pytest.LogCaptureFixture, notice_of: Any) -> None:
    """Only our own requests are kept from its logger."""
    import httpx

    caplog.set_level(logging.INFO)
    Webhook(server.url).handle(notice_of())
    assert not caplog.records
    httpx.post(f"{server.url}/theirs")
    assert "/theirs" in caplog.text
