"""The small HTTP server under the page: GET and HEAD, eight requests at a time, each with a time limit."""

from __future__ import annotations

import contextlib
import gzip
import hmac
import ipaddress
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from time import monotonic
from typing import Any

from entrenar_otel.errors import guard
from entrenar_otel.prometheus.scrapes import Scrapes

PLACE = "the /metrics page"
REQUESTS = 8  # at a time; more get 503
READ_SECONDS = 5.0  # for one read from or write to a client
_LOOK_SECONDS = 0.5  # how often `serve` looks whether to go on
REQUEST_SECONDS = 20.0  # for a whole request, after which the connection is cut
_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class PageServer(ThreadingMixIn, TCPServer):
    """Accepts connections and serves each on its own daemon thread."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True  # not to wait for the last run's connections to time out
    allow_reuse_port = False  # or a second page would silently share the port
    request_queue_size = 16

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[bool], tuple[HTTPStatus, bytes]],
        token: bytes,
        context: ssl.SSLContext | None,
        scrapes: Scrapes,
    ) -> None:
        known = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = min(known, key=lambda info: info[0] != socket.AF_INET)
        where: Any = (address[0], port)
        self.answer, self.token, self._context, self.scrapes = answer, token, context, scrapes
        self._free = threading.BoundedSemaphore(REQUESTS)
        self._since: dict[socket.socket, float] = {}
        self._closing = False
        super().__init__(where, _Handler)

    def serve(self) -> None:
        """Answer requests until `stop_serving`, or until the last scrape was there that the end waits for.

        `serve_forever` is ended by `shutdown`, from another thread; at the exit of the process none can
        be started.
        """
        self.timeout = _LOOK_SECONDS
        while not self._closing and not self.scrapes.is_over:
            self.handle_request()
            self._cut_overdue()

    def stop_serving(self) -> None:
        """Let `serve` return, half a second later at most."""
        self._closing = True

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(READ_SECONDS)
        if self._context is None:
            return connection, address
        try:  # the handler's thread does the handshake, with its first read
            wrapped = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except OSError:  # gone already
            connection.close()
            raise
        return wrapped, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            if self._context is None:
                with contextlib.suppress(OSError):
                    request.recv(65536, socket.MSG_DONTWAIT)  # unread data would reset the connection
                with contextlib.suppress(OSError):
                    request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\n\r\nbusy\n")
            self.shutdown_request(request)
            return
        self._since[request] = monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no more threads
            if not self.scrapes.is_awaited:
                self._forget(request)
                raise
            # The process is at its end, where none can be started; whoever waits does so on another thread.
            self.process_request_thread(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: Any) -> None:
        self._since.pop(request, None)
        self._free.release()

    def _cut_overdue(self) -> None:
        """Cut the connections whose time is up."""
        overdue = monotonic() - REQUEST_SECONDS
        for connection, since in self._since.copy().items():
            if since < overdue:
                with contextlib.suppress(OSError):  # not the TLS layer, which the handler is using
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # a client that hangs up is no failure
            with contextlib.suppress(Exception), guard(PLACE):
                raise error

    def drop_sockets(self) -> None:
        for connection in (self.socket, *self._since):
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """One request per connection (HTTP/1.0)."""

    server: PageServer
    timeout = READ_SECONDS

    def do_GET(self) -> None:
        if not self._may():
            self._send(HTTPStatus.UNAUTHORIZED, b"a bearer token is required\n", WWW_Authenticate="Bearer")
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(HTTPStatus.OK, b'<a href="/metrics">metrics</a>\n', "text/html; charset=utf-8")
        elif path == "/metrics":
            self._send_metrics()
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not found: try /metrics\n")

    do_HEAD = do_GET  # noqa: N815 - the standard library calls it by this name

    def _send_metrics(self) -> None:
        begun = monotonic()
        accept = self.headers.get_all("Accept")
        weight = _weight(accept, "application/openmetrics-text")
        openmetrics = weight > 0 and weight >= _weight(accept, "text/plain")
        status, body = self.server.answer(openmetrics)
        if status is not HTTPStatus.OK:
            self._send(status, body)
            return
        vary = {"Vary": "Accept, Accept-Encoding"}
        if _weight(self.headers.get_all("Accept-Encoding"), "gzip") > 0:
            # Level 1: a quarter of the size, in a fifth of the default level's time.
            body = gzip.compress(body, 1)
            vary["Content_Encoding"] = "gzip"
        self._send(status, body, _OPENMETRICS if openmetrics else _TEXT, **vary)
        if self.command == "GET":
            self.server.scrapes.answered(str(self.client_address[0]), begun)

    def _may(self) -> bool:
        wanted = self.server.token
        if not wanted:
            return True
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), wanted)

    def _send(self, status: HTTPStatus, body: bytes, content_type: str = _TEXT, **headers: str) -> None:
        self.send_response(status)
        headers |= {"Content-Type": content_type, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what the standard library refuses: malformed, too long, or another method."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET and HEAD are allowed\n", Allow="GET, HEAD")
        else:
            status = HTTPStatus(code)
            self._send(status, f"{status.phrase}\n".encode())

    def version_string(self) -> str:
        return "entrenar-otel"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Log nothing: the terminal is the training run's."""


def _weight(accepted: list[str] | None, wanted: str) -> float:
    """A client's preference for a type or encoding, 0 where its headers do not name it."""
    for item in ",".join(accepted or ()).lower().split(","):
        name, _, parameters = item.partition(";")
        if name.strip() == wanted:
            q = re.search(r"(?:^|;)\s*q\s*=\s*([01](?:\.\d+)?)", parameters)
            return float(q[1]) if q else 1.0
    return 0.0
