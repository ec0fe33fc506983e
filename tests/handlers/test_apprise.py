"""Apprise: the real package, posting JSON to a server here."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from entrenar_processors.alert import Level

from entrenar_otel.errors import ConfigError, DeliveryError
from entrenar_otel.handlers import Apprise, Deliveries, Notice, RunInfo

SECONDS = 20.0


@pytest.mark.parametrize(
    ("changes", "kind", "title"),
    [
        ({"level": Level.INFO}, "info", "INFO spike in run r1"),
        ({}, "warning", "WARNING spike in run r1"),
        ({"level": Level.CRITICAL}, "failure", "CRITICAL spike in run r1"),
        ({"ended_ns": 1_767_323_050_123_000_000}, "success", "RESOLVED spike in run r1"),
    ],
)
def test_what_is_sent(
    changes: dict[str, Any], kind: str, title: str, server: Any, notice_of: Callable[..., Notice]
) -> None:
    """Kind and title by the alert's level and state, the alert in one line, the incident without secrets."""
    handler = Apprise(f"json://127.0.0.1:{server.port}/hook")
    handler.handle(notice_of(incident="s3://key:SECRET@bucket/incidents/1", **changes))
    (request,) = server.requests
    assert request.path == "/hook"
    assert (request.json["type"], request.json["title"]) == (kind, title)
    first, second = request.json["message"].splitlines()
    assert "spike" in first
    assert "Loss spike" in first
    assert second == "s3://bucket/incidents/1"


def test_a_title_is_one_line(server: Any, notice_of: Callable[..., Notice]) -> None:
    """A run's id is any text, and a title becomes a header of a mail."""
    run = RunInfo("r1\r\nBcc: x\x1b[2J")
    Apprise(f"json://127.0.0.1:{server.port}/hook").handle(notice_of(run=run))
    assert server.requests[0].json["title"] == "WARNING spike in run r1 Bcc: x?[2J"


def test_several_services(
    server: Any, other_server: Any, monkeypatch: pytest.MonkeyPatch, notice_of: Callable[..., Notice]
) -> None:
    """One that fails is tried again; the other is told once."""
    urls = f" json://127.0.0.1:{server.port}/a,b , json://127.0.0.1:{other_server.port}/c,"
    monkeypatch.setenv("ENTRENAR_APPRISE_URLS", urls)
    server.answers = [(500, {}), (200, {})]
    Apprise().handle(notice_of())
    assert [one.path for one in server.requests] == ["/a%2Cb"] * 2
    assert [one.path for one in other_server.requests] == ["/c"]


def test_failures_and_secrets(
    server: Any, other_server: Any, caplog: pytest.LogCaptureFixture, notice_of: Callable[..., Notice]
) -> None:
    """A service that never works is told by its scheme; at DEBUG no URL is in any log."""
    caplog.set_level(logging.DEBUG)
    bad = f"json://me:SECRET@127.0.0.1:{server.port}/SECRET"
    good = f"json://127.0.0.1:{other_server.port}/SECRET"
    server.answers = [(500, {})]
    handler = Apprise(bad, good, deadline_seconds=0.3)
    assert repr(handler) == "Apprise(json, json)"
    with pytest.raises(DeliveryError, match=r"^not delivered to json:// \(of 2 services\)$") as caught:
        handler.handle(notice_of())
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    deliveries = Deliveries([handler])
    deliveries.send(notice_of())
    assert deliveries.close(SECONDS) == []
    assert deliveries.failures == {"apprise": 1}
    assert len(other_server.requests) == 2
    assert "SECRET" not in caplog.text
    assert "127.0.0.1" not in caplog.text
    assert "apprise failed (not delivered to json://… (of 2 services));" in caplog.text


@pytest.mark.parametrize("url", ["nonsense://SECRET", "SECRET", "json://", "mailto://SECRET"])
def test_a_bad_url(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused when the handler is made, with its scheme at most."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match="expected URLs of Apprise services") as caught:
        Apprise(url)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value)) + caplog.text


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"pip install 'entrenar-otel\[apprise\]'"):
        Apprise("json://localhost")
