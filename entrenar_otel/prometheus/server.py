"""The server of the page: GET and HEAD, until the last scrape was there that the end waits for."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic

from entrenar_otel.prometheus.scrapes import Scrapes
from entrenar_otel.web.bounded_server import BoundedServer
from entrenar_otel.web.handler import TEXT, Handler, weight

PLACE = "the /metrics page"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class PageServer(BoundedServer):
    """Serves what `answer` returns."""

    place = PLACE

    def __init__(
        self,
        host: str,
        port: int,
        answer: Callable[[bool], tuple[HTTPStatus, bytes]],
        token: bytes,
        context: ssl.SSLContext | None,
        scrapes: Scrapes,
    ) -> None:
        self.answer, self.scrapes = answer, scrapes
        super().__init__(host, port, _Handler, token, context)

    @property
    def is_over(self) -> bool:
        return self.scrapes.is_over

    @property
    def is_at_exit(self) -> bool:
        return self.scrapes.is_awaited


class _Handler(Handler):
    server: PageServer

    def do_GET(self) -> None:  # noqa: N802 - the standard library calls it by this name
        if not self.is_allowed():
            self.send(HTTPStatus.UNAUTHORIZED, b"a bearer token is required\n", WWW_Authenticate="Bearer")
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self.send(HTTPStatus.OK, b'<a href="/metrics">metrics</a>\n', "text/html; charset=utf-8")
        elif path == "/metrics":
            self._send_metrics()
        else:
            self.send(HTTPStatus.NOT_FOUND, b"not found: try /metrics\n")

    do_HEAD = do_GET  # noqa: N815

    def _send_metrics(self) -> None:
        begun = monotonic()
        accept = self.headers.get_all("Accept")
        preference = weight(accept, "application/openmetrics-text")
        openmetrics = preference > 0 and preference >= weight(accept, "text/plain")
        status, body = self.server.answer(openmetrics)
        if status is not HTTPStatus.OK:
            self.send(status, body)
            return
        vary = {"Vary": "Accept, Accept-Encoding"}
        if weight(self.headers.get_all("Accept-Encoding"), "gzip") > 0:
            # Level 1: a quarter of the size, in a fifth of the default level's time.
            body = gzip.compress(body, 1)
            vary["Content_Encoding"] = "gzip"
        self.send(status, body, _OPENMETRICS if openmetrics else TEXT, **vary)
        if self.command == "GET":
            self.server.scrapes.answered(str(self.client_address[0]), begun)
