"""Session: who may look. The token comes in a header or a login form, and stays in a cookie; in no URL."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from entrenar_otel.web.handler import has_token

COOKIE = "entrenar_page"
#: Of a login form's body.
MAX_FORM_BYTES = 4096
_SECONDS = 30 * 86400


class Session:
    """Knows the token. The cookie has the time and a signature of it instead: nobody can try tokens by it.

    It is signed with `key`, which no browser ever sees, and the token: whoever has logged in stays so for 30
    days where the key is kept (`session_key`), until the token is another one.

    Browsers send it with a link that somebody follows from a chat (`SameSite=Lax`), with nothing else that
    another site's page makes them ask for.

    >>> session = Session(b"s3cret")
    >>> session.has_token(""), session.has_token("Bearer s3cret")
    (False, True)
    >>> cookie = session.log_in(b"token=s3cret", is_secure=False)
    >>> session.has_ticket(cookie.partition(";")[0]), "s3cret" in cookie
    (True, False)
    """

    def __init__(self, token: bytes, key: bytes | None = None, now: Callable[[], float] = time.time) -> None:
        self._token, self._now = token, now
        self._key = hmac.digest(key or secrets.token_bytes(32), token, hashlib.sha256)

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
        if COOKIE not in jar:
            return False
        since, _, signature = jar[COOKIE].value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(since).encode()):
            return False
        return self._now() - int(since) <= _SECONDS

    def _signature(self, since: str) -> str:
        return hmac.new(self._key, since.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def log_in(self, form: bytes, *, is_secure: bool) -> str | None:
        """The cookie to set, where a form has the right token."""
        given = parse_qs(form.decode("utf-8", "replace"), max_num_fields=4).get("token", [""])[0].strip()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token):
            return None
        secure = "; Secure" if is_secure else ""
        since = f"{int(self._now())}"
        ticket = f"{since}.{self._signature(since)}"
        return f"{COOKIE}={ticket}; Path=/; Max-Age={_SECONDS}; HttpOnly; SameSite=Lax{secure}"

    @staticmethod
    def log_out() -> str:
        """The cookie that ends it."""
        return f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
