"""The server under the page, over real HTTP: what it serves, what it refuses, and to whom."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from entrenar_otel.prometheus import server

SECONDS = 20.0  # that a test waits at most for what comes at once
parse: Callable[[str], Any] = text_string_to_metric_families
Serving = Callable[..., Any]
Ask = Callable[..., Any]


def test_what_it_serves(serving: Serving, ask: Ask, loss: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """The text, OpenMetrics and gzip for those who take them, and a link to it; it logs nothing."""
    with serving() as page:
        plain = ask(page)
        assert (plain.status, plain.body.endswith(loss)) == (200, True)
        assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert plain.headers["Server"] == "entrenar-otel"
        assert plain.headers["Content-Encoding"] is None
        assert ask(page, "/metrics?x=y").body == plain.body

        for accept in ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "text/*;q=0.1, "
                       "application/openmetrics-text; version=nonsense"):  # fmt: skip
            found = ask(page, Accept=accept)
            assert found.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert [family.name for family in parse(found.body.decode())] == [
                "target",
                "training_loss",
            ]
        for accept in ("*/*", "text/plain", "text/plain,application/openmetrics-text;q=0.2",
                       "application/openmetrics-text;q=0"):  # fmt: skip
            assert ask(page, Accept=accept).body == plain.body

        zipped = ask(page, Accept_Encoding="deflate, gzip;q=0.5")
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(zipped.body) == plain.body
        assert ask(page, Accept_Encoding="gzip;q=0").body == plain.body

        head = ask(page, method="HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(plain.body)))
        assert ask(page, "/").body == b'<a href="/metrics">metrics</a>\n'
    assert capfd.readouterr() == ("", "")


def test_what_it_refuses(serving: Serving, ask: Ask, capfd: pytest.CaptureFixture[str]) -> None:
    """Other paths and methods, requests that are malformed or too long; in plain words, and it goes on."""
    with serving() as page:
        assert ask(page, "/metrics/x").status == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"):
            refused = ask(page, method=method)
            assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
            assert refused.body == b"only GET and HEAD are allowed\n"
        assert ask(page, "/" + "x" * 70_000).status == 414
        assert ask(page, X="y" * 70_000).status == 431
        with socket.create_connection(("127.0.0.1", page.port), SECONDS) as client:
            client.sendall(b"\x16\x03\x01\r\n\r\n")
            assert client.recv(1000) == b"Bad Request\n", "as HTTP/0.9, which it looks like"
        with socket.create_connection(("127.0.0.1", page.port), SECONDS):
            pass
        assert ask(page).status == 200
    assert capfd.readouterr() == ("", "")


def test_token(serving: Serving, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """Right, wrong, missing, of another scheme; it is never logged."""
    with serving(token="sécret") as page:
        right = "sécret".encode().decode("latin-1")
        assert ask(page, Authorization=f"Bearer {right}").status == 200
        for wrong in ("", "Bearer", "Bearer x", f"Bearer {right}x", f"Basic {right}", "Bearer sécret"):
            refused = ask(page, Authorization=wrong)
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert b"training_loss" not in refused.body
        assert ask(page).status == ask(page, "/").status == ask(page, method="HEAD").status == 401
    assert "cret" not in caplog.text


def test_too_many_and_too_slow(
    serving: Serving, ask: Ask, until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight who say nothing leave no room for a ninth; they are cut, and there is room again."""
    monkeypatch.setattr(server.PageServer, "request_seconds", 1.0)
    with serving() as page:
        clients = [
            socket.create_connection(("127.0.0.1", page.port), SECONDS)
            for _ in range(server.PageServer.requests)
        ]
        try:
            for client in clients:
                client.sendall(b"GET /metrics HTTP/1.0\r\n")
            busy = ask(page)
            assert (busy.status, busy.headers["Retry-After"], busy.body) == (503, "1", b"busy\n")
            assert [client.recv(1) for client in clients] == [b""] * len(clients)
        finally:
            for client in clients:
                client.close()
        until(lambda: ask(page).status == 200)
        with socket.create_connection(("127.0.0.1", page.port), SECONDS):
            page.close()
