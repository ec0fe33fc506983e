"""Background server: a bounded server that serves on a thread of its own."""

from __future__ import annotations

import threading

from entrenar_otel.web.bounded_server import BoundedServer


class BackgroundServer(BoundedServer):
    """Listens when made; serves from `start` to `stop`."""

    thread_name = "entrenar-http"
    _thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it got."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Serve."""
        self._thread = threading.Thread(target=self.serve, name=self.thread_name, daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> None:
        """Take no more requests."""
        self.stop_serving()
        if self._thread is not None:
            self._thread.join(seconds)
        self.server_close()
