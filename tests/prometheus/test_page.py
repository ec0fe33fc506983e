"""The page over real HTTP: that nothing holds it or us up, and that a real Prometheus scrapes it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricsData

from entrenar_otel import errors
from entrenar_otel.prometheus import page as page_module
from entrenar_otel.prometheus.page import MetricsPage
from entrenar_otel.prometheus.server import PLACE
from entrenar_otel.prometheus.targets import TargetFile
from tests.ports import free_port

SECONDS = 20.0  # that a test waits at most for what comes at once
Serving = Callable[..., AbstractContextManager[MetricsPage]]
Ask = Callable[..., Any]


def test_tls(
    serving: Serving, ask: Ask, loss: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
                assert answer.read().endswith(loss)
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(page)
    assert caplog.text == ""
    assert not MetricsPage(lambda: None, port=0, certfile=cert, keyfile=str(tmp_path / "none.pem")).start()
    assert f"no /metrics page: cannot load the certificate {cert} or its key" in caplog.text


def test_a_port_that_is_unavailable(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Busy, not ours, no such host: one warning that says what to do, and False."""
    with serving() as page:
        second = MetricsPage(lambda: None, port=page.port)
        assert not second.start()
        (record,) = caplog.records
        assert f"cannot listen on port {page.port} of localhost" in record.getMessage()
        assert "set OTEL_EXPORTER_PROMETHEUS_PORT to another one" in record.getMessage()
        second.close()
        assert page.start(), "starting again changes nothing"
    assert not MetricsPage(lambda: None, host="192.0.2.1", port=0).start()
    assert not MetricsPage(lambda: None, port=70_000).start()
    assert len(caplog.records) == 3
    assert second.start(), "the port is free again"
    second.close()


def test_the_next_free_port(serving: Serving, ask: Ask, tmp_path: Path) -> None:
    """Where it is asked for, a busy port is no failure; the file says which one it is."""
    with serving() as page:
        file = TargetFile(tmp_path, "process")
        second = MetricsPage(lambda: None, port=page.port, next_free=True, targets=file)
        assert second.start()
        assert page.port < second.port < page.port + 100
        assert second.url.endswith(f":{second.port}/metrics")
        assert ask(second).status == 200
        assert json.loads(file.path.read_text())[0]["targets"] == [f"localhost:{second.port}"]
        second.close()
        assert not file.path.exists()
    fixed = MetricsPage(lambda: None, port=page.port, targets=file)  # free by now
    assert fixed.start()
    assert not file.path.exists(), "whoever chose the port knows it"
    fixed.close()


def test_a_page_on_all_addresses_is_found_by_the_hosts_name(tmp_path: Path) -> None:
    """Localhost is another machine for whoever reads the file elsewhere."""
    file = TargetFile(tmp_path, "process")
    page = MetricsPage(lambda: None, host="0.0.0.0", port=0, token="t", targets=file)
    assert page.start()
    assert json.loads(file.path.read_text())[0]["targets"] == [f"{socket.gethostname()}:{page.port}"]
    page.close()


def test_a_collect_that_raises(serving: Serving, ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """500 and a short text; logged once, counted each time; the next one is served."""
    fails = [True, True, False]

    def collect() -> MetricsData | None:
        if fails.pop(0):
            raise RuntimeError("no such thing")
        return None

    before = errors.failures.pop(PLACE, 0)
    with serving(collect) as page:
        assert [ask(page).status for _ in range(3)] == [500, 500, 200]
        assert page.port
    assert errors.failures[PLACE] == 2
    assert "monitoring failed in the /metrics page (RuntimeError: no such thing)" in caplog.text
    assert len(caplog.records) == 1
    errors.failures[PLACE] += before


def test_a_collect_that_hangs(
    serving: Serving, ask: Ask, until: Callable[..., None], data: MetricsData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 in time for everybody who asks; one thread waits, however many ask; close returns."""
    monkeypatch.setattr(page_module, "COLLECT_SECONDS", 0.2)
    go, calls = threading.Event(), []

    def collect() -> MetricsData:
        calls.append(1)
        assert go.wait(SECONDS)
        return data

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


def test_a_forked_child_has_no_page() -> None:
    """When the parent has closed, nothing listens, though a child lives on; the child can have its own."""
    program = f"""
import os, socket, sys
sys.path[:0] = [{os.path.dirname(__file__)!r}]
from conftest import LOSS, ask_page, collected
from entrenar_otel.prometheus.page import MetricsPage

page = MetricsPage(collected, port=0)
assert page.start()
child_ready, parent_closed = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    os.write(child_ready[1], b"x")
    os.read(parent_closed[0], 1)
    page.close()
    again = page.start() and ask_page(page).body.endswith(LOSS)
    page.close()
    os._exit(0 if again else 1)
os.read(child_ready[0], 1)
assert ask_page(page).body.endswith(LOSS), "the parent serves on"
page.close()
with socket.socket() as sock:
    assert sock.connect_ex(("127.0.0.1", page.port)), "somebody listens"
os.write(parent_closed[1], b"x")
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]  # of os.fork, from 3.12 on
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_real_prometheus_scrapes_it(serving: Serving, until: Callable[..., None], tmp_path: Path) -> None:
    """Its target is up and a query answers with what was collected."""
    if shutil.which("prometheus") is None:
        pytest.skip("NOT TESTED: prometheus is missing (apt-get install prometheus)")
    with serving(token="secret") as page:
        port = free_port()
        config = tmp_path / "prometheus.yml"
        target = {"targets": [f"127.0.0.1:{page.port}"]}
        job: dict[str, Any] = {"job_name": "training", "scrape_interval": "1s", "static_configs": [target]}
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


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"host": "0.0.0.0"}, 1),
        ({"host": ""}, 1),
        ({"host": "0.0.0.0", "token": " \n"}, 1),
        ({"host": "0.0.0.0", "token": "t"}, 0),
        ({"host": "localhost"}, 0),
        ({"host": "127.0.0.2"}, 0),
    ],
)
def test_a_page_that_everybody_can_read(
    serving: Serving,
    settings: dict[str, str],
    warnings: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that listens beyond this machine, without a token, is warned of, once; what to set is said."""
    monkeypatch.setattr(page_module, "_has_warned", False)
    for _ in range(2):
        with serving(**settings):
            pass
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == warnings
    assert all("Set ENTRENAR_METRICS_TOKEN" in line and "PROMETHEUS_HOST=localhost" in line for line in told)


def test_a_token_from_a_file(serving: Serving, ask: Ask) -> None:
    """Its line break is not of it."""
    with serving(token="secret\n") as page:
        assert ask(page, Authorization="Bearer secret").status == 200
        assert ask(page, Authorization="Bearer other").status == 401
