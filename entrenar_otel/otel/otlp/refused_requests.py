"""Refused requests: what an endpoint does not want, kept beside the segments for a person to look at."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import adler32

#: Of one process; what is refused beyond that is only counted.
MAX_BYTES = 16 << 20
_FRAME = struct.Struct("<II")  # length and Adler-32 of a request that follows


def keep_refused(live: Path, process: str, request: bytes) -> bool:
    """Append a request to `PROCESS.refused`; False where there is no room for it."""
    path = live / f"{process}.refused"
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
        try:
            if os.fstat(fd).st_size + len(request) + _FRAME.size > MAX_BYTES:
                return False
            return os.write(fd, _FRAME.pack(len(request), adler32(request)) + request) > 0
        finally:
            os.close(fd)
    except OSError:
        return False


def read_refused(path: Path) -> list[bytes]:
    """The requests in such a file, up to the first that is torn."""
    data, requests, at = path.read_bytes(), [], 0
    while at + _FRAME.size <= len(data):
        length, checksum = _FRAME.unpack_from(data, at)
        request = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(request) < length or adler32(request) != checksum:
            break
        requests.append(request)
        at += _FRAME.size + length
    return requests
