"""The page over real HTTP: what it serves, whom it serves, and that nothing holds it or us up."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
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
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from entrenar_otel import errors
from entrenar_otel.prometheus import page as page_module
from entrenar_otel.prometheus import server as page_server
from entrenar_otel.prometheus.page import MetricsPage

LOSS = b'training_loss{run_id="r",rank="0",split="val"} 0.5\n'
SECONDS = 20.0  # that a test waits at most for what comes at once


def collected() -> MetricsData:
    point = NumberDataPoint({"split": "val"}, 0, 1, 0.5)
    scopes = [
        ScopeMetrics(InstrumentationScope("s"), [Metric("training.loss", "Loss", "", Gauge([point]))], "")
    ]
    resource = Resource({"training.run.id": "r", "training.process.rank": 0})
    return MetricsData([ResourceMetrics(resource, scopes, "")])


@contextmanager
def serving(collect: Callable[[], MetricsData | None] = collected, **settings: Any) -> Iterator[MetricsPage]:
    page = MetricsPage(collect, port=0, **settings)
    assert page.start()
    try:
        yield page
    finally:
        page.close()


def ask(page: MetricsPage, path: str = "/metrics", method: str = "GET", **headers: str) -> Any:
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


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_it_serves(capfd: pytest.CaptureFixture[str]) -> None:
    """The text, OpenMetrics and gzip for those who take them, a page that links to it; no line a request."""
    with serving() as page:
        plain = ask(page)
        assert (plain.status, plain.body.endswith(LOSS)) == (200, True)
        assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert plain.headers["Server"] == "entrenar-otel"
        assert plain.headers["Content-Encoding"] is None
        assert ask(page, "/metrics?x=y").body == plain.body

        for accept in ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "text/*;q=0.1, "
                       "application/openmetrics-text; version=nonsense"):  # fmt: skip
            found = ask(page, Accept=accept)
            assert found.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            assert [one.name for one in openmetrics_families(found.body.decode())] == [
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


def test_what_it_refuses(capfd: pytest.CaptureFixture[str]) -> None:
    """Other paths and methods, requests that are none or too long; in plain words, and it goes on."""
    with serving() as page:
        assert ask(page, "/metrics/x").status == 404
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"):
            refused = ask(page, method=method)
            assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")
        assert ask(page, "/" + "x" * 70_000).status == 414
        assert ask(page, X="y" * 70_000).status == 431
        with socket.create_connection(("127.0.0.1", page.port), SECONDS) as client:
            client.sendall(b"\x16\x03\x01\r\n\r\n")
            assert client.recv(1000) == b"Bad Request\n", "as HTTP/0.9, which it looks like"
        with socket.create_connection(("127.0.0.1", page.port), SECONDS):
            pass
        assert ask(page).status == 200
    assert capfd.readouterr() == ("", "")


def test_token(caplog: pytest.LogCaptureFixture) -> None:
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


def test_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """HTTPS with a certificate of one's own; plain HTTP gets nothing; a wrong file is said, not raised."""
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout key.pem -out cert.pem "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    with serving(certfile=cert, keyfile=key) as page:
        context = ssl.create_default_context(cafile=cert)
        for _ in range(2):
            url = f"https://localhost:{page.port}/metrics"
            with urllib.request.urlopen(url, timeout=SECONDS, context=context) as answer:
                assert answer.read().endswith(LOSS)
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(page)
    assert caplog.text == ""
    assert not MetricsPage(collected, port=0, certfile=cert, keyfile=str(tmp_path / "none.pem")).start()
    assert f"no /metrics page: the certificate {cert} or its key cannot be used" in caplog.text


def test_a_port_that_cannot_be_had(caplog: pytest.LogCaptureFixture) -> None:
    """Busy, not ours, no such host: one warning that says what to do, and False."""
    with serving() as page:
        second = MetricsPage(collected, port=page.port)
        assert not second.start()
        (record,) = caplog.records
        assert f"port {page.port} of localhost cannot be had" in record.getMessage()
        assert "set OTEL_EXPORTER_PROMETHEUS_PORT to another port" in record.getMessage()
        second.close()
        assert page.start(), "starting again changes nothing"
    assert not MetricsPage(collected, host="192.0.2.1", port=0).start()
    assert not MetricsPage(collected, port=70_000).start()
    assert len(caplog.records) == 3
    assert second.start(), "the port is free again"
    second.close()
    second.close()


def test_a_collect_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """500 and a short text; logged once, counted each time; the next one is served."""
    fails = [True, True, False]

    def collect() -> MetricsData | None:
        if fails.pop(0):
            raise RuntimeError("no such thing")
        return None

    before = errors.failures.pop(page_server.PLACE, 0)
    with serving(collect) as page:
        assert [ask(page).status for _ in range(3)] == [500, 500, 200]
        assert page.port
    assert errors.failures[page_server.PLACE] == 2
    assert "monitoring failed in the /metrics page (RuntimeError: no such thing)" in caplog.text
    assert len(caplog.records) == 1
    errors.failures[page_server.PLACE] += before


def test_a_collect_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 in time for everybody who asks; one thread waits, however many ask; close returns."""
    monkeypatch.setattr(page_module, "COLLECT_SECONDS", 0.2)
    go, calls = threading.Event(), []

    def collect() -> MetricsData:
        calls.append(1)
        assert go.wait(SECONDS)
        return collected()

    with serving(collect) as page:
        answers = [ask(page) for _ in range(3)]
        assert [(one.status, one.body) for one in answers] == [
            (503, b"collecting the metrics takes too long\n")
        ] * 3
        assert len(calls) == 1
        assert ask(page, "/").status == 200
        page.close()
    with serving(collect) as page:
        go.set()
        until(lambda: ask(page).status == 200)


def test_too_many_and_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight who say nothing leave no room for a ninth; they are cut, and there is room again."""
    monkeypatch.setattr(page_server, "REQUEST_SECONDS", 1.0)
    with serving() as page:
        clients = [
            socket.create_connection(("127.0.0.1", page.port), SECONDS) for _ in range(page_server.REQUESTS)
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


def test_a_forked_child_has_no_page() -> None:
    """When the parent has closed, nothing listens, though a child lives on; the child can have its own."""
    program = f"""
import os, socket, sys
sys.path[:0] = [{os.path.dirname(__file__)!r}]
from test_page import ask, collected, LOSS
from entrenar_otel.prometheus.page import MetricsPage
page = MetricsPage(collected, port=0)
assert page.start()
child_ready, parent_closed = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    os.write(child_ready[1], b"x")
    os.read(parent_closed[0], 1)
    page.close()
    again = page.start() and ask(page).body.endswith(LOSS)
    page.close()
    os._exit(0 if again else 1)
os.read(child_ready[0], 1)
assert ask(page).body.endswith(LOSS), "the parent serves on"
page.close()
with socket.socket() as sock:
    assert sock.connect_ex(("127.0.0.1", page.port)), "somebody listens"
os.write(parent_closed[1], b"x")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]  # of os.fork, from 3.12 on
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_real_prometheus_scrapes_it(tmp_path: Path) -> None:
    """Its target is up and a query answers with what was collected."""
    if shutil.which("prometheus") is None:
        pytest.skip("NOT TESTED: prometheus is missing (apt-get install prometheus)")
    with serving(token="secret") as page, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.close()
        config = tmp_path / "prometheus.yml"
        target = {"targets": [f"127.0.0.1:{page.port}"]}
        job = {"job_name": "training", "scrape_interval": "1s", "static_configs": [target]}
        job["authorization"] = {"credentials": "secret"}
        config.write_text(json.dumps({"scrape_configs": [job]}))
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                   f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(lambda: bool(_query(port)) or process.poll() is not None)
            (series,) = _query(port)
        finally:
            process.terminate()
            process.wait(SECONDS)
    assert series["metric"] == {
        "__name__": "training_loss", "run_id": "r", "rank": "0", "split": "val", "job": "training",
        "instance": f"127.0.0.1:{page.port}",
    }  # fmt: skip
    assert series["value"][1] == "0.5"


def _query(port: int) -> Any:
    try:
        url = f"http://127.0.0.1:{port}/api/v1/query?query=training_loss"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return json.load(answer)["data"]["result"]
    except OSError:
        return None
