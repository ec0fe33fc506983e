"""From the environment: which handlers a run has without a line of code."""

from __future__ import annotations

import pytest
from entrenar_processors.config.models import AndonSettings

from entrenar_otel.errors import ConfigError
from entrenar_otel.handlers import from_environment


def test_from_the_environment() -> None:
    """Those whose variable is set, by the names that the file gives; an invalid value is an error."""
    assert from_environment({}, AndonSettings()) == []
    assert from_environment({"ENTRENAR_WEBHOOK_URL": " "}, AndonSettings()) == []
    environ = {"HOOK": "https://a/SECRET", "AM": "https://b/SECRET", "ENTRENAR_APPRISE_URLS": "json://SECRET"}
    handlers = from_environment(environ, AndonSettings(webhook_env="HOOK", alertmanager_env="AM"))
    assert repr(handlers) == "[Webhook(https://a), Alertmanager(https://b), Apprise(json)]"
    with pytest.raises(ConfigError, match=r"^HOOK: expected a URL"):
        from_environment({"HOOK": "SECRET"}, AndonSettings(webhook_env="HOOK"))
