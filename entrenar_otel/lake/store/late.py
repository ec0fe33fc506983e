"""Late storage: stands for a lake that has not answered yet, so that a run need not wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from entrenar_otel.lake.store.storage import Rows, Storage
from entrenar_otel.redact import without_credentials


class LateStorage:
    """A Storage whose every method waits until the real one is there.

    `opened` returns it, however long that takes, or raises; then it is asked again by the next call. Until
    it is there `url` is the name as it was given: the real one may resolve links.
    """

    def __init__(self, location: str | os.PathLike[str], opened: Callable[[], Storage]) -> None:
        text = os.fspath(location)
        parts = urlsplit(text)
        self._open = opened
        self._storage: Storage | None = None
        self._is_local = len(parts.scheme) < 2 or parts.scheme == "file"
        if parts.scheme == "file":
            text = unquote(parts.path)
        self._url = os.path.abspath(text) if self._is_local else without_credentials(text)

    @property
    def url(self) -> str:
        return self._url if self._storage is None else self._storage.url

    @property
    def is_local(self) -> bool:
        return self._is_local

    @property
    def real(self) -> Storage:
        """The storage itself; waits for it."""
        if self._storage is None:
            self._storage = self._open()
        return self._storage

    def __getattr__(self, name: str) -> Any:  # `filesystem`, where it has one
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.real, name)

    def write(
        self, name: str, schema: pa.Schema, batches: Iterable[Rows], *, exclusive: bool = False
    ) -> None:
        self.real.write(name, schema, batches, exclusive=exclusive)

    def write_bytes(self, name: str, data: bytes) -> None:
        self.real.write_bytes(name, data)

    def list(self, folder: str) -> list[str]:
        return self.real.list(folder)

    def remove(self, name: str) -> None:
        self.real.remove(name)

    def location(self, name: str) -> str:
        return self.real.location(name)

    def size_bytes(self, name: str) -> int:
        return self.real.size_bytes(name)
