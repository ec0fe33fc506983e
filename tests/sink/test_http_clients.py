"""Who may send over HTTP, how, and for how long: lengths that lie, slow clients, tokens, backpressure."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from google.protobuf import json_format

from entrenar_otel.errors import ConfigError
from entrenar_otel.sink import http_server as module
from entrenar_otel.sink.http_server import HttpServer
from entrenar_otel.sink.request_log import Signal
from tests.sink.conftest import a_request, kept, status_of

DATA = a_request().SerializeToString()


def test_paths_and_methods(post: Any, http_server: Any) -> None:
    url = f"http://127.0.0.1:{http_server.port}"
    assert post(DATA, "/v1/log").status_code == 404
    assert httpx.get(f"{url}/").status_code == 404
    assert httpx.get(f"{url}/v1/logs").status_code == 405
    assert httpx.put(f"{url}/v1/logs", content=DATA).status_code == 405
    assert httpx.get(f"{url}/metrics").text == "# the metrics\n"
    assert (httpx.get(f"{url}/healthz").status_code, httpx.get(f"{url}/healthz").text) == (200, "ok\n")


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -5",
        b"Content-Length: 1e3",
        b"Content-Length: \xb2",
        b"Content-Length: " + b"9" * 4000,
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n",
        b"X: y",
    ],
)
def test_lengths_that_lie(http_server: Any, log: Any, head: Any) -> None:
    with socket.create_connection(("127.0.0.1", http_server.port), 60) as client:
        client.sendall(
            b"POST /v1/logs HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n" + head + b"\r\n\r\n"
        )
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status in (400, 413)
    assert kept(log) == []


def test_a_client_that_hangs_up_in_mid_request_leaves_nothing(
    http_server: Any, log: Any, post: Any, receiver: Any
) -> None:
    with socket.create_connection(("127.0.0.1", http_server.port), 60) as client:
        client.sendall(
            b"POST /v1/logs HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n"
            b"Content-Length: 1000\r\n\r\n" + DATA
        )
    assert post(DATA).status_code == 200
    while http_server.is_busy:
        time.sleep(0.01)
    assert (kept(log), receiver._in_flight_bytes) == ([(Signal.LOGS, DATA)], 0)


def test_slow_clients_are_cut_and_the_others_served(receiver: Any, log: Any) -> None:
    class Quick(HttpServer):
        requests, request_seconds, read_seconds = 4, 1.0, 60.0

    server = Quick(receiver, "127.0.0.1", 0)
    server.start()
    clients = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(4)]
    try:
        for client in clients:
            client.sendall(
                b"POST /v1/logs HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n"
                b"Content-Length: 100\r\n\r\n"
            )
        for client in clients:
            client.recv(1000)  # returns when it is cut
        answer = httpx.post(
            f"http://127.0.0.1:{server.port}/v1/logs",
            content=DATA,
            headers={"Content-Type": "application/x-protobuf"},
        )
        assert answer.status_code == 200
    finally:
        for client in clients:
            client.close()
        server.stop(5)


def test_a_token(receiver: Any, log: Any) -> None:
    server = HttpServer(receiver, "127.0.0.1", 0, token=b"s3cret", metrics=lambda: "secret")
    server.start()
    url = f"http://127.0.0.1:{server.port}"
    try:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            answer = httpx.post(
                f"{url}/v1/logs", content=DATA, headers={"Content-Type": "application/x-protobuf"} | headers
            )
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert status_of(answer).code == 16
            assert httpx.get(f"{url}/metrics", headers=headers).status_code == 401
        assert httpx.get(f"{url}/healthz").status_code == 200  # for whoever restarts it
        assert kept(log) == []
        right = {"Content-Type": "application/x-protobuf", "Authorization": "Bearer s3cret"}
        assert httpx.post(f"{url}/v1/logs", content=DATA, headers=right).status_code == 200
        assert httpx.get(f"{url}/metrics", headers=right).text == "secret"
    finally:
        server.stop(5)
    assert receiver.refused["token"] == 3


def test_backpressure_says_when_to_come_again(post: Any, receiver: Any, http_server: Any, log: Any) -> None:
    assert post(DATA).status_code == 200
    receiver._max_backlog_bytes = 0
    receiver._looked_at = float("-inf")
    answer = post(DATA)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    (detail,) = json_format.MessageToDict(status_of(answer))["details"]
    assert (detail["@type"], detail["retryDelay"]) == ("type.googleapis.com/google.rpc.RetryInfo", "5s")
    assert "bytes wait to get into the lake" in status_of(answer).message
    assert httpx.get(f"http://127.0.0.1:{http_server.port}/healthz").status_code == 503
    assert len(kept(log)) == 1


def test_what_fails_in_the_sink_is_to_be_sent_again(post: Any, receiver: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(receiver, "receive", lambda *_: 1 // 0)
    monkeypatch.setattr(module, "guard", lambda *_: contextlib.nullcontext())
    answer = post(DATA)
    assert (answer.status_code, answer.headers["retry-after"], status_of(answer).code) == (503, "5", 14)


def test_the_end_lets_a_request_in_progress_end(receiver: Any, log: Any, held_append: Any) -> None:
    """Its sender is answered; who comes later finds nobody."""
    begun, gate = held_append
    server = HttpServer(receiver, "127.0.0.1", 0)
    server.start()
    url = f"http://127.0.0.1:{server.port}/v1/logs"
    with ThreadPoolExecutor(1) as other:
        answer = other.submit(
            httpx.post, url, content=DATA, headers={"Content-Type": "application/x-protobuf"}, timeout=60
        )
        assert begun.wait(60)
        threading.Timer(0.2, gate.set).start()
        server.stop(60)
        assert answer.result().status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    assert kept(log) == [(Signal.LOGS, DATA)]


def test_a_port_that_is_taken(receiver: Any, http_server: Any) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 127.0.0.1:\d+ for HTTP .*--http HOST:PORT"):
        HttpServer(receiver, "127.0.0.1", http_server.port)
