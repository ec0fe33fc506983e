"""What of a URL may be shown: it may hold secrets, and for a chat's webhook all of its path is one."""

from __future__ import annotations

import re
from urllib.parse import urlsplit


def shown(url: str) -> str:
    """An http(s) URL without path, query and credentials; of others the scheme alone.

    >>> shown("https://me:secret@hooks.example.com:8443/T0/B0?key=1"), shown("slack://token/token")
    ('https://hooks.example.com:8443', 'slack://…')
    """
    scheme, slashes, _ = url.partition("://")
    if not slashes or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,20}", scheme):
        return "text that is no URL"
    if scheme.lower() not in ("http", "https"):
        return f"{scheme}://…"
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        host = ""
    return f"{scheme}://{host or '…'}"


def without_secrets(text: str) -> str:
    """Text of an error, its URLs cut to what may be shown.

    >>> without_secrets("404 for url 'https://hooks.example.com/T0/B0'")
    "404 for url 'https://hooks.example.com'"
    """
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*", lambda found: shown(found[0]), text)


def without_credentials(url: str) -> str:
    """A path as it is, a URL without user, password, query and fragment.

    >>> without_credentials("s3://key:secret@bucket/lake?token=1"), without_credentials("/data/lake")
    ('s3://bucket/lake', '/data/lake')
    """
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
