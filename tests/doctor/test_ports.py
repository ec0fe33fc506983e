"""Where /metrics would listen, and whether what a run sends to can be reached; nothing is sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrenar_otel.doctor import ports
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.surroundings import Surroundings
from tests.ports import free_port


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


def of(environ: dict[str, str]) -> list[Check]:
    return [check.fit_to_show() for check in ports.checks(Surroundings(environ))]


def test_nothing_is_set() -> None:
    assert [(check.name, check.level, check.text[:4]) for check in of({})] == [
        ("/metrics", Level.OK, "off:"),
        ("OTLP", Level.OK, "off:"),
    ]


def test_an_endpoint_that_listens_gets_nothing(server: socket.socket) -> None:
    """One check for the three signals; whoever listens sees a connection without a byte."""
    seen: list[bytes] = []

    def take() -> None:
        connection, _ = server.accept()
        with connection:
            seen.append(connection.recv(100))

    taker = threading.Thread(target=take)
    taker.start()
    _, check = of({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port_of(server)}"})
    taker.join(100)
    assert seen == [b""]
    assert check.text == f"traces, metrics and logs to http://127.0.0.1:{port_of(server)} can be reached"


def test_an_endpoint_that_does_not_answer(server: socket.socket) -> None:
    """Each endpoint is a check of its own; user and password are not shown."""
    dead = f"http://me:hidden@127.0.0.1:{free_port()}"
    _, *checks = of(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port_of(server)}",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": dead,
        }
    )
    assert [check.level for check in checks] == [Level.OK, Level.PROBLEM]
    assert "Connection refused" in checks[1].text
    assert "hidden" not in str(checks)


def test_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "create_connection", lambda *_: done.wait(100))
    monkeypatch.setattr(ports, "ANSWER_SECONDS", 0.1)
    _, check = of({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})
    done.set()
    assert check.level is Level.PROBLEM
    assert check.text.endswith("cannot be reached: no answer within 0.1 s")


def test_a_proxy_stands_in_between(server: socket.socket) -> None:
    by = {
        "HTTPS_PROXY": f"127.0.0.1:{port_of(server)}",
        "ENTRENAR_WEBHOOK_URL": "https://hooks.example.com/T/B",
    }
    *_, check = (one for one in of(by) if one.name == "webhook")
    assert check.text == "https://hooks.example.com can be reached, by the proxy of HTTPS_PROXY"
    by["HTTPS_PROXY"] = f"127.0.0.1:{free_port()}"
    *_, check = (one for one in of(by) if one.name == "webhook")
    assert check.text.endswith("cannot be reached: Connection refused, by the proxy of HTTPS_PROXY")


@pytest.mark.parametrize(
    ("variables", "name", "advice"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:1"}, "OTLP", "pip install 'entrenar-otel[otlp]'"),
        ({"ENTRENAR_APPRISE_URLS": "slack://hidden/x"}, "chats", "pip install 'entrenar-otel[apprise]'"),
        ({"ENTRENAR_WEBHOOK_URL": "ftp://hidden/x"}, "webhook", "correct ENTRENAR_WEBHOOK_URL"),
    ],
)
def test_what_cannot_be_sent(
    variables: dict[str, str], name: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "find_spec", lambda _: None)
    check = next(one for one in of(variables) if one.name == name)
    assert check.level is Level.PROBLEM
    assert check.advice.endswith(advice)
    assert "hidden" not in str(check)


def test_where_the_page_would_listen(server: socket.socket) -> None:
    def page(port: str) -> Check:
        variables = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1"}
        return of(variables | {"OTEL_EXPORTER_PROMETHEUS_PORT": port})[0]

    taken, free = port_of(server), free_port()
    assert (page(str(taken)).level, page(f"{taken}+").level) == (Level.NOTE, Level.OK)
    assert page(str(taken)).text.endswith("now: Address already in use")
    assert page(str(free)).text == f"http://127.0.0.1:{free}/metrics is free"
    assert page("0").text == "any free port of 127.0.0.1"


def test_a_certificate_that_is_not_there() -> None:
    Path("cert.pem").write_text("")
    variables = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    variables |= {"ENTRENAR_METRICS_CERTFILE": "cert.pem", "ENTRENAR_METRICS_KEYFILE": "none.pem"}
    problems = [check for check in of(variables) if check.level is Level.PROBLEM]
    assert [check.text for check in problems] == [
        "ENTRENAR_METRICS_KEYFILE=none.pem cannot be read: no page is served"
    ]
