"""Static files: what is built from page/ and lies in the package; read once, found by name only."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
NAMES = ("app.css", "app.js", "icon.svg", "index.html", "login.html", "login.js")


class StaticFile(NamedTuple):
    """A file as it is sent."""

    body: bytes
    content_type: str
    etag: str


def static_files() -> dict[str, StaticFile]:
    """All of them by name: a path from outside is looked up here and never on the disk."""
    folder = resources.files("entrenar_otel.page") / "static"
    return {name: _read((folder / name).read_bytes(), name) for name in NAMES}


def _read(body: bytes, name: str) -> StaticFile:
    digest = hashlib.sha256(body).hexdigest()[:20]
    return StaticFile(body, _TYPES[name.rpartition(".")[2]], f'"{digest}"')
