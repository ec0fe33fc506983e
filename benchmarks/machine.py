"""What the machine gave while it was measured: pages and syncs, which vary most between machines.

In a virtual machine a page may cost ten times what it costs on the bare one, and the next hour it does not:
the rows that map, copy or wake much follow it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np

from benchmarks.harness import temporary

_BYTES, _PAGE, _SYNCS = 64 << 20, 4096, 20


def described() -> str:
    """One sentence, with units; takes a second."""
    first, again = _page_seconds()
    with temporary() as folder:
        synced = _sync_seconds(folder / "synced")
    return (
        f"A page touched for the first time takes {1e6 * first:.2g} µs, one touched again "
        f"{1e9 * again:,.0f} ns, 4 KB written and synced {1e3 * synced:.2g} ms."
    )


def _page_seconds() -> tuple[float, float]:
    """CPU seconds a page, at the first touch and at a later one; the lower of some."""
    first: list[float] = []
    again: list[float] = []
    for _ in range(3):
        with mmap.mmap(-1, _BYTES) as memory:
            if hasattr(mmap, "MADV_NOHUGEPAGE"):
                memory.madvise(mmap.MADV_NOHUGEPAGE)
            pages = np.frombuffer(memory, np.uint8)[::_PAGE]
            for times in (first, again):
                begun = thread_time()
                pages[:] = 1
                times.append((thread_time() - begun) / len(pages))
            del pages
    return min(first), min(again)


def _sync_seconds(path: Path) -> float:
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            begun = perf_counter()
            file.write(bytes(_PAGE))
            os.fdatasync(file.fileno())
            times.append(perf_counter() - begun)
    return float(np.median(times))
