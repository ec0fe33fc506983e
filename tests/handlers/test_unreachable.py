"""Proxies, certificates and names that stand in the way: only of the URLs they concern, and named."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.errors import DeliveryError
from entrenar_otel.handlers import Deliveries, Webhook
from entrenar_otel.handlers import endpoint as module

DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_PROXY": DEAD},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"HTTPS_PROXY": "socks5h://127.0.0.1:9", "NO_PROXY": "::1,[fe80::1]"},
        {"NO_PROXY": "::1,127.0.0.0/8,[::1]:80"},
        {"SSL_CERT_FILE": "/nowhere.pem"},
        {"SSL_CERT_DIR": "/nowhere"},
        {"HTTP_PROXY": "nonsense://x"},
    ],
)
def test_what_does_not_concern_a_receiver_does_not_break_it(
    server: Any, notice_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    Webhook(server.url).handle(notice_of())
    assert len(server.requests) == 1


def test_a_proxy_that_does_concern_it_is_asked(
    server: Any, notice_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    Webhook("http://host.invalid/path").handle(notice_of())
    assert server.requests[0].path == "http://host.invalid/path"


@pytest.mark.parametrize(
    ("url", "environ", "told"),
    [
        ("http://h.invalid/", {"HTTP_PROXY": DEAD}, r"through the proxy http://127.0.0.1:9 \(HTTP_PROXY\)"),
        ("http://h.invalid/", {"ALL_PROXY": "socks5://me:SECRET@p:1"}, "ALL_PROXY names the proxy socks5"),
        ("http://h.invalid/", {"HTTP_PROXY": "odd://me:SECRET@p:1"}, "HTTP_PROXY names the proxy odd"),
        ("https://h.invalid/", {"SSL_CERT_FILE": "/no.pem"}, "of SSL_CERT_FILE=/no.pem cannot be read"),
    ],
)
def test_a_failure_names_the_variable(
    notice_of: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environ: dict[str, str],
    told: str,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DeliveryError, match=told) as caught:
        Webhook(url, deadline_seconds=0.5, timeout_seconds=0.2).handle(notice_of())
    assert "SECRET" not in str(caught.value)


def test_what_will_fail_again_is_not_retried(
    server: Any, notice_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without TLS, and a name that does not exist; each would take a minute."""
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="cannot be reached"):
        Webhook(server.url.replace("http:", "https:")).handle(notice_of())

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DeliveryError, match="Name or service not known"):
        Webhook("http://host.invalid/").handle(notice_of())
    assert time.monotonic() - began < 40


def test_an_untrusted_certificate_is_not_retried(notice_of: Callable[..., Any], tls_server: str) -> None:
    began = time.monotonic()
    with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
        Webhook(tls_server).handle(notice_of())
    assert time.monotonic() - began < 40


def test_a_name_server_that_does_not_answer_is_asked_for_some_seconds(
    notice_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NAME_SECONDS", 0.6)
    asked = []

    def silent(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(DeliveryError, match="Temporary failure in name resolution"):
        Webhook("http://host.invalid/").handle(notice_of())
    assert 1 <= len(asked) <= 3


def test_one_that_is_left_behind_has_its_reason(
    server: Any, notice_of: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    """It is being tried again when a short run ends: it is said why."""
    server.answers = [(503, {})]
    webhook = Webhook(server.url)
    deliveries = Deliveries([webhook])
    deliveries.send(notice_of())
    wait_until(lambda: webhook.problem)
    (left,) = deliveries.close(0.1)
    assert left.startswith("webhook (http://127.0.0.1")
    assert "503 Service Unavailable" in left


@pytest.fixture
def tls_server(server: Any, tmp_path: Path) -> str:
    """Its certificate is its own."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    made = subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], capture_output=True)
    if made.returncode:
        pytest.skip("AN UNTRUSTED CERTIFICATE IS NOT TESTED HERE: openssl is missing")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    server._server.handle_error = lambda *_: None
    return str(server.url.replace("http:", "https:"))
