"""Memory: what the lake's libraries keep for next time, given back to the system."""

from __future__ import annotations

import ctypes


def give_back_memory() -> None:
    """Return what a hand-over (some 50 MB) or a query used for a moment to the system.

    For the thread that used it: Arrow's allocator keeps memory by thread. Takes some milliseconds.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries keep less
    if trim is not None:
        trim(0)
