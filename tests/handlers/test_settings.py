"""Settings: what cannot be is refused when the handler is made, by name, and without its secrets."""

from __future__ import annotations

from typing import Any

import pytest
from entrenar_processors.config.models import AndonSettings

from entrenar_otel.errors import ConfigError
from entrenar_otel.handlers import Alertmanager, Apprise, Webhook, from_environment


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("hooks.example.com/SECRET", "text that is no URL"),
        ("ftp://SECRET/x", "ftp://…"),
        ("https://", "https://…"),
        ("https:///SECRET", "https://…"),
        ("https://host:port/SECRET", "https://host:port"),
        ("https://[::1/SECRET", "https://…"),
        ("https://host/SE CRET", "https://host"),
        ("", "text that is no URL"),
    ],
)
@pytest.mark.parametrize("kind", [Webhook, Alertmanager])
def test_urls_that_are_none(kind: Any, url: str, shown: str) -> None:
    with pytest.raises(
        ConfigError, match=r"\(url\): expected a URL such as https://host/path, got "
    ) as caught:
        kind(url)
    assert str(caught.value).endswith(f"got {shown}")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds: expected seconds above 0, got 0"),
        ({"deadline_seconds": float("nan")}, "deadline_seconds: expected seconds above 0, got nan"),
        ({"min_level": "loud"}, "min_level: expected one of INFO, WARNING, ERROR, CRITICAL, got 'loud'"),
        ({"headers": {"a b": "c"}}, "expected a header's name, got 'a b'"),
        ({"headers": {"X-Key": "SECRET\n"}}, "X-Key: expected printable ASCII text, got 7 characters"),
        ({"environ": {"ENTRENAR_WEBHOOK_SECRET": "SECRET\n"}}, "ENTRENAR_WEBHOOK_SECRET: expected printable"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        Webhook("http://localhost", **settings)
    assert "SECRET\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Webhook, "ENTRENAR_WEBHOOK_URL"),
        (Alertmanager, "ENTRENAR_ALERTMANAGER_URL"),
        (Apprise, "ENTRENAR_APPRISE_URLS"),
    ],
)
def test_a_variable_that_is_missing(kind: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"in the environment variable {name}, found none: set it"):
        kind()


def test_from_the_environment() -> None:
    """Those whose variable is set, by the names that the file gives."""
    assert from_environment({}, AndonSettings()) == []
    assert from_environment({"ENTRENAR_WEBHOOK_URL": " "}, AndonSettings()) == []
    environ = {"HOOK": "https://a/SECRET", "AM": "https://b/SECRET", "ENTRENAR_APPRISE_URLS": "json://SECRET"}
    found = from_environment(environ, AndonSettings(webhook_env="HOOK", alertmanager_env="AM"))
    assert repr(found) == "[Webhook(https://a), Alertmanager(https://b), Apprise(json)]"
    with pytest.raises(ConfigError, match=r"^HOOK: expected a URL"):
        from_environment({"HOOK": "SECRET"}, AndonSettings(webhook_env="HOOK"))
