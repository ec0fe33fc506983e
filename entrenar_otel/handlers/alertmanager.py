"""Alertmanager: posts alerts as Prometheus does, again and again while they fire."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from entrenar_processors.alert import Level

from entrenar_otel.console import logger
from entrenar_otel.handlers.endpoint import (
    Endpoint,
    OfEndpoint,
    bearer,
    checked_seconds,
    checked_url,
    from_variable,
)
from entrenar_otel.handlers.handler import Notice, checked_level
from entrenar_otel.handlers.payload import annotations_of, fingerprint, generator_url, labels_of, time_text

_PATH = "/api/v2/alerts"
_BATCH = 64  # alerts in a request, as Prometheus has it
MAX_ACTIVE = 1000  # alerts that are posted again; of more, the oldest are not
_TRIED_FOR_NS = 15 * 60 * 1_000_000_000  # for an end that is not accepted, as Prometheus has it


@dataclass
class _Active:
    notice: Notice
    due: float = 0.0  # on the monotonic clock


class Alertmanager(OfEndpoint):
    """POSTs to `/api/v2/alerts`; alerts that fire again every `repeat_seconds`.

    To Alertmanager an alert is over when its `endsAt` has passed. So each post sets that to four repeats
    from now, as Prometheus does; the last post has the real end. An alert that still fires when the process
    dies ends within four repeats. What could not be posted goes with the next repeat.

    >>> Alertmanager("http://localhost:9093")
    Alertmanager(http://localhost:9093)
    """

    name = "alertmanager"

    def __init__(
        self,
        url: str | None = None,
        *,
        env: str = "ENTRENAR_ALERTMANAGER_URL",
        token_env: str = "ENTRENAR_ALERTMANAGER_TOKEN",  # noqa: S107 - a variable's name
        timeout_seconds: float = 5.0,
        deadline_seconds: float = 60.0,
        repeat_seconds: float = 60.0,
        min_level: Level | str = Level.WARNING,
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.min_level = checked_level(min_level)
        self._repeat = checked_seconds("repeat_seconds", repeat_seconds)
        self.tick_seconds = repeat_seconds / 4
        source = env if url is None else "Alertmanager(url)"
        given = from_variable(env, environ, "the URL of Alertmanager") if url is None else url
        parts = urlsplit(checked_url(given, source))
        path = parts.path.rstrip("/").removesuffix(_PATH) + _PATH
        self._endpoint = Endpoint(
            parts._replace(path=path).geturl(),
            source=source,
            headers={**bearer(token_env, environ), **(headers or {})},
            timeout_seconds=timeout_seconds,
            deadline_seconds=deadline_seconds,
        )
        self._active: dict[str, _Active] = {}
        #: Alerts that fire still and are not kept alive any more.
        self.dropped = 0

    def handle(self, notice: Notice) -> None:
        key = fingerprint(labels_of(notice))
        known = self._active.get(key)
        if notice.alert.is_resolved and known and known.notice.alert.episode != notice.alert.episode:
            return  # a newer episode has the same labels, and to Alertmanager it is the same alert
        self._active.pop(key, None)
        if len(self._active) >= MAX_ACTIVE:
            del self._active[next(iter(self._active))]  # not posted again, it resolves by itself
            self.dropped += 1
            if self.dropped == 1:
                logger.warning("more than %d alerts fire: the oldest are not kept alive", MAX_ACTIVE)
        self._active[key] = _Active(notice)
        self._post([key])

    def repeat(self) -> None:
        """Post again the alerts that fire, and the ends that were not accepted."""
        now_ns = time.time_ns()
        for key, active in self._active.copy().items():
            ended = active.notice.alert.ended_ns
            if ended is not None and ended + _TRIED_FOR_NS < now_ns:
                del self._active[key]
        due = [key for key, active in self._active.items() if active.due <= time.monotonic()]
        for start in range(0, len(due), _BATCH):
            self._post(due[start : start + _BATCH])

    def _post(self, keys: list[str]) -> None:
        expires_ns = time.time_ns() + int(4 * self._repeat * 1e9)
        body = [_posted(self._active[key].notice, expires_ns) for key in keys]
        for key in keys:
            self._active[key].due = time.monotonic() + self._repeat
        self._endpoint.post(json.dumps(body).encode())
        for key in keys:
            if self._active[key].notice.alert.is_resolved:
                del self._active[key]


def _posted(notice: Notice, expires_ns: int) -> dict[str, Any]:
    alert, link = notice.alert, generator_url(notice)
    ends_ns = expires_ns if alert.ended_ns is None else alert.ended_ns
    return {
        "labels": labels_of(notice),
        "annotations": annotations_of(notice),
        "startsAt": time_text(alert.started_ns),
        "endsAt": time_text(max(ends_ns, alert.started_ns)),
        **({"generatorURL": link} if link else {}),
    }
