"""Plain files: what others may have put in our place is opened so that it can do no harm."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def open_plain(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file; of nothing else: no link is followed, no pipe waited for.

    Raises OSError, which names the file.
    """
    if not stat.S_ISREG(mode := os.lstat(path).st_mode):  # first: opening a device may do something
        kind = next((name for is_one, name in _KINDS if is_one(mode)), "something else")
        raise OSError(errno.EINVAL, f"expected a file, found {kind}", os.fspath(path))
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # it was put there in between
        os.close(fd)
        raise OSError(errno.EINVAL, "expected a file, found something else", os.fspath(path))
    return fd


_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def read_plain(path: str | os.PathLike[str], limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes. Raises OSError."""
    with open(open_plain(path), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, at most {limit:,} were expected", str(path))
        return file.read(limit) or b""


def is_plain(path: Path) -> bool:
    """Whether there is a regular file of this name."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
