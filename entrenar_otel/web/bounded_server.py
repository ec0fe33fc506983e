"""A small HTTP server: a bounded number of requests at a time, each on a thread and with a time limit."""

from __future__ import annotations

import contextlib
import ipaddress
import selectors
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from time import monotonic
from typing import Any

from entrenar_otel.errors import guard

_LOOK_SECONDS = 0.5  # how often `serve` looks after what has a time limit
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class BoundedServer(ThreadingMixIn, TCPServer):
    """Accepts connections and serves each on its own daemon thread."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True  # not to wait for the last run's connections to time out
    allow_reuse_port = False  # or a second server would silently share the port
    request_queue_size = 16
    #: What failures are said to be in.
    place = "an HTTP server"
    #: At a time; more get 503.
    requests = 8
    #: For one read from or write to a client.
    read_seconds = 5.0
    #: For a whole request, after which the connection is cut.
    request_seconds = 20.0

    def __init__(
        self,
        host: str,
        port: int,
        handler: type[BaseHTTPRequestHandler],
        token: bytes,
        context: ssl.SSLContext | None,
    ) -> None:
        known = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = min(known, key=lambda info: info[0] != socket.AF_INET)
        where: Any = (address[0], port)
        self.token, self._context = token, context
        self._free = threading.BoundedSemaphore(self.requests)
        self._since: dict[socket.socket, float] = {}
        self._closing = False
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        try:
            super().__init__(where, handler)
        except BaseException:
            self._drop_waker()
            raise

    def serve(self) -> None:
        """Answer requests until `stop_serving`, or until it `is_over`; asleep where there are none.

        `serve_forever` wakes twice a second, and is ended by `shutdown`, from another thread; at the exit of
        the process none can be started.
        """
        self.timeout = 0  # of `handle_request`
        try:
            with _Selector() as selector:
                selector.register(self.socket, selectors.EVENT_READ)
                selector.register(self._woken, selectors.EVENT_READ)
                while not self._closing and not self.is_over:
                    self._wait_and_handle(selector)
        except (OSError, ValueError):
            if not self._closing:
                raise  # else whoever stops it did not wait, and has closed the sockets

    def _wait_and_handle(self, selector: selectors.BaseSelector) -> None:
        has_limits = self.is_busy or self.is_at_exit
        for key, _ in selector.select(_LOOK_SECONDS if has_limits else None):
            if key.fileobj is self.socket:
                self.handle_request()
            else:
                self._woken.recv(4096)
        self._cut_overdue()

    def wake(self) -> None:
        """Let `serve` look at once whether to go on."""
        with contextlib.suppress(OSError):  # it is closed; or so many calls wait that it wakes in any case
            self._waker.send(b".")

    def stop_serving(self) -> None:
        """Let `serve` return."""
        self._closing = True
        self.wake()

    def server_close(self) -> None:
        super().server_close()
        self._drop_waker()

    def _drop_waker(self) -> None:
        self._woken.close()
        self._waker.close()

    @property
    def is_over(self) -> bool:
        """Whether `serve` ends by itself."""
        return False

    @property
    def is_at_exit(self) -> bool:
        """Whether it serves at the end of the process."""
        return False

    @property
    def is_busy(self) -> bool:
        """Whether a request is being handled."""
        return bool(self._since)

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(self.read_seconds)
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
            if not self.is_at_exit:
                self._forget(request)
                raise
            # Where none can be started; whoever waits does so on another thread.
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
        overdue = monotonic() - self.request_seconds
        for connection, since in self._since.copy().items():
            if since < overdue:
                with contextlib.suppress(OSError):  # not the TLS layer, which the handler is using
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):  # a client that hangs up is no failure
            with contextlib.suppress(Exception), guard(self.place):
                raise error

    def drop_sockets(self) -> None:
        """Close them all, as in a forked child, whose copies they are."""
        for connection in (self.socket, self._woken, self._waker, *self._since):
            connection.close()


def tls_context(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """For HTTPS, from PEM files; None without a certificate. Raises OSError or ValueError."""
    if not certfile:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # OpenSSL would ask for a password at the terminal, and wait.
    context.load_cert_chain(certfile, keyfile, password=lambda: "")
    return context
