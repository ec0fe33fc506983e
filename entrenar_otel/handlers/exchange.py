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
from typing import Any


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
        self._thread: threading.Thread | None = None

    @property
    def is_hanging(self) -> bool:
        """Whether what was left behind hangs still."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, request: Callable[[], Any]) -> Any:
        """What the request returns or raises. Raises TimeoutError in time, and leaves behind what hangs."""
        results: list[tuple[Any, BaseException | None]] = []

        def work() -> None:
            try:
                results.append((request(), None))
            except BaseException as error:
                results.append((None, error))

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,), name="entrenar-exchange", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # Python 3.12 starts no threads while it shuts down
            return request()
        self._thread = thread
        thread.join(max(0.0, self._seconds))
        if not results:
            self._cut()
            raise TimeoutError
        result, error = results[0]
        if error is not None:
            raise error
        return result

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
        for one in sockets:
            with contextlib.suppress(OSError):  # not the TLS layer, which the thread is using
                socket.socket.shutdown(one, socket.SHUT_RDWR)
