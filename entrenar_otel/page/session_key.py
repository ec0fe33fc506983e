"""Session key: by which the cookies of those who have logged in are signed; it outlives the process."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

_BYTES = 32


def session_key(folder: Path | None = None) -> bytes | None:
    """The key of this user on this machine, made when it is first wanted; None where it cannot be kept.

    A file of another user, or one that others may read, is not used.
    """
    if folder is None:
        state = os.environ.get("XDG_STATE_HOME")
        folder = (Path(state) if state else Path.home() / ".local/state") / "entrenar"
    path = folder / "page.key"
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except (OSError, RuntimeError):  # no home, a disk that is full or read only: people log in again
        return None


def _make(path: Path) -> None:
    """As a whole, and only where there is none: of two processes that begin together both have the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(own, path)
    finally:
        own.unlink()


def _read(path: Path) -> bytes | None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        about = os.fstat(fd)
        is_ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o077
        key = file.read(_BYTES + 1) if is_ours else b""
    return key if len(key) == _BYTES else None
