"""Exchange: one request and its answer, which takes no longer than it may, whatever the other side does.

The timeouts of HTTP clients are for one read or one address. A server that sends a byte a second, a name
that does not resolve and a host with many dead addresses never reach them.
"""

from __future__ import annotations

import contextlib
import contextvars
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from entrenar_otel.delivery.promise import Promise


class Exchange:
    """Runs a request on a thread of its own, and cuts its connection when its time is up.

    >>> Exchange(5.0).run(lambda: "answer")
    'answer'
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_over = False
        self._request: Promise[Any] | None = None

    @property
    def is_hanging(self) -> bool:
        """Whether what was left behind hangs still."""
        return self._request is not None and not self._request.is_done

    def run(self, request: Callable[[], Any]) -> Any:
        """What the request returns or raises. Raises TimeoutError in time, and leaves behind what hangs."""
        work = partial(contextvars.copy_context().run, request)
        self._request = Promise("entrenar-exchange", work)
        if not self._request.wait(max(0.0, self._seconds)):
            self._cut()
            raise TimeoutError
        return self._request.result()

    def saw(self, event: str, details: dict[str, Any]) -> None:
        """httpx's `trace`: what the request is at. Remembers its connections."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            known = details["return_value"].get_extra_info("socket")
            with self._lock:
                if isinstance(known, socket.socket):
                    self._sockets.append(known)
                is_over = self._is_over
            if is_over:
                self._cut()

    def _cut(self) -> None:
        with self._lock:
            self._is_over = True
            sockets = tuple(self._sockets)
        for connection in sockets:
            with contextlib.suppress(OSError):  # not the TLS layer, which the thread is using
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
