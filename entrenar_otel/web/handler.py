"""What every handler of requests over HTTP shares: the token, answers, silence."""

from __future__ import annotations

import hmac
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from entrenar_otel.web.bounded_server import BoundedServer

TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Handler(BaseHTTPRequestHandler):
    """One request per connection (HTTP/1.0)."""

    server: BoundedServer
    #: The methods there are, for whoever tries another.
    methods = "GET and HEAD"

    def is_allowed(self) -> bool:
        """Whether the client sent the token, where one is wanted."""
        return has_token(self.headers.get("Authorization", ""), self.server.token, "latin-1")

    def send(self, status: HTTPStatus, body: bytes, content_type: str = TEXT, **headers: str) -> None:
        """Answer; the names of further headers have `_` for `-`."""
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
            text = f"only {self.methods} are allowed\n".encode()
            allowed = self.methods.replace(" and ", ", ")
            self.send(HTTPStatus.METHOD_NOT_ALLOWED, text, Allow=allowed)
        else:
            status = HTTPStatus(code)
            self.send(status, f"{status.phrase}\n".encode())

    def version_string(self) -> str:
        return "entrenar-otel"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Log nothing: the terminal is the program's."""


def has_token(authorization: str, wanted: bytes, encoding: str) -> bool:
    """Whether this is `Bearer` with the token that is wanted; none is wanted where it is empty."""
    if not wanted:
        return True
    scheme, _, given = authorization.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        given.strip().encode(encoding, "replace"), wanted
    )


def weight(accepted: list[str] | None, wanted: str) -> float:
    """A client's preference for a type or encoding, 0 where its headers do not name it."""
    for item in ",".join(accepted or ()).lower().split(","):
        name, _, parameters = item.partition(";")
        if name.strip() == wanted:
            q = re.search(r"(?:^|;)\s*q\s*=\s*([01](?:\.\d+)?)", parameters)
            return float(q[1]) if q else 1.0
    return 0.0
