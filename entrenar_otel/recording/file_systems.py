"""File systems: on which of them an allocated block can be written through memory without asking again.

A page of a mapped file is written back, is read-only then, and asks its file system at the next write. ext4
and xfs write in place, and have the block. One that copies on write (btrfs, zfs, f2fs, bcachefs) needs a new
block each time, and where the disk is full by then the process gets a SIGBUS, which kills the training. So
does a network or user-space file system that does not answer.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import resource
import secrets
import struct
from errno import EINVAL, ENOSYS, EOPNOTSUPP
from pathlib import Path

#: They write allocated blocks in place.
IN_PLACE = frozenset(["ext2", "ext3", "ext4", "xfs", "tmpfs"])
#: They pass everything on to another one, which they do not name: it is tried.
UNKNOWN = frozenset(["overlay"])
_ESCAPED = re.compile(r"\\([0-7]{3})")

_PAGE = 4096
_FIEMAP = 0xC020660B
_FIEMAP_REQUEST = struct.Struct("=QQLLLL")  # from, length, flags, found, room, -
_FIEMAP_EXTENT = struct.Struct("=QQQ16xL12x")  # in the file, on the disk, length, flags
_FIEMAP_SYNC = 1
_NO_PLACE = 0x2 | 0x4 | 0x8 | 0x80 | 0x200 | 0x2000  # unknown, delayed, encoded, …, inline, shared

_KEEP_SIZE = 1


def writes_in_place(folder: Path) -> bool:
    """Whether a mapped file of this folder may be written once its blocks are allocated."""
    kind = kind_of(folder)
    return kind in IN_PLACE or (kind in UNKNOWN and _stays_where_it_is(folder))


def kind_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that a folder is on, as Linux calls it; empty where that is not known."""
    path, best, kind = os.path.realpath(folder), "", ""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if len(fields) < 5:
            continue
        point = _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two at one place the later one is on top
            best, kind = point, kinds[0]
    return kind


def _stays_where_it_is(folder: Path) -> bool:
    """Write a block of a file twice, and see whether it is in the same place of the disk."""
    path = folder / f".{secrets.token_hex(4)}.probe"
    try:
        with path.open("xb+", buffering=0) as file:
            os.unlink(path)
            fd = file.fileno()
            os.posix_fallocate(fd, 0, _PAGE)
            places = []
            for content in (b"1", b"2"):
                os.pwrite(fd, content * _PAGE, 0)
                os.fdatasync(fd)
                places.append(_place(fd))
            return places[0] is not None and places[0] == places[1]
    except OSError:
        return False


def _place(fd: int) -> int | None:
    """Where the first block of a file is on its disk."""
    request = bytearray(_FIEMAP_REQUEST.pack(0, _PAGE, _FIEMAP_SYNC, 0, 1, 0) + bytes(_FIEMAP_EXTENT.size))
    fcntl.ioctl(fd, _FIEMAP, request)
    if _FIEMAP_REQUEST.unpack_from(request)[3] != 1:
        return None
    _, physical, _, flags = _FIEMAP_EXTENT.unpack_from(request, _FIEMAP_REQUEST.size)
    return None if flags & _NO_PLACE else int(physical)


def largest_file() -> int | None:
    """How large a file of this process may be (`ulimit -f`), None: as large as it likes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft


def reserve(fd: int, size: int) -> None:
    """Ask for blocks without making the file longer; a file system that cannot is not asked twice.

    `os.posix_fallocate` would write zeros there, over a network perhaps.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    if fallocate(fd, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)):
        error = ctypes.get_errno()
        if error not in (EOPNOTSUPP, ENOSYS, EINVAL):
            raise OSError(error, os.strerror(error))
