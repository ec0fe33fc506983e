"""`/metrics` over HTTP, for Prometheus to scrape where there is no Collector.

It listens on loopback unless told otherwise, and runs one collection at a time. Nothing here delays the
training loop, the exit of the process, or a fork.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import TYPE_CHECKING

from entrenar_otel.console import logger
from entrenar_otel.errors import guard
from entrenar_otel.prometheus.exposition import Exposition
from entrenar_otel.prometheus.labels import RESOURCE_LABELS
from entrenar_otel.prometheus.server import PLACE, PageServer

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

COLLECT_SECONDS = 8.0  # Prometheus gives up after 10


class MetricsPage:
    """Serves what `collect` returns at `http://host:port/metrics` (port 0: any free one).

    `token`: clients must send it as `Authorization: Bearer …`. `certfile`, `keyfile`: PEM files, for
    HTTPS. `resource_labels`: resource attribute → the label on every series.
    """

    def __init__(
        self,
        collect: Callable[[], MetricsData | None],
        *,
        host: str = "localhost",
        port: int = 9464,
        token: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        resource_labels: Mapping[str, str] = RESOURCE_LABELS,
    ) -> None:
        self._host, self._port = host, port
        self._token = (token or "").strip().encode()  # of a file, a token has a line break
        self._certfile, self._keyfile = certfile, keyfile
        self._exposition = Exposition(resource_labels)
        self._collection = _Collection(collect)
        self._server: PageServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on; before `start`, the requested one."""
        return self._port

    @property
    def url(self) -> str:
        """The page's address."""
        scheme = "https" if self._certfile else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}/metrics"

    def start(self) -> bool:
        """Listen, and serve on threads of its own. Where that fails, warn and return False."""
        if self._server is not None:
            return True
        try:
            context = self._tls()
        except (OSError, ValueError) as error:
            logger.warning("no /metrics page: cannot load the certificate %s or its key (%s); training goes "
                           "on without the page", self._certfile, error)  # fmt: skip
            return False
        try:
            server = PageServer(self._host, self._port, self._answer, self._token, context)
        except (OSError, ValueError, OverflowError) as error:
            logger.warning("no /metrics page: cannot listen on port %s of %s (%s); training goes on without "
                           "the page. Stop the program that uses the port, or set "
                           "OTEL_EXPORTER_PROMETHEUS_PORT to another one (0: any free port)",
                           self._port, self._host, error)  # fmt: skip
            return False
        self._port = server.server_address[1]
        self._server = server
        if not self._token and not server.is_local:
            _warn_once(self._host, self._port)
        _pages.add(self)
        self._thread = threading.Thread(target=server.serve, name="entrenar-metrics-page", daemon=True)
        self._thread.start()
        return True

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop listening; return in time, whatever clients and `collect` do."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_serving()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        server.server_close()

    def _tls(self) -> ssl.SSLContext | None:
        if not self._certfile:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # OpenSSL would ask for a password at the terminal, and wait.
        context.load_cert_chain(self._certfile, self._keyfile, password=lambda: "")
        return context

    def _answer(self, openmetrics: bool) -> tuple[HTTPStatus, bytes]:
        """The page, or an error. Runs on handler threads."""
        failed = HTTPStatus.INTERNAL_SERVER_ERROR, b"the metrics could not be collected; see the log\n"
        with contextlib.suppress(Exception), guard(PLACE):  # guard re-raises in tests
            try:
                data = self._collection.result(COLLECT_SECONDS)
            except TimeoutError as error:
                failed = HTTPStatus.SERVICE_UNAVAILABLE, b"collecting the metrics takes too long\n"
                raise TimeoutError(f"collecting took more than {COLLECT_SECONDS:g} s") from error
            return HTTPStatus.OK, self._exposition.write(data, openmetrics=openmetrics)
        return failed

    def _leave_to_parent(self) -> None:
        """In a forked child: close its copies of the sockets, so that only the parent has the port."""
        server, self._server = self._server, None
        self._collection.forget()
        if server is not None:
            server.drop_sockets()


class _Collection:
    """Calls `collect` on a thread, one call at a time; all who ask meanwhile get the same answer."""

    def __init__(self, collect: Callable[[], MetricsData | None]) -> None:
        self._collect = collect
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._running: Future[MetricsData | None] | None = None

    def result(self, seconds: float) -> MetricsData | None:
        """Raises TimeoutError, or what `collect` raised."""
        with self._lock:
            future = self._running
            if future is None:
                future = self._running = Future()
                threading.Thread(target=self._run, args=(future,), daemon=True).start()
        return future.result(seconds)

    def _run(self, future: Future[MetricsData | None]) -> None:
        try:
            data = self._collect()
        except BaseException as error:
            self._running = None
            future.set_exception(error)
        else:
            self._running = None
            future.set_result(data)


def _warn_once(host: str, port: int) -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        logger.warning(
            "/metrics listens on port %s of %s without a token: whoever reaches this host can read the "
            "metrics, with their tags. Set ENTRENAR_METRICS_TOKEN, and the same token as the credentials of "
            "Prometheus, or OTEL_EXPORTER_PROMETHEUS_HOST=localhost", port, host,
        )  # fmt: skip


_has_warned = False
_pages: weakref.WeakSet[MetricsPage] = weakref.WeakSet()


def _after_fork() -> None:
    for page in list(_pages):
        page._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
