"""`/metrics` over HTTP, for Prometheus to scrape where there is no Collector.

It listens on loopback unless told otherwise, and runs one collection at a time. Nothing here delays the
training loop, the exit of the process, or a fork.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

from entrenar_otel.console import logger, say
from entrenar_otel.errors import guard
from entrenar_otel.prometheus.exposition import Exposition
from entrenar_otel.prometheus.labels import RESOURCE_LABELS
from entrenar_otel.prometheus.scrapes import Scrapes
from entrenar_otel.prometheus.server import PLACE, PageServer
from entrenar_otel.web.bounded_server import tls_context

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData

    from entrenar_otel.prometheus.targets import TargetFile

COLLECT_SECONDS = 8.0  # Prometheus gives up after 10
_NEXT_PORTS = 100  # so many are tried


class MetricsPage:
    """Serves what `collect` returns at `http://host:port/metrics` (port 0: any free one).

    `next_free`: where the port is busy, the next one that is free. `targets`: the file that says where it
    listens, written where that is not known beforehand. `token`: clients must send it as
    `Authorization: Bearer …`. `certfile`, `keyfile`: PEM files, for HTTPS. `resource_labels`: resource
    attribute → the label on every series.
    """

    def __init__(
        self,
        collect: Callable[[], MetricsData | None],
        *,
        host: str = "localhost",
        port: int = 9464,
        next_free: bool = False,
        targets: TargetFile | None = None,
        token: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        resource_labels: Mapping[str, str] = RESOURCE_LABELS,
    ) -> None:
        self._host, self._port = host, port
        self._ports = range(port, min(port + _NEXT_PORTS, 65536)) if next_free else (port,)
        self._targets = targets if next_free or not port else None
        self._token = (token or "").strip().encode()  # of a file, a token has a line break
        self._certfile, self._keyfile = certfile, keyfile
        self._exposition = Exposition(resource_labels)
        self._collection = _Collection(collect)
        self._scrapes = Scrapes()
        self._server: PageServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on; before `start`, the requested one."""
        return self._port

    @property
    def url(self) -> str:
        """The page's address."""
        return f"{self._scheme}://{self._place(self._host)}/metrics"

    @property
    def _scheme(self) -> str:
        return "https" if self._certfile else "http"

    def _place(self, host: str) -> str:
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    def start(self) -> bool:
        """Listen, and serve on threads of its own. Where that fails, warn and return False."""
        if self._server is not None:
            return True
        try:
            context = tls_context(self._certfile, self._keyfile)
        except (OSError, ValueError) as error:
            logger.warning("no /metrics page: cannot load the certificate %s or its key (%s); training goes "
                           "on without the page", self._certfile, error)  # fmt: skip
            return False
        for page in list(_lingering):  # of an earlier run: whoever scrapes is told of this one
            page.close()
        try:
            server = self._listen(context)
        except (OSError, ValueError, OverflowError) as error:
            logger.warning("no /metrics page: cannot listen on port %s of %s (%s); training goes on without "
                           "the page. Stop the program that uses the port, or set "
                           "OTEL_EXPORTER_PROMETHEUS_PORT to another one (0: any free port; %s+: the next "
                           "free one)", self._port, self._host, error, self._port or 9464)  # fmt: skip
            return False
        self._port = server.server_address[1]
        self._server = server
        if self._targets is not None:
            self._targets.write(self._place(self._reached_at(server)), self._scheme)
        if not self._token and not server.is_local:
            _warn_once(self._host, self._port)
        _pages.add(self)
        self._thread = threading.Thread(
            target=self._serve, args=(server,), name="entrenar-metrics-page", daemon=True
        )
        self._thread.start()
        return True

    def _listen(self, context: ssl.SSLContext | None) -> PageServer:
        """Raises OSError where none of the ports is free."""
        for port in self._ports:
            try:
                return PageServer(self._host, port, self._answer, self._token, context, self._scrapes)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port == self._ports[-1]:
                    raise
        raise ValueError(f"expected a port from 0 to 65535, got {self._port}")

    def _reached_at(self, server: PageServer) -> str:
        """The host by which Prometheus reaches it."""
        is_any = ipaddress.ip_address(str(server.server_address[0]).partition("%")[0]).is_unspecified
        return socket.gethostname() if is_any else self._host

    def _serve(self, server: PageServer) -> None:
        server.serve()
        self._gone(server)

    def _gone(self, server: PageServer) -> None:
        server.server_close()
        _lingering.discard(self)
        if self._targets is not None:
            self._targets.remove()

    def linger(self, most_seconds: float) -> None:
        """The run is over: go on until its last state was scraped once, and that long at most.

        Only where somebody scrapes regularly, and then for two of the intervals. It is not waited for here:
        at the exit of the process, `wait_for_scrapes` does.
        """
        seconds = min(most_seconds, self._scrapes.next_within(monotonic()))
        if self._server is not None and seconds > 0:
            self._collection.forget()  # what is being collected may still have the state before
            self._scrapes.await_one(seconds)
            self._server.wake()
            _lingering.add(self)

    @property
    def is_lingering(self) -> bool:
        """Whether it goes on until a scrape comes."""
        return self in _lingering

    def wait_for_scrape(self) -> None:
        """Wait until the last state was scraped, or `linger`'s time is up; Ctrl-C ends it."""
        if (left := self._scrapes.left_seconds) > 0:
            say(f"{self.url} waits up to {left:.0f} s for one last scrape (Ctrl-C ends it, "
                "ENTRENAR_METRICS_LINGER=0 does without)")  # fmt: skip
            with contextlib.suppress(KeyboardInterrupt):
                self._scrapes.wait()
        self.close()

    def close(self, timeout_seconds: float = 2.0) -> None:
        """Stop listening; return in time, whatever clients and `collect` do."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_serving()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        self._gone(server)

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
        if self._targets is not None:
            self._targets.leave()


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
            future, is_new = self._running, self._running is None
            if future is None:
                future = self._running = Future()
        if is_new:
            try:
                threading.Thread(target=self._run, args=(future,), daemon=True).start()
            except RuntimeError:  # at the end of the process none can be started
                self._run(future)
        return future.result(seconds)

    def _run(self, future: Future[MetricsData | None]) -> None:
        try:
            data = self._collect()
        except BaseException as error:
            self._done(future)
            future.set_exception(error)
        else:
            self._done(future)
            future.set_result(data)

    def _done(self, future: Future[MetricsData | None]) -> None:
        if self._running is future:
            self._running = None


def wait_for_scrapes() -> None:
    """At the exit of the process: see `MetricsPage.linger`."""
    for page in list(_lingering):
        page.wait_for_scrape()


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
_lingering: set[MetricsPage] = set()


def _after_fork() -> None:
    _lingering.clear()
    for page in list(_pages):
        page._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
