"""Where alerts go: the log, a webhook, Alertmanager, chats and pagers, your own function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from entrenar_otel.handlers.alertmanager import Alertmanager
from entrenar_otel.handlers.apprise import Apprise
from entrenar_otel.handlers.deliveries import Deliveries
from entrenar_otel.handlers.handler import Handler, Notice, RunInfo, as_handler
from entrenar_otel.handlers.log import Log, one_line
from entrenar_otel.handlers.webhook import Webhook

__all__ = [
    "Alertmanager",
    "Apprise",
    "Deliveries",
    "Handler",
    "Log",
    "Notice",
    "RunInfo",
    "Webhook",
    "as_handler",
    "from_environment",
    "one_line",
]


class Variables(Protocol):
    """The part of `[monitor.andon]` that is used here: names of environment variables."""

    @property
    def webhook_env(self) -> str: ...
    @property
    def alertmanager_env(self) -> str: ...


def from_environment(environ: Mapping[str, str], settings: Variables) -> list[Handler]:
    """The handlers whose environment variable is set. Raises ConfigError where its value is invalid.

    >>> from entrenar_processors.config.models import AndonSettings
    >>> from_environment({"ENTRENAR_WEBHOOK_URL": "http://localhost:8000/hook"}, AndonSettings())
    [Webhook(http://localhost:8000)]
    """

    def is_set(name: str) -> bool:
        return bool(environ.get(name, "").strip())

    chosen: list[Handler] = []
    if is_set(settings.webhook_env):
        chosen.append(Webhook(env=settings.webhook_env, environ=environ))
    if is_set(settings.alertmanager_env):
        chosen.append(Alertmanager(env=settings.alertmanager_env, environ=environ))
    if is_set("ENTRENAR_APPRISE_URLS"):
        chosen.append(Apprise(environ=environ))
    return chosen
