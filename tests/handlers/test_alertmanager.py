"""Alertmanager: a real one takes our alerts, and its own webhook tells what ours has to look like."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors import Series

from entrenar_otel.errors import DeliveryError
from entrenar_otel.handlers import Alertmanager, Deliveries, Notice, Webhook, alertmanager
from entrenar_otel.handlers.payload import fingerprint, labels_of
from tests.ports import free_port

SECONDS = 20.0
AT_ONCE = 1e-9  # seconds: every alert is due for a repeat
CONFIG = """
route:
  receiver: hook
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
- name: hook
  webhook_configs:
  - url: {url}/real
    send_resolved: true
"""


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read() or b"null")


@pytest.fixture
def real(server: Any, tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[str]:
    """The URL of an Alertmanager whose receiver is `server`."""
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    assert found, "Alertmanager is missing: apt-get install prometheus-alertmanager"
    config = tmp_path / "alertmanager.yml"
    config.write_text(CONFIG.format(url=server.url))
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                found,
                f"--config.file={config}",
                f"--storage.path={tmp_path / 'data'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )

    def is_ready() -> bool:
        assert process.poll() is None, (tmp_path / "alertmanager.log").read_text()
        try:
            with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False

    try:
        wait_until(is_ready)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(SECONDS)


@pytest.fixture
def now(notice_of: Callable[..., Notice]) -> Callable[..., Notice]:
    """A notice that began five seconds ago."""
    began = time.time_ns() - 5 * 10**9

    def made(name: str = "spike", **changes: Any) -> Notice:
        return notice_of(name, **{"started_ns": began, **changes})

    return made


def test_our_webhook_is_what_a_real_one_sends(
    real: str, server: Any, other_server: Any, now: Callable[..., Notice], wait_until: Callable[..., None]
) -> None:
    """Key by key and value by value, firing and resolved; its API agrees about labels and fingerprint."""
    ours, theirs = Webhook(other_server.url), Alertmanager(real)
    odd = Series.of("val/loss", {"data.split": 'a"b\\c\n\té\u00a0\x01', "2nd": "x"})
    settings: dict[str, Any] = {
        "series": odd,
        "labels": {"team": "vision", "severity": "page"},
        "annotations": {"runbook_url": "https://wiki.example.com/spike"},
        "incident": "https://lake.example.com/incidents/1",
    }
    began = now(**settings)
    over = now(**settings, ended_ns=began.alert.started_ns + 2 * 10**9)
    for notice, status in ((began, "firing"), (over, "resolved")):
        theirs.handle(notice)
        ours.handle(notice)
        if status == "firing":
            (known,) = get(f"{real}/api/v2/alerts")
            assert known["labels"] == labels_of(notice)
            assert known["fingerprint"] == fingerprint(labels_of(notice))
            assert known["generatorURL"] == "https://lake.example.com/incidents/1"
        wait_until(lambda status=status: server.requests and server.requests[-1].json["status"] == status)
        wanted, found = server.requests[-1].json, other_server.requests[-1].json
        assert list(found) == sorted(found, key=list(found).index)
        assert set(found) == set(wanted)
        assert set(found["alerts"][0]) == set(wanted["alerts"][0])
        own = {"receiver": "entrenar-otel", "externalURL": ""}
        for body in (wanted, found):
            for time_name in ("startsAt", "endsAt"):
                body["alerts"][0][time_name] = datetime.fromisoformat(body["alerts"][0][time_name])
        assert found == {**wanted, **own}
    assert len(server.requests) == 2


def test_it_fires_as_long_as_it_is_repeated(
    real: str, server: Any, now: Callable[..., Notice], wait_until: Callable[..., None]
) -> None:
    """Each post says that it ends four repeats later; without more posts it is over by itself."""
    deliveries = Deliveries([Alertmanager(real, repeat_seconds=1.5)])
    deliveries.send(now("spike"))
    deliveries.send(now("drift"))
    wait_until(lambda: len(get(f"{real}/api/v2/alerts")) == 2)
    first = {one["labels"]["alertname"]: one["endsAt"] for one in get(f"{real}/api/v2/alerts")}
    time.sleep(8)
    later = {one["labels"]["alertname"]: one["endsAt"] for one in get(f"{real}/api/v2/alerts")}
    assert set(later) == {"spike", "drift"}
    assert all(later[name] > first[name] for name in later)
    assert {one.json["status"] for one in server.requests} == {"firing"}
    deliveries.send(now("spike", ended_ns=time.time_ns()))
    wait_until(lambda: [one["labels"]["alertname"] for one in get(f"{real}/api/v2/alerts")] == ["drift"])
    assert deliveries.close(SECONDS) == []
    assert not deliveries.failures
    wait_until(lambda: get(f"{real}/api/v2/alerts") == [])
    wait_until(lambda: sum(one.json["status"] == "resolved" for one in server.requests) == 2)


def test_what_a_real_one_refuses(real: str, now: Callable[..., Notice]) -> None:
    """A wrong path is named, once, and without the path."""
    with pytest.raises(DeliveryError, match="answered 404 Not Found: refused, so not sent again"):
        Alertmanager(f"{real}/SECRET").handle(now())


def test_an_outage(server: Any, now: Callable[..., Notice], wait_until: Callable[..., None]) -> None:
    """What could not be posted is posted with a repeat, the end too; then it is quiet."""
    handler = Alertmanager(f"{server.url}/am/?x=1", deadline_seconds=0.2, repeat_seconds=0.4)
    deliveries = Deliveries([handler])
    server.answers = [(500, {})]
    for notice in (now("a"), now("b"), now("b", ended_ns=time.time_ns())):
        deliveries.send(notice)
    wait_until(lambda: deliveries.failures["alertmanager"] >= 4)
    server.answers = [(200, {})]
    seen = len(server.requests)

    def accepted() -> list[str]:
        return [one["labels"]["alertname"] for request in server.requests[seen:] for one in request.json]

    wait_until(lambda: set(accepted()) == {"a", "b"})
    wait_until(lambda: len(server.requests) > seen + 3)
    assert accepted()[-2:] == ["a", "a"]
    assert {one.path for one in server.requests} == {"/am/api/v2/alerts?x=1"}
    deliveries.send(now("a", ended_ns=time.time_ns()))
    assert deliveries.close(SECONDS) == []
    seen = len(server.requests)
    time.sleep(0.5)  # when all that is still known would be due
    handler.repeat()
    assert len(server.requests) == seen


def test_a_late_end_does_not_end_what_fires_anew(server: Any, now: Callable[..., Notice]) -> None:
    """The same labels in a second episode; and an end that comes alone is told."""
    handler = Alertmanager(server.url, repeat_seconds=AT_ONCE)
    handler.handle(now(episode="1"))
    handler.handle(now(episode="2"))
    handler.handle(now(episode="1", ended_ns=time.time_ns()))
    assert len(server.requests) == 2
    handler.handle(now(episode="2", ended_ns=time.time_ns()))
    handler.handle(now("other", ended_ns=time.time_ns()))
    assert len(server.requests) == 4
    handler.repeat()
    assert len(server.requests) == 4


def test_ends_that_nobody_accepts_are_given_up(server: Any, now: Callable[..., Notice]) -> None:
    """After a quarter of an hour."""
    handler = Alertmanager(server.url, deadline_seconds=0.1, repeat_seconds=AT_ONCE)
    server.answers = [(500, {})]
    old = time.time_ns() - 16 * 60 * 10**9
    with pytest.raises(DeliveryError):
        handler.handle(now(started_ns=old, ended_ns=old))
    seen = len(server.requests)
    handler.repeat()
    assert len(server.requests) == seen


def test_many_alerts(server: Any, now: Callable[..., Notice], monkeypatch: pytest.MonkeyPatch) -> None:
    """64 in a request; of too many, the oldest are not repeated."""
    monkeypatch.setattr(alertmanager, "MAX_ACTIVE", 130)
    handler = Alertmanager(server.url, repeat_seconds=AT_ONCE)
    for i in range(132):
        handler.handle(now(f"a{i}"))
    server.requests.clear()
    handler.repeat()
    assert [len(request.json) for request in server.requests] == [64, 64, 2]
    names = [alert["labels"]["alertname"] for request in server.requests for alert in request.json]
    assert names == [f"a{i}" for i in range(2, 132)]


def test_its_token(server: Any, monkeypatch: pytest.MonkeyPatch, now: Callable[..., Notice]) -> None:
    """A bearer token from the environment, or a user and password in the URL."""
    Alertmanager(server.url.replace("//", "//me:pw@")).handle(now())
    monkeypatch.setenv("ENTRENAR_ALERTMANAGER_TOKEN", "t0ken")
    Alertmanager(server.url).handle(now())
    assert [one.headers["Authorization"] for one in server.requests] == ["Basic bWU6cHc=", "Bearer t0ken"]
    assert "alertmanager_token" not in json.dumps([one.json for one in server.requests]).lower()
