"""Webhook: POSTs alerts in the JSON that Alertmanager's webhook receivers understand."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping

from entrenar_processors.alert import Level

from entrenar_otel.handlers.endpoint import Endpoint, OfEndpoint, bearer, checked_header, from_variable
from entrenar_otel.handlers.handler import Notice, checked_level
from entrenar_otel.handlers.payload import webhook_body


class Webhook(OfEndpoint):
    """One POST when an alert fires and one when it ends, in the JSON of Alertmanager's webhook, version 4.

    A request is repeated after 429, 5xx and connection errors until `deadline_seconds`, with the same
    bytes and the same `Idempotency-Key`. Secrets come from environment variables only: the one named by
    `secret_env` signs the body as GitHub does (`X-Entrenar-Signature: sha256=<HMAC-SHA256 in hex>`), the
    one named by `token_env` is a bearer token. The URL may hold secrets too: it is shown as scheme://host.

    >>> Webhook("https://hooks.example.com/T0/B0")
    Webhook(https://hooks.example.com)
    """

    name = "webhook"

    def __init__(
        self,
        url: str | None = None,
        *,
        env: str = "ENTRENAR_WEBHOOK_URL",
        secret_env: str = "ENTRENAR_WEBHOOK_SECRET",  # noqa: S107 - a variable's name
        token_env: str = "ENTRENAR_WEBHOOK_TOKEN",  # noqa: S107 - a variable's name
        timeout_seconds: float = 5.0,
        deadline_seconds: float = 60.0,
        min_level: Level | str = Level.WARNING,
        headers: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.min_level = checked_level(min_level)
        self._secret = environ.get(secret_env, "").encode()
        if self._secret:
            checked_header(secret_env, self._secret.decode())
        self._endpoint = Endpoint(
            from_variable(env, environ, "the URL of the webhook") if url is None else url,
            source=env if url is None else "Webhook(url)",
            headers={**bearer(token_env, environ), **(headers or {})},
            timeout_seconds=timeout_seconds,
            deadline_seconds=deadline_seconds,
        )

    def handle(self, notice: Notice) -> None:
        body = json.dumps(webhook_body(notice)).encode()
        headers = {"Idempotency-Key": _key(notice)}
        if self._secret:
            headers["X-Entrenar-Signature"] = signature(self._secret, body)
        self._endpoint.post(body, headers)


def signature(secret: bytes, body: bytes) -> str:
    """The header's value; a receiver that knows the secret compares it in constant time.

    >>> signature(b"It's a Secret to Everybody", b"Hello, World!")  # the example of GitHub's documentation
    'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17'
    """
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


def _key(notice: Notice) -> str:
    run, alert = notice.run, notice.alert
    text = "\0".join((run.run_id, str(run.attempt), str(run.rank), alert.name, alert.episode, alert.state))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
