"""Plain files: opened so that what others may have put in our place does no harm, and written whole."""

from __future__ import annotations

import contextlib
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


def write_whole(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Put a file there, or replace it: whoever reads it sees all of it, or what was there. Raises OSError.

    `mode` is what the process's own mask leaves of it. Killed in between, it leaves one of
    `temporaries_of` it.
    """
    # A watermark is written each second: so neither paths nor files of Python's are made for it.
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def temporaries_of(folder: Path, names: str) -> list[Path]:
    """What `write_whole` had begun of files of such names, a pattern of glob's, and not put there yet."""
    return list(folder.glob(f".{names}.{'[0-9a-f]' * 16}.tmp"))


def is_plain(path: Path) -> bool:
    """Whether there is a regular file of this name."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
