"""Both clients: what comes of a request, and the proxy that the environment has for it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from entrenar_otel.otel.otlp.answer import Client, Verdict
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.run.log_export import client_of
from tests.ports import free_port

from .conftest import Endpoint, GrpcEndpoint, HttpEndpoint
from .proxy import Proxy

BODY = ExportLogsServiceRequest().SerializeToString()
PROTOCOLS = ("grpc", "http/protobuf")
Make = Callable[..., Client]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes clients, which are closed at the end."""
    made: list[Client] = []

    def make_one(url: str, protocol: str, **more: object) -> Client:
        path = "" if protocol == "grpc" else "/v1/logs"
        settings = LogSettings(endpoint=f"{url}{path}", protocol=protocol, **more)  # type: ignore[arg-type]
        client = client_of(settings)
        assert client is not None
        made.append(client)
        return client

    yield make_one
    for client in made:
        client.close()


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(protocol: str) -> Iterator[Endpoint]:
    made: Endpoint = GrpcEndpoint() if protocol == "grpc" else HttpEndpoint()
    yield made
    made.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def test_a_request_is_taken(make: Make, server: Endpoint, protocol: str) -> None:
    """By the address that was given, with the headers, with gzip or without."""
    for gzip in (False, True):
        client = make(server.url, protocol, gzip=gzip, headers={"x-team": "vision"})
        assert client.send(BODY, 60.0).verdict is Verdict.ACCEPTED
    assert [headers["x-team"] for headers in server.headers] == ["vision", "vision"]
    assert all(headers["user-agent"].startswith("entrenar-otel/") for headers in server.headers)


def test_an_answer_that_is_no_otlp_is_an_answer(make: Make, protocol: str) -> None:
    """A server that speaks something else is tried again; nothing is raised."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        client = make(f"http://127.0.0.1:{server.getsockname()[1]}", protocol)
        answered = client.send(BODY, 20.0)
        assert (answered.verdict, answered.after_seconds) == (Verdict.RETRY, 0.0)
        assert answered.why
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)


def test_no_answer_in_time(make: Make, protocol: str) -> None:
    """It is said to be that; the next one may have more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answer = make(f"http://127.0.0.1:{server.getsockname()[1]}", protocol).send(BODY, 0.2)
    assert answer.verdict is Verdict.RETRY
    assert answer.is_timeout


def test_who_is_let_go_of_sends_nothing(make: Make, server: Endpoint, protocol: str) -> None:
    """`close` twice, and a request after it: an answer, and no exception."""
    client = make(server.url, protocol)
    assert client.send(BODY, 60.0).verdict is Verdict.ACCEPTED
    client.close()
    client.close()
    assert client.send(BODY, 60.0).verdict is Verdict.RETRY
    assert server.calls == 1


def test_an_endpoint_that_comes_is_found_at_the_next_request(make: Make, protocol: str) -> None:
    """We say when to try again: gRPC's own wait, which grows to two minutes, is none of ours."""
    port = free_port()
    client = make(f"http://127.0.0.1:{port}", protocol)
    for _ in range(8):
        assert client.send(BODY, 20.0).verdict is Verdict.RETRY
    made: Endpoint = GrpcEndpoint(port) if protocol == "grpc" else HttpEndpoint(port)
    try:
        assert client.send(BODY, 60.0).verdict is Verdict.ACCEPTED
    finally:
        made.close()


@pytest.mark.parametrize("protocol", ["grpc"])  # HTTP cuts the connection of each that is not answered
def test_a_connection_that_is_dead_is_given_up(make: Make, server: Endpoint) -> None:
    """Two requests without an answer: the next one has another connection."""
    client = make(server.url, "grpc")
    gate = threading.Event()

    def hold(_request: object) -> None:
        gate.wait(60)

    server.answer = hold
    assert [client.send(BODY, 0.2).is_timeout for _ in range(2)] == [True, True]
    gate.set()
    assert client.send(BODY, 60.0).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("protocol", "variable"),
    [("grpc", "http_proxy"), ("grpc", "grpc_proxy"), ("http/protobuf", "http_proxy")],
)
def test_the_proxy_of_the_environment(
    make: Make,
    server: Endpoint,
    proxy: Proxy,
    protocol: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a name elsewhere, which only the proxy has to know; never for this host."""
    monkeypatch.setenv(variable, proxy.url)
    assert make(server.url, protocol).send(BODY, 60.0).verdict is Verdict.ACCEPTED
    assert make(server.url.replace("127.0.0.1", "localhost"), protocol).send(BODY, 60.0).verdict
    assert proxy.asked == []
    elsewhere = f"http://collector.example:{server.port}"
    answer = make(elsewhere, protocol).send(BODY, 60.0)
    assert answer.verdict is Verdict.ACCEPTED, answer
    assert len(proxy.asked) == 1
    assert f"collector.example:{server.port}" in proxy.asked[0]
    monkeypatch.setenv("no_proxy", "collector.example")
    answer = make(elsewhere, protocol).send(BODY, 20.0)
    assert answer.verdict is Verdict.RETRY
    assert "proxy" not in answer.why
    assert len(proxy.asked) == 1


def test_a_proxy_that_is_away_is_named(make: Make, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variable that leads there, without what is secret in it."""
    port = free_port()
    monkeypatch.setenv("http_proxy", f"http://me:hush@127.0.0.1:{port}")
    answer = make("http://collector.example:4317", protocol).send(BODY, 20.0)
    assert answer.verdict is Verdict.RETRY
    assert f"through the proxy http://127.0.0.1:{port} (http_proxy)" in answer.why
    assert "hush" not in answer.why


@pytest.mark.parametrize(
    ("endpoint", "protocols"),
    [
        ("http://[::1", PROTOCOLS),
        ("http://[bad]:4317", PROTOCOLS),
        ("http://host:99999999", PROTOCOLS),
        ("http://", PROTOCOLS),
        ("://", PROTOCOLS),
        ("grpc://host:4317", PROTOCOLS),
        ("host:4318", ("http/protobuf",)),
        ("unix:///tmp/socket", ("http/protobuf",)),
    ],
)
def test_an_endpoint_that_is_none_is_said(
    endpoint: str, protocols: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Once, where it is read, and nothing is raised: all else goes on."""
    for protocol in protocols:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        settings = LogSettings.find(environ)
        assert settings is not None
        caplog.clear()
        assert client_of(settings) is None
        assert "log records cannot be sent to" in caplog.text


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for this machine that is signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("own")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout {key} -out {certificate} -subj /CN=x"
    )
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True
    )
    return certificate, key


@pytest.fixture
def mutual(protocol: str, own: tuple[Path, Path]) -> Iterator[Endpoint]:
    """A server that wants a certificate of whoever comes, and that one's."""
    certificate, key = own
    made: Endpoint
    if protocol == "grpc":
        pem = certificate.read_bytes()
        made = GrpcEndpoint(
            credentials=grpc.ssl_server_credentials([(key.read_bytes(), pem)], pem, require_client_auth=True)
        )
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(certificate, key)
        made = HttpEndpoint(context=context)
    yield made
    made.close()


def test_a_certificate_of_the_client(
    make: Make, mutual: Endpoint, protocol: str, own: tuple[Path, Path]
) -> None:
    """With it a request is taken, without it none; nor where the server's own is not trusted."""
    certificate, key = own
    url = mutual.url.replace("http:", "https:")
    client = make(url, protocol, certificate=certificate, client_key=key, client_certificate=certificate)
    assert client.send(BODY, 60.0).verdict is Verdict.ACCEPTED
    assert make(url, protocol, certificate=certificate).send(BODY, 5.0).verdict is Verdict.RETRY
    assert make(url, protocol).send(BODY, 5.0).verdict is Verdict.RETRY
    assert mutual.calls == 1


def test_certificates_that_are_none_are_said(
    protocol: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is not there, or has something else in it; gRPC says the second when it connects."""
    missing = LogSettings("https://host:4317", protocol, certificate=tmp_path / "no.pem")  # type: ignore[arg-type]
    assert client_of(missing) is None
    assert "log records cannot be sent to https://host:4317" in caplog.text


def test_certificates_that_are_gone_later(tmp_path: Path) -> None:
    """They are read again for each new connection; meanwhile requests are tried again."""
    from entrenar_otel.otel.otlp.grpc_client import GrpcClient

    pem = tmp_path / "ca.pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    client = GrpcClient(LogSettings(f"https://127.0.0.1:{free_port()}", certificate=pem))
    first = client.send(BODY, 10.0)
    pem.unlink()
    answers = [first, *(client.send(BODY, 10.0) for _ in range(2))]
    client.close()
    assert [answer.verdict for answer in answers] == [Verdict.RETRY] * 3
    assert "FileNotFoundError" in answers[-1].why


def test_a_server_that_drips_is_cut_off(make: Make) -> None:
    """Each byte in time, and the answer never: HTTP's timeouts do not see that."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"X: y\r\n")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        began = time.monotonic()
        answer = make(f"http://127.0.0.1:{server.getsockname()[1]}", "http/protobuf").send(BODY, 0.5)
        assert answer.is_timeout
        assert time.monotonic() - began < 60
    finally:
        stop.set()
        thread.join(10)
        server.close()
