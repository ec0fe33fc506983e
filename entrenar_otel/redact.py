"""What may be shown: URLs without their secrets, and text that stays on one line and does nothing else.

A URL can hold a secret anywhere: in its user and password, its query, and for a chat's webhook in its path.
"""

from __future__ import annotations

import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://(.*)", re.DOTALL)
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.%]*\]|[^\s:\[\]]*)(?::[0-9]{1,5})?")
# A quote or bracket ends a URL, but not within a user or password, nor where the URL goes on after it.
_URL_IN_TEXT = re.compile(
    r"""[A-Za-z][A-Za-z0-9+.-]{0,20}://(?:\S{0,2000}@)?(?:[^\s'"<>]|['"<>](?=[.~'"<>]{0,9}[\w%/+=&?#-]))*"""
)


def origin_of(url: str) -> str:
    """Scheme, host and port of an http(s) URL; of any other URL the scheme alone.

    >>> origin_of("https://me:secret@hooks.example.com:8443/T0/B0?key=1"), origin_of("slack://token/token")
    ('https://hooks.example.com:8443', 'slack://…')
    """
    url_parts = _URL.fullmatch(url)
    if url_parts is None:
        return "text that is not a URL"
    scheme, rest = url_parts.groups()
    if scheme.lower() not in ("http", "https"):
        return f"{scheme}://…"
    host, _ = _host_and_path(rest)
    return f"{scheme}://{host if host and host.isprintable() else '…'}"


def without_secrets(text: str) -> str:
    """The text, such as an error's, with each URL in it cut to its `origin_of`.

    >>> without_secrets("404 for url 'https://hooks.example.com/T0/B0'")
    "404 for url 'https://hooks.example.com'"
    """
    return _URL_IN_TEXT.sub(lambda url: origin_of(url[0]), text)


def without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment; a path as it is.

    >>> without_credentials("s3://key:secret@bucket/lake?token=1"), without_credentials("/data/lake")
    ('s3://bucket/lake', '/data/lake')
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, path = _host_and_path(rest)
    return f"{scheme}://{'…' if host is None else host}{path}"


def printable_line(text: str) -> str:
    r"""The text on one line; `?` for each character that would steer a terminal or hide others.

    >>> printable_line("two\nlines \x1b[31m")
    'two lines ?[31m'
    """
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


def _host_and_path(rest: str) -> tuple[str | None, str]:
    """What follows `://`, without user, query and fragment; (None, "") where no host can be told.

    A password should have its `/`, `?` and `#` encoded. In AWS's secret keys the `/` often is not: then
    what looks like host and port is invalid, and all up to the last `@` is user and password.
    """
    host, path = _cut(rest)
    if not _HOST.fullmatch(host):
        host, path = _cut(rest.rpartition("@")[2])
    return (host, path) if _HOST.fullmatch(host) else (None, "")


def _cut(rest: str) -> tuple[str, str]:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    path = re.split(r"[?#]", rest[len(authority) :], maxsplit=1)[0]
    return authority.rpartition("@")[2], path
