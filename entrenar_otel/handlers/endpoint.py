"""Endpoint: a URL to POST to, with retries until a deadline; shown as scheme://host only."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from entrenar_otel._version import __version__
from entrenar_otel.delivery.exchange import Exchange
from entrenar_otel.delivery.proxy import proxy_for
from entrenar_otel.delivery.retry_after import retry_after_seconds
from entrenar_otel.errors import ConfigError, DeliveryError
from entrenar_otel.otel.sdk_seams import suppress_instrumentation
from entrenar_otel.redact import origin_of, without_secrets

if TYPE_CHECKING:
    import ssl

    import httpx
    from tenacity import RetryCallState, Retrying

#: The longest wait between two attempts; the first is half a second, and each doubles it.
_MAX_WAIT_SECONDS = 10.0
#: Where the environment has certificates of its own.
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
#: How long a name that cannot be resolved at the moment is tried again.
_NAME_SECONDS = 5.0


class Temporary(DeliveryError):
    """A failure that is retried; `after_seconds` is how long the other side asked to wait."""

    def __init__(self, message: str, after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.after_seconds = after_seconds


class Unresolved(Temporary):
    """The name server did not answer: retried for some seconds, since there may be none."""


class Endpoint:
    """Where to POST. Raises ConfigError where the URL, a header or a time is invalid."""

    def __init__(
        self,
        url: str,
        *,
        source: str,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 5.0,
        deadline_seconds: float = 60.0,
    ) -> None:
        self._url = checked_url(url, source)
        self._headers = {
            "Content-Type": "application/json",
            "User-Agent": f"entrenar-otel/{__version__}",
            **{name: checked_header(name, value) for name, value in (headers or {}).items()},
        }
        self._timeout = checked_seconds("timeout_seconds", timeout_seconds)
        self._deadline = checked_seconds("deadline_seconds", deadline_seconds)
        #: Why the last attempt failed, where it did.
        self.problem: str | None = None
        _import_rich()

    def __repr__(self) -> str:
        return origin_of(self._url)

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """POST these bytes until they are accepted. Raises DeliveryError: refused, or not in time."""
        import httpx

        sent = {**self._headers, **(headers or {})}
        deadline = time.monotonic() + self._deadline
        proxy = proxy_for(self._url)
        # `trust_env` would have it read all proxies, also those that do not concern this URL.
        settings: dict[str, Any] = {"trust_env": False, "timeout": self._timeout, "headers": sent}
        settings["verify"] = self._context if self._url.startswith("https:") else False
        try:
            client = httpx.Client(**settings, proxy=None if proxy is None else proxy.url)
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            assert proxy is not None  # all else was checked
            text = f"{proxy.variable} names the proxy {origin_of(proxy.url)}, which cannot be used"
            hint = ": pip install 'httpx[socks]'" if isinstance(error, ImportError) else ""
            raise self._failed(DeliveryError(f"{self!r} is not asked: {text}{hint}")) from None
        with unobserved("httpx"), client:
            # None begins that would be cut before its timeout.
            last_start = max(self._deadline - self._timeout, self._deadline / 2)
            retrying(last_start)(self._attempt, client, body, deadline)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        import httpx

        try:
            return httpx.create_ssl_context()  # reading the certificates takes longer than a request
        except OSError as error:
            given = next(
                (f"{name}={os.environ[name]}" for name in _CERTIFICATES if os.environ.get(name)), "certifi"
            )
            text = f"the certificates of {given} cannot be read"
            raise self._failed(DeliveryError(f"{self!r} is not asked: {text} ({error})")) from None

    def _failed(self, error: DeliveryError) -> DeliveryError:
        self.problem = str(error)
        return error

    def _attempt(self, client: httpx.Client, body: bytes, deadline: float) -> None:
        # Connecting, sending and answering have the timeout each, for every byte: a server that drips
        # would never reach it.
        seconds = min(3 * self._timeout, deadline - time.monotonic())
        exchange = Exchange(seconds)
        try:
            exchange.run(lambda: self._exchange(client, body, exchange))
        except TimeoutError:
            raise self._failed(Temporary(f"{self!r} did not answer within {seconds:.3g} s")) from None
        except DeliveryError as error:
            self._failed(error)
            raise
        self.problem = None

    def _exchange(self, client: httpx.Client, body: bytes, exchange: Exchange) -> None:
        import httpx

        status, after, location, problem = 0, 0.0, "", ""
        kind: type[DeliveryError] = Temporary
        try:
            with client.stream(
                "POST", self._url, content=body, follow_redirects=False, extensions={"trace": exchange.saw}
            ) as response:
                status = response.status_code
                after = retry_after_seconds(response.headers.get("Retry-After", ""))
                location = response.headers.get("Location", "")
        except httpx.ConnectError as error:
            problem = without_secrets(f"{type(error).__name__}: {error}")
            kind = _kind_of(error)
        except (httpx.HTTPError, httpx.InvalidURL) as error:  # its text can hold headers
            problem = type(error).__name__
        # Raised here and not above, where the context would be httpx's error, which has the request.
        if not status:
            proxy = proxy_for(self._url)
            through = "" if proxy is None else f" through the proxy {origin_of(proxy.url)} ({proxy.variable})"
            raise kind(f"{self!r} cannot be reached{through}: {problem}")
        if 200 <= status < 300:
            return
        answer = f"{self!r} answered {_phrase(status)}"
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500:
            raise Temporary(answer, after)
        if 300 <= status < 400:
            target = f" to {origin_of(location)}" if "://" in location else ""
            raise DeliveryError(f"{answer}{target}: redirects are not followed, set the final URL")
        raise DeliveryError(f"{answer}: refused, so not sent again")


class OfEndpoint:
    """A handler that posts to an endpoint: how it is shown, and why it did not get through."""

    _endpoint: Endpoint

    @property
    def problem(self) -> str | None:
        """Why the last attempt failed, where it did."""
        return self._endpoint.problem

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._endpoint!r})"


def _kind_of(error: BaseException) -> type[DeliveryError]:
    """Whether a connection that failed is tried again: not where it will fail in the same way."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return Unresolved if cause.errno == socket.EAI_AGAIN else DeliveryError
        if isinstance(cause, ssl.SSLCertVerificationError):
            return DeliveryError
        if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
            return DeliveryError  # no TLS there
        cause = cause.__cause__ or cause.__context__
    return Temporary


def _import_rich() -> None:
    """Import rich, which httpx imports too, with the global `random` left as it was."""
    state = random.getstate()
    import rich.style  # noqa: F401

    random.setstate(state)


def retrying(deadline_seconds: float) -> Retrying:
    """Retries after `Temporary` until the deadline, then raises it."""
    import tenacity

    backoff = tenacity.wait_exponential(0.5, max=_MAX_WAIT_SECONDS)
    jitter = random.Random()  # noqa: S311 - not the global one: a training may be seeded

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(
            backoff(state) + jitter.uniform(0, 0.5),
            error.after_seconds if isinstance(error, Temporary) else 0.0,
        )

    def stop(state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        seconds = min(deadline_seconds, _NAME_SECONDS) if isinstance(error, Unresolved) else deadline_seconds
        return tenacity.stop_before_delay(seconds)(state)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Temporary),
        stop=stop,
        wait=wait,
        reraise=True,
    )


def checked_url(url: str, source: str) -> str:
    """An http(s) URL with a host. Raises ConfigError, whose text shows none of its secrets."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not url.isprintable() or " " in url:
        raise ConfigError(f"{source}: expected a URL such as https://host/path, got {origin_of(url)}")
    return url


def checked_header(name: str, value: str) -> str:
    """A header's value. Raises ConfigError, whose text does not show it."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ConfigError(f"headers: expected the name of a header, got {name!r}")
    if not (value.isascii() and value.isprintable() and value.strip()):
        raise ConfigError(
            f"{name}: expected printable ASCII text; the value ({len(value)} characters) is not shown"
        )
    return value.strip()


def checked_seconds(name: str, value: float) -> float:
    """A finite time above 0. Raises ConfigError."""
    if not 0 < value < 1e6:
        raise ConfigError(f"{name}: expected a number of seconds above 0, got {value!r}")
    return value


def from_variable(name: str, environ: Mapping[str, str], what: str) -> str:
    """The value of an environment variable. Raises ConfigError where it is not set."""
    given = environ.get(name, "").strip()
    if not given:
        raise ConfigError(f"the environment variable {name} is not set; set it to {what}")
    return given


def bearer(name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The header for the token in an environment variable; none where it is not set."""
    token = environ.get(name, "").strip()
    return {"Authorization": f"Bearer {checked_header(name, token)}"} if token else {}


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


# -- libraries that log the whole URL ----------------------------------------------------------------

# Not thread-local: apprise sends on threads of its own, in a copy of the context.
_is_posting: ContextVar[bool] = ContextVar("entrenar_is_posting", default=False)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not _is_posting.get()


@contextlib.contextmanager
def unobserved(*loggers: str) -> Iterator[None]:
    """Keep the requests of this block from these loggers and from OpenTelemetry's instrumentation.

    httpx logs the whole URL at INFO, and for a chat's webhook the URL is the secret.
    """
    for name in loggers:
        logging.getLogger(name).addFilter(_is_not_ours)  # a filter that is there already is not added again
    ours = _is_posting.set(True)
    try:
        with suppress_instrumentation():
            yield
    finally:
        _is_posting.reset(ours)
