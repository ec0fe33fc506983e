"""Session: who may look. The token comes in a header or a login form, and stays in a cookie; in no URL."""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from entrenar_otel.web.handler import has_token

COOKIE = "entrenar_page"
#: Of a login form's body.
MAX_FORM_BYTES = 4096
_DAYS = 30


class Session:
    """Knows the token. The cookie has a number of this process instead: nobody can try tokens by it.

    Browsers send it with a link that somebody follows from a chat (`SameSite=Lax`), with nothing else that
    another site's page makes them ask for.

    >>> session = Session(b"s3cret")
    >>> session.has_token(""), session.has_token("Bearer s3cret")
    (False, True)
    >>> cookie = session.log_in(b"token=s3cret", is_secure=False)
    >>> session.has_ticket(cookie.partition(";")[0]), "s3cret" in cookie
    (True, False)
    """

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._ticket = secrets.token_hex(32)

    @property
    def is_open(self) -> bool:
        """Whether no token is wanted."""
        return not self._token

    def has_token(self, authorization: str) -> bool:
        """Whether a request's header has the token."""
        return has_token(authorization, self._token, "latin-1")

    def has_ticket(self, cookie: str) -> bool:
        """Whether somebody has logged in by that browser."""
        try:
            jar = SimpleCookie(cookie)
        except CookieError:
            return False
        return COOKIE in jar and hmac.compare_digest(jar[COOKIE].value.encode(), self._ticket.encode())

    def log_in(self, form: bytes, *, is_secure: bool) -> str | None:
        """The cookie to set, where a form has the right token."""
        given = parse_qs(form.decode("utf-8", "replace"), max_num_fields=4).get("token", [""])[0].strip()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            return None
        secure = "; Secure" if is_secure else ""
        return f"{COOKIE}={self._ticket}; Path=/; Max-Age={_DAYS * 86400}; HttpOnly; SameSite=Lax{secure}"

    @staticmethod
    def log_out() -> str:
        """The cookie that ends it."""
        return f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
