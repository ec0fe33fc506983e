"""The page's server: what it answers, to whom, and what it never does."""

from __future__ import annotations

import gzip
import socket
import time
from urllib.parse import quote, urlencode

import pytest

from entrenar_otel.errors import LakeError
from entrenar_otel.lake import Lake
from entrenar_otel.page.server import POLICY, PageServer
from entrenar_otel.page.static_files import NAMES
from entrenar_otel.page.wire import decode
from tests.page.conftest import HOSTILE, Client, Serve

TOKEN = "s3cret-of-the-team"


@pytest.fixture
def page(lake: Lake, serve: Serve) -> Client:
    return serve(lake)


def test_the_files(page: Client) -> None:
    """Each with its type, a tag, and headers that let no script in."""
    for path in ("/", "/login", *(f"/static/{name}" for name in NAMES)):
        answer = page(path)
        assert answer.status == 200
        assert answer.headers["Content-Security-Policy"] == POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = page(path, If_None_Match=answer.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
    assert page("/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert "unsafe" not in POLICY
    for text in (page("/").body, page("/login").body):
        assert b"<script>" not in text
        assert b"style=" not in text


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static//etc/passwd",
        "/static/",
        "/static",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/app.js",
        "/static/app.js/",
        "/static/app.js%00",
        "/api",
        "/api/../static/app.js",
        "/index.html",
    ],
)
def test_no_path_leads_out(page: Client, path: str) -> None:
    answer = page(path)
    assert (answer.status, answer.body) == (404, b"not found: try /\n")


def test_runs(page: Client) -> None:
    """Newest first, with settings, states, the last loss; nothing of how they were started."""
    page("/api/runs")
    page.server.answers.runs.wait()
    runs = page("/api/runs").json["runs"]
    assert [run["run_id"] for run in runs] == [HOSTILE, "second", "first"]
    assert runs[0]["config"] == {"lr": 0.3, "clip": "Infinity"}
    assert {run["state"] for run in runs} == {"completed"}
    assert runs[0]["loss"] == pytest.approx(0.0, abs=0.3)
    assert "argv" not in runs[0]


def test_facts(page: Client) -> None:
    asked = urlencode([("run", "first"), ("run", HOSTILE)])
    first, hostile = page(f"/api/facts?{asked}").json["runs"]
    assert (first["run"], hostile["run"]) == ("first", HOSTILE)
    assert [panel["metric"] for panel in first["panels"]][:2] == ["loss", "accuracy"]
    assert first["axes"] == ["step", "epoch", "time"]
    assert first["version"]


def test_curves(page: Client, lake: Lake) -> None:
    """The values are those of the lake, to the bit; the tag says that nothing is new."""
    asked = urlencode([("run", "first"), ("run", HOSTILE), ("metric", "loss")])
    answer = page(f"/api/curves?{asked}")
    header, lines = decode(answer.body)
    assert [line["run"] for line in header["lines"]] == ["first", HOSTILE]
    recorded = lake.curve("loss", "first")
    assert lines[0][1].tobytes() == recorded["value"].to_numpy().tobytes()
    assert lines[0][0].tolist() == recorded["step"].to_pylist()
    same = page(f"/api/curves?{asked}", If_None_Match=answer.headers["ETag"])
    assert (same.status, same.body) == (304, b"")
    other = page(f"/api/curves?{asked}&window=3", If_None_Match=answer.headers["ETag"])
    assert other.status == 200


def test_gzip(page: Client) -> None:
    asked = "/static/app.js"
    small = page(asked, Accept_Encoding="gzip")
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.body) == page(asked).body
    assert page("/healthz", Accept_Encoding="gzip").body == b"ok\n"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/facts", 400, "expected run= from 1 to 100 times, got 0"),
        ("/api/facts?run=nobody", 404, "no such run"),
        ("/api/facts?" + "&".join(f"run={at}" for at in range(101)), 400, "got 101"),
        ("/api/facts?" + "&".join(f"run={at}" for at in range(500)), 400, "Max number of fields"),
        ("/api/facts?run=%ff", 400, "codec"),
        ("/api/facts?nonsense", 400, "bad query field"),
        ("/api/curves?run=first", 400, "expected metric="),
        ("/api/curves?run=first&metric=loss&x=<b>", 400, "expected x=step, epoch or time, got '<b>'"),
        ("/api/curves?run=first&metric=loss&columns=1e9", 400, "expected columns= a whole number"),
        ("/api/curves?run=first&metric=loss&columns=0", 400, "expected columns="),
        ("/api/curves?run=first&metric=loss&window=-1", 400, "expected window="),
        ("/api/curves?run=first&metric=loss&from=nan", 400, "expected from= a number"),
        ("/api/curves?run=first&metric=loss&to=x", 400, "expected to= a number, got 'x'"),
        ("/" + "x" * 40_000, 414, "too long"),
    ],
)
def test_wrong_questions(page: Client, path: str, status: int, text: str) -> None:
    answer = page(path)
    assert (answer.status, text in answer.body.decode()) == (status, True), answer.body
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_run_ids_lead_nowhere(page: Client) -> None:
    for run_id in ("../../first", "/etc/passwd", "run=first", "first/../second", "%2e%2e", "*", "first\0"):
        assert page(f"/api/facts?run={quote(run_id, safe='')}").status == 404


def test_a_metric_that_is_not_there(page: Client) -> None:
    header, lines = decode(page(f"/api/curves?run=first&metric={quote(HOSTILE)}").body)
    assert (header["lines"], lines) == ([], [])


def test_methods(page: Client) -> None:
    assert page("/", "PUT").status == 405
    assert page("/", "POST").status == 400
    head = page("/", "HEAD")
    assert (head.status, head.body) == (200, b"")


# -- limits ----------------------------------------------------------------------------------------------


def test_slow_clients_are_cut(lake: Lake, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that send nothing, and those that send a byte at a time; others are served meanwhile."""
    monkeypatch.setattr(PageServer, "read_seconds", 1.0)
    monkeypatch.setattr(PageServer, "request_seconds", 2.0)
    page = serve(lake)
    idle = socket.create_connection(("127.0.0.1", page.port), 60)
    trickling = socket.create_connection(("127.0.0.1", page.port), 60)
    assert page("/healthz").status == 200
    end = time.monotonic() + 120
    with idle, trickling:
        while time.monotonic() < end:
            try:
                trickling.send(b"G")
            except OSError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("a client that sends a byte at a time was never cut")
        assert idle.recv(100) == b""
    assert page("/healthz").status == 200


def test_no_more_at_a_time_than_there_is_room(
    lake: Lake, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PageServer, "requests", 1)
    page = serve(lake)
    with socket.create_connection(("127.0.0.1", page.port), 60) as waiting:
        waiting.send(b"GET /")
        end = time.monotonic() + 60
        while not page.server.is_busy and time.monotonic() < end:
            time.sleep(0.01)
        answer = page("/healthz")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


def test_a_lake_that_fails(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said, and the page goes on; what was not foreseen is our failure, without its text."""

    def fail(error: Exception) -> int:
        def raise_it(*_: object) -> None:
            raise error

        monkeypatch.setitem(page.server.answers.paths, "/api/runs", raise_it)
        answer = page("/api/runs")
        assert b"s3cret" not in answer.body
        return answer.status

    assert fail(LakeError("the bucket is away\x1b[2J")) == 503
    assert b"\x1b" not in page("/api/runs").body
    assert fail(OSError("s3cret")) == 503
    assert fail(RuntimeError("s3cret")) == 500
    assert page("/api/about").status == 200
