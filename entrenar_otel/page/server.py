"""The page's server: GET, and POST to log in; what is asked for is looked up, never opened by its name."""

from __future__ import annotations

import contextlib
import gzip
import ipaddress
import math
import socket
import ssl
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from entrenar_otel.errors import BadInput, ConfigError, EntrenarError, guard
from entrenar_otel.page.answers import Answers
from entrenar_otel.page.guesses import Guesses
from entrenar_otel.page.proxies import client_of
from entrenar_otel.page.session import MAX_FORM_BYTES, Session
from entrenar_otel.page.settings import PageSettings
from entrenar_otel.page.static_files import StaticFile, static_files
from entrenar_otel.redact import printable_line
from entrenar_otel.web.address import Address
from entrenar_otel.web.background_server import BackgroundServer
from entrenar_otel.web.bounded_server import tls_context
from entrenar_otel.web.handler import TEXT, Handler, weight

#: Scripts and styles from here alone, none within the page; texts become no markup by any means.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_HEADERS = {
    "Content_Security_Policy": POLICY,
    "X_Content_Type_Options": "nosniff",
    "Referrer_Policy": "same-origin",  # by which a browser says where a form was filled in
    "Cross_Origin_Resource_Policy": "same-origin",
    "Cross_Origin_Opener_Policy": "same-origin",
    "X_Frame_Options": "DENY",
}
#: Smaller bodies are sent as they are.
_GZIP_BYTES = 1024
#: What anyone may see, to log in.
_OPEN = ("app.css", "icon.svg", "login.js")
_MAX_URL = 1 << 15


class PageServer(BackgroundServer):
    """Listens when made; serves from `start` to `stop`. Raises ConfigError where it cannot listen."""

    place, thread_name = "the page's server", "entrenar-page"
    requests = 32
    request_seconds = 120.0  # the first look at many long runs
    request_queue_size = 64

    def __init__(self, answers: Answers, settings: PageSettings) -> None:
        settings.check()
        self.answers, self.settings = answers, settings
        self.session = Session(settings.token.encode(), settings.session_key)
        self.guesses = Guesses()
        answers.has_token = not self.session.is_open
        self.files = static_files()
        try:
            context: ssl.SSLContext | None = tls_context(settings.certfile, settings.keyfile)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"ENTRENAR_PAGE_CERTFILE, ENTRENAR_PAGE_KEYFILE: {error}; expected PEM files of a "
                "certificate and its key, without a password"
            ) from None
        address = settings.address
        try:
            super().__init__(address.host, address.port, _PageHandler, settings.token.encode(), context)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {address} ({error}): stop the program that uses the port, or name another "
                "one with --port (0: any free one)"
            ) from None

    @property
    def address(self) -> Address:
        """Where it listens, with the port that it got."""
        return self.settings.address.with_port(self.port)

    def knows_host(self, host: str) -> bool:
        """Whether a request for this host is meant for us.

        Without a token, a page of somebody else's whose name leads to this machine (DNS rebinding) could read
        every run; an address, and a name that was given, it cannot have.
        """
        if not self.session.is_open:
            return True
        name = urlsplit(f"//{host}").hostname or ""
        if name in ("localhost", self.settings.address.host.lower(), socket.gethostname().lower()):
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return self.settings.insecure
        return True


class _PageHandler(Handler):
    server: PageServer
    methods = "GET and HEAD and POST"

    def is_allowed(self) -> bool:
        """By a cookie, or by the token in the header, which is compared a limited number of times."""
        session = self.server.session
        if session.is_open or session.has_ticket("; ".join(self.headers.get_all("Cookie") or ())):
            return True
        authorization = self.headers.get("Authorization")
        if authorization is None or self._wait_seconds():
            return False
        is_right = session.has_token(authorization)
        if not is_right:
            self.server.guesses.count(self._address)
        return is_right

    @property
    def _address(self) -> str:
        forwarded = self.headers.get_all("X-Forwarded-For") or ()
        return client_of(str(self.client_address[0]), forwarded, self.server.settings.trusted_proxies)

    def _wait_seconds(self) -> int:
        return math.ceil(self.server.guesses.wait_seconds(self._address))

    def do_GET(self) -> None:  # noqa: N802 - the standard library calls it by this name
        if not self._is_for_us():
            return
        path, _, query = self.path.partition("?")
        name = {"/": "index.html", "/login": "login.html"}.get(path, path.removeprefix("/static/"))
        file = self.server.files.get(name) if path in ("/", "/login", f"/static/{name}") else None
        if path == "/healthz":
            self._send(HTTPStatus.OK, b"ok\n")
        elif path == "/login" or (path.startswith("/static/") and name in _OPEN and file):
            self._send_file(self.server.files[name])
        elif not self.is_allowed():
            self._refuse(path)
        elif file is not None:
            self._send_file(file)
        elif path in self.server.answers.paths:
            self._send_answer(path, query)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"not found: try /\n")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:  # noqa: N802
        if not self._is_for_us():
            return
        if self.path == "/logout":
            self._send(HTTPStatus.SEE_OTHER, b"", Location="/login", Set_Cookie=Session.log_out())
            return
        length = str(self.headers.get("Content-Length", ""))
        is_valid = length.isascii() and length.isdigit() and len(length) < 6 and int(length) <= MAX_FORM_BYTES
        if self.path != "/login" or self.server.session.is_open or not is_valid:
            self._send(HTTPStatus.BAD_REQUEST, b"expected a login form with a token\n")
            return
        form = self.rfile.read(int(length))
        if wait := self._wait_seconds():
            self._send(HTTPStatus.SEE_OTHER, b"", Location="/login#often", Retry_After=str(wait))
            return
        is_secure = self.server.settings.certfile is not None or self._is_behind_tls
        cookie = self.server.session.log_in(form, is_secure=is_secure)
        if cookie is None:
            self.server.guesses.count(self._address)
            self._send(HTTPStatus.SEE_OTHER, b"", Location="/login#wrong")
        else:
            self._send(HTTPStatus.SEE_OTHER, b"", Location="/", Set_Cookie=cookie)

    def _is_for_us(self) -> bool:
        if len(self.path) > _MAX_URL:
            self._send(HTTPStatus.REQUEST_URI_TOO_LONG, b"too long: ask for fewer runs at a time\n")
        elif not self.server.knows_host(self.headers.get("Host", "")):
            self._send(
                HTTPStatus.MISDIRECTED_REQUEST,
                b"unknown host: open the page by its address, or set ENTRENAR_PAGE_TOKEN\n",
            )
        elif self._is_of_another_site:
            self._send(HTTPStatus.FORBIDDEN, b"refused: another site's page asked for this\n")
        else:
            return True
        return False

    @property
    def _is_of_another_site(self) -> bool:
        """Whether another site's page made the browser ask; somebody who follows a link from there may.

        Browsers tell where a request comes from, over plain HTTP only that of a form, and only its `Origin`.
        """
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None:
            is_link = self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate"
            return site not in ("same-origin", "none") and not is_link
        origin = self.headers.get("Origin", "null")
        return origin != "null" and urlsplit(origin).netloc.lower() != self.headers.get("Host", "").lower()

    @property
    def _is_behind_tls(self) -> bool:
        """Whether a proxy says that the browser came to it by HTTPS."""
        return self.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"

    def _refuse(self, path: str) -> None:
        if path == "/":
            self._send(HTTPStatus.SEE_OTHER, b"", Location="/login")
        elif self.headers.get("Authorization") is not None and (wait := self._wait_seconds()):
            text = b"too many wrong tokens came from this address: wait, or log in from another\n"
            self._send(HTTPStatus.TOO_MANY_REQUESTS, text, Retry_After=str(wait))
        else:
            self._send(HTTPStatus.UNAUTHORIZED, b"a token is required\n", WWW_Authenticate="Bearer")

    def _send_file(self, file: StaticFile) -> None:
        headers = {"ETag": file.etag, "Cache_Control": "no-cache"}
        if file.etag in self.headers.get("If-None-Match", ""):
            self._send(HTTPStatus.NOT_MODIFIED, b"", **headers)
        else:
            self._send(HTTPStatus.OK, file.body, file.content_type, **headers)

    def _send_answer(self, path: str, query: str) -> None:
        try:
            asked = parse_qs(query, max_num_fields=200, strict_parsing=bool(query), errors="strict")
            answer = self.server.answers.answer(path, asked, self.headers.get("If-None-Match", ""))
        except KeyError:
            self._send(HTTPStatus.NOT_FOUND, b"no such run\n")
        except BadInput as error:
            self._send(HTTPStatus.BAD_REQUEST, f"{printable_line(str(error))}\n".encode())
        except EntrenarError as error:  # ours first: some are ValueErrors, too
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, f"{printable_line(str(error))}\n".encode())
        except ValueError as error:  # no query string
            self._send(HTTPStatus.BAD_REQUEST, f"{printable_line(str(error))}\n".encode())
        except OSError:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"the lake does not answer\n")
        except Exception as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b"the page failed; see its output\n")
            with contextlib.suppress(Exception), guard(self.server.place):
                raise error
        else:
            headers = {"ETag": answer.etag, "Cache_Control": "no-cache, private"}
            if answer.body is None:
                self._send(HTTPStatus.NOT_MODIFIED, b"", **headers)
            else:
                self._send(HTTPStatus.OK, answer.body, answer.content_type, **headers)

    def _send(self, status: HTTPStatus, body: bytes, content_type: str = TEXT, **headers: Any) -> None:
        headers |= _HEADERS
        accepts = weight(self.headers.get_all("Accept-Encoding"), "gzip") > 0
        if accepts and len(body) >= _GZIP_BYTES:
            body = gzip.compress(body, 1, mtime=0)
            headers |= {"Content_Encoding": "gzip", "Vary": "Accept-Encoding"}
        self.send(status, body, content_type, **headers)
