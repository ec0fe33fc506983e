"""Skipped: files that cannot be read, or are not what their name says, are left out and named once.

One of them must not keep everybody from all the others. "Once" is once a process, and again where the
file has changed since.
"""

from __future__ import annotations

import os

from entrenar_otel.console import logger

_MAX_NAMED = 1_000
_named: set[tuple[object, ...]] = set()


def name_skipped(path: str | os.PathLike[str], why: object, hint: str = "") -> None:
    """Say that a file is left out, and why: `why` names the file."""
    say_once(path, f"{why}{f'; {hint}' if hint else ''}")


def say_once(path: str | os.PathLike[str], message: str) -> None:
    """Say something about a file, once as long as it does not change."""
    try:
        state = os.lstat(path)
        key = (os.fspath(path), message, state.st_ino, state.st_size, state.st_mtime_ns)
    except (OSError, ValueError):  # on object storage
        key = (os.fspath(path), message, 0, 0, 0)
    if key in _named:
        return
    if len(_named) >= _MAX_NAMED:
        _named.clear()
    _named.add(key)
    logger.warning("%s", message)
