"""HTTP client: requests as protobuf over HTTP."""

from __future__ import annotations

import gzip
from typing import Any
from urllib.parse import urlsplit

import httpx

from entrenar_otel._version import __version__
from entrenar_otel.delivery.exchange import Exchange
from entrenar_otel.delivery.proxy import proxy_for
from entrenar_otel.delivery.retry_after import retry_after_seconds
from entrenar_otel.otel.otlp.answer import Answer, Verdict, accepted
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.redact import origin_of, without_secrets

_RETRIED = frozenset({408, 429, 502, 503, 504})
_UNWELCOME = frozenset({401, 402, 403, 404, 405, 407, 410, 415, 501, 505, 511})
#: Of an answer, which is a few bytes.
_MAX_ANSWER = 64 << 10


class HttpClient:
    """See `answer.Client`. Raises OSError for certificates, ValueError for an invalid URL or proxy."""

    def __init__(self, settings: LogSettings) -> None:
        self._url = settings.endpoint
        parts = urlsplit(self._url)
        if (
            parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
        ):  # or it raises itself
            raise ValueError("expected a URL such as http://localhost:4318")
        self._gzip = settings.gzip
        headers = {
            "content-type": "application/x-protobuf",
            "user-agent": f"entrenar-otel/{__version__}",
            **settings.headers,
        }
        if self._gzip:
            headers["content-encoding"] = "gzip"
        proxy = proxy_for(self._url)
        self._through = (
            "" if proxy is None else f"through the proxy {origin_of(proxy.url)} ({proxy.variable}): "
        )
        try:
            self._client = httpx.Client(
                headers=headers,
                verify=_context(settings),
                trust_env=False,  # it would look at all proxies of the environment
                proxy=None if proxy is None else proxy.url,
                follow_redirects=False,
            )
        except (ImportError, ValueError) as error:
            if proxy is None:
                raise
            hint = ": pip install 'httpx[socks]'" if isinstance(error, ImportError) else ""
            raise ValueError(f"{self._through}it cannot be used{hint}") from None

    def send(self, body: bytes, timeout_seconds: float) -> Answer:
        data = gzip.compress(body, 1) if self._gzip else body
        exchange = Exchange(timeout_seconds)
        try:
            answer: Answer = exchange.run(lambda: self._exchange(data, timeout_seconds, exchange))
        except (TimeoutError, httpx.TimeoutException):
            why = f"{self._through}no answer within {timeout_seconds:.3g} s"
            return Answer(Verdict.RETRY, why, is_timeout=True)
        except (httpx.ConnectError, httpx.ProxyError) as error:
            why = without_secrets(f"{type(error).__name__}: {error}"[:500])
            return Answer(Verdict.RETRY, f"{self._through}{why}")
        except Exception as error:  # its text can hold headers
            return Answer(Verdict.RETRY, f"{self._through}{type(error).__name__}")
        return answer

    def _exchange(self, data: bytes, timeout_seconds: float, exchange: Exchange) -> Answer:
        with self._client.stream(
            "POST", self._url, content=data, timeout=timeout_seconds, extensions={"trace": exchange.saw}
        ) as response:
            body = b""
            for part in response.iter_bytes(_MAX_ANSWER):
                body += part
                if len(body) > _MAX_ANSWER:
                    break
        return _answer_of(response, body)

    def close(self) -> None:
        self._client.close()


def _answer_of(response: httpx.Response, body: bytes) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return accepted(body)
    why = f"{status} {response.reason_phrase}".strip()
    if (text := _message_of(body)) and status not in (401, 403):
        why = without_secrets(f"{why}: {text}")
    if status in _RETRIED:
        return Answer(Verdict.RETRY, why, retry_after_seconds(response.headers.get("Retry-After", "")))
    is_unwelcome = status in _UNWELCOME or 300 <= status < 400
    return Answer(Verdict.UNWELCOME if is_unwelcome else Verdict.REFUSED, why)


def _message_of(body: bytes) -> str:
    """What a `google.rpc.Status` in the answer says; nothing where there is none."""
    try:
        from google.rpc.status_pb2 import Status

        return str(Status.FromString(body).message)[:300]
    except Exception:  # from the network, and without the extra's part for it
        return ""


def _context(settings: LogSettings) -> Any:
    """TLS as the settings say; where the URL has none, none is made ready, which takes 20 ms."""
    if not settings.endpoint.startswith("https:"):
        return False
    import ssl

    certificate = None if settings.certificate is None else str(settings.certificate)
    context = (
        httpx.create_ssl_context() if certificate is None else ssl.create_default_context(cafile=certificate)
    )
    if settings.client_certificate is not None:
        key = None if settings.client_key is None else str(settings.client_key)
        context.load_cert_chain(str(settings.client_certificate), key)
    return context
