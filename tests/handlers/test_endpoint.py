"""Endpoint: invalid settings are refused when the handler is made, by name, and without their secrets."""

from __future__ import annotations

from typing import Any

import pytest

from entrenar_otel.errors import ConfigError
from entrenar_otel.handlers import Alertmanager, Apprise, Webhook


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("hooks.example.com/SECRET", "text that is not a URL"),
        ("ftp://SECRET/x", "ftp://…"),
        ("https://", "https://…"),
        ("https:///SECRET", "https://…"),
        ("https://host:port/SECRET", "https://…"),
        ("https://me:SECRET", "https://…"),
        ("https://[::1/SECRET", "https://…"),
        ("https://host/SE CRET", "https://host"),
        ("", "text that is not a URL"),
    ],
)
@pytest.mark.parametrize("kind", [Webhook, Alertmanager])
def test_bad_urls(kind: Any, url: str, shown: str) -> None:
    """The message shows what is expected, and of the URL its host at most."""
    with pytest.raises(
        ConfigError, match=r"\(url\): expected a URL such as https://host/path, got "
    ) as caught:
        kind(url)
    assert str(caught.value).endswith(f"got {shown}")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds: expected a number of seconds above 0, got 0"),
        (
            {"deadline_seconds": float("nan")},
            "deadline_seconds: expected a number of seconds above 0, got nan",
        ),
        ({"min_level": "loud"}, "min_level: expected one of INFO, WARNING, ERROR, CRITICAL, got 'loud'"),
        ({"headers": {"a b": "c"}}, "expected the name of a header, got 'a b'"),
        (
            {"headers": {"X-Key": "SECRET\n"}},
            r"X-Key: expected printable ASCII text; the value \(7 characters\)",
        ),
        ({"environ": {"ENTRENAR_WEBHOOK_SECRET": "SECRET\n"}}, "ENTRENAR_WEBHOOK_SECRET: expected printable"),
    ],
)
def test_bad_settings(settings: dict[str, Any], told: str) -> None:
    """The message has the name of the setting, and no secret."""
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
def test_a_variable_that_is_not_set(kind: Any, name: str) -> None:
    """The message has its name."""
    with pytest.raises(ConfigError, match=f"the environment variable {name} is not set; set it to "):
        kind()
