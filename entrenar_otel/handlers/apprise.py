"""Apprise: chats, mail and pagers, through the apprise package."""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

from entrenar_processors.alert import Alert, Level

from entrenar_otel.delivery.exchange import Exchange
from entrenar_otel.errors import ConfigError
from entrenar_otel.handlers.endpoint import (
    Temporary,
    checked_seconds,
    from_variable,
    retrying,
    unobserved,
)
from entrenar_otel.handlers.handler import Notice, checked_level
from entrenar_otel.handlers.log import one_line
from entrenar_otel.redact import origin_of, printable_line, without_credentials

#: Loggers of whole URLs, at DEBUG; apprise also logs failures, which we report ourselves.
_LOGGERS = ("apprise", "urllib3.connectionpool")


class Apprise:
    """Sends each alert to every URL, by default to those in ENTRENAR_APPRISE_URLS (`slack://… mailto://…`).

    A service that fails is tried again until `deadline_seconds`; the others do not get the alert twice.
    All of such a URL can be secret: only its scheme is shown. Needs the extra `apprise`.
    """

    name = "apprise"

    def __init__(
        self,
        *urls: str,
        env: str = "ENTRENAR_APPRISE_URLS",
        deadline_seconds: float = 60.0,
        min_level: Level | str = Level.WARNING,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.min_level = checked_level(min_level)
        self._deadline = checked_seconds("deadline_seconds", deadline_seconds)
        source = "Apprise(urls)" if urls else env
        environ = os.environ if environ is None else environ
        given = urls or _split(from_variable(env, environ, "URLs of Apprise services"))
        self._services = [_Service(url.partition(":")[0], _service(url, source)) for url in given]

    def handle(self, notice: Notice) -> None:
        failed = []
        for service in self._services:
            try:
                deadline = time.monotonic() + self._deadline
                retrying(self._deadline)(service.notify, notice, deadline)
            except Temporary:
                failed.append(f"{service.scheme}://")
        if failed:
            raise Temporary(f"not delivered to {', '.join(failed)} (of {len(self._services)} services)")

    def __repr__(self) -> str:
        return f"Apprise({', '.join(service.scheme for service in self._services)})"


def _split(text: str) -> list[str]:
    """URLs separated by spaces or commas, which a URL may also contain."""
    return re.split(r"[\s,]+(?=[A-Za-z0-9+.-]+://)", text.strip(" ,"))


def _service(url: str, source: str) -> Any:
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            "the Apprise handler needs the apprise package: pip install 'entrenar-otel[apprise]'"
        ) from None
    # Not async: on threads that apprise starts for it, requests would be observed.
    service = apprise.Apprise(asset=apprise.AppriseAsset(async_mode=False, app_id="entrenar-otel"))
    with unobserved(*_LOGGERS), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the plugins that it imports here
        is_one = service.add(url) and len(service) == 1
    if not is_one:
        raise ConfigError(
            f"{source}: expected URLs of Apprise services (https://appriseit.com), separated by spaces, "
            f"got {origin_of(url)}, which is not one"
        )
    return service


class _Service:
    """One service: its scheme, which is all that may be shown of it, and apprise's object."""

    def __init__(self, scheme: str, apprise: Any) -> None:
        self.scheme = scheme
        self._apprise = apprise
        self._last = Exchange(0.0)

    def notify(self, notice: Notice, deadline: float) -> None:
        """Send it. Raises Temporary."""
        if self._last.is_hanging:  # one that does not end is enough
            raise Temporary(f"the {self.scheme}:// service has not answered yet")
        alert = notice.alert
        incident = f"\n{without_credentials(notice.incident)}" if notice.incident else ""
        state = "RESOLVED" if alert.is_resolved else alert.level
        title = printable_line(f"{state} {alert.name} in run {notice.run.run_id}")
        body, is_sent = f"{one_line(alert)}{incident}", False
        send = partial(self._apprise.notify, body, title=title, notify_type=_kind(alert), body_format="text")
        self._last = Exchange(deadline - time.monotonic())
        with unobserved(*_LOGGERS), contextlib.suppress(Exception):  # its text can hold the URL
            is_sent = bool(self._last.run(send))
        if not is_sent:
            raise Temporary(f"the {self.scheme}:// service did not accept the alert")


def _kind(alert: Alert) -> Any:
    from apprise import NotifyType

    if alert.is_resolved:
        return NotifyType.SUCCESS
    urgent = alert.level.rank >= Level.ERROR.rank
    return NotifyType.FAILURE if urgent else getattr(NotifyType, alert.level.value)
