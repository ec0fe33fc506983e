"""Memory: what this process holds, and when to give back what it no longer needs."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path
from time import monotonic

from entrenar_otel.lake.memory import give_back_memory

#: A sink that does nothing has 130 MB; at most it should have 512.
SCARCE_BYTES, SHORT_BYTES = 200 << 20, 288 << 20
_STATM = Path("/proc/self/statm")
_LOOK_SECONDS = 0.01
#: Between two attempts to give something back, at least: it takes some milliseconds.
_TRIM_SECONDS = 1.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Of glibc's mallopt: what is larger is given back as it is freed; and threads share these arenas.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


class Memory:
    """Looked at by many threads; one look serves all for a while. `is_scarce` tells before `is_short`."""

    def __init__(self, scarce_bytes: int = SCARCE_BYTES, short_bytes: int = SHORT_BYTES) -> None:
        self._scarce_bytes, self._short_bytes = scarce_bytes, short_bytes
        self._lock = threading.Lock()
        self._resident, self._looked_at, self._trimmed_at = 0, float("-inf"), float("-inf")

    @property
    def is_scarce(self) -> bool:
        """Whether requests should be read one at a time."""
        return self._look() > self._scarce_bytes

    @property
    def is_short(self) -> bool:
        """Whether a large request should wait until there is no other."""
        return self._look() > self._short_bytes

    def _look(self) -> int:
        """What the process has, after it gave back what it could."""
        with self._lock:
            now = monotonic()
            if now - self._looked_at > _LOOK_SECONDS:
                self._resident = _resident_bytes()
                if self._resident > self._scarce_bytes and now - self._trimmed_at > _TRIM_SECONDS:
                    give_back_memory()
                    self._resident, self._trimmed_at = _resident_bytes(), now
                self._looked_at = now
            return self._resident


def _resident_bytes() -> int:
    """What the process has in memory; 0 where the system does not say."""
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def set_up() -> None:
    """Let the allocator keep less: requests of many sizes on many threads leave holes in it."""
    if (set_option := getattr(_libc(), "mallopt", None)) is not None:
        for option, value in ((_MMAP_THRESHOLD, 8 << 20), (_TRIM_THRESHOLD, 32 << 20), (_ARENA_MAX, 2)):
            set_option(option, value)


def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
