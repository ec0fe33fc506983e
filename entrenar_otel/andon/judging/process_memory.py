"""Process memory: what this process holds, and the most it held."""

from __future__ import annotations

import re
import resource
import tracemalloc

import psutil

from entrenar_otel.console import logger

_RESIDENT = re.compile(rb"^VmHWM:\s+(\d+) kB\nVmRSS:\s+(\d+) kB$", flags=re.MULTILINE)


class ProcessMemory:
    """The memory of this process from now on, in bytes: resident, and with `allocations` Python's own.

    Peaks between two readings are known too: by the system's high-water mark, as soon as it rises above
    where it stood at the beginning. tracemalloc makes a program slower (allocations by a factor of 2 to
    4), so it runs only with `allocations`, and is stopped again if it was started here.

    >>> memory = ProcessMemory()
    >>> rss, allocated = memory.read()
    >>> rss > 1_000_000, allocated, memory.peak_rss_bytes >= rss
    (True, None, True)
    """

    def __init__(self, *, allocations: bool = False) -> None:
        self._first_mark = _resident()[1]
        self._has_started_tracing = False
        self._traces = allocations
        if allocations and not tracemalloc.is_tracing():
            tracemalloc.start()
            self._has_started_tracing = True
            logger.warning(
                'a budget has tracking_mode = "allocations": tracemalloc runs until the run ends, and '
                "slows down Python code that allocates much"
            )
        self._first_allocated_peak = tracemalloc.get_traced_memory()[1] if allocations else 0
        self.peak_rss_bytes = 0
        self.peak_allocated_bytes: int | None = None

    def read(self) -> tuple[int, int | None]:
        """Resident bytes, and bytes allocated by Python (None: unknown): the most since the last reading.

        That is what the process holds now, unless its peak has risen meanwhile.
        """
        rss, mark = _resident()
        if mark > max(self._first_mark, self.peak_rss_bytes):
            rss = max(rss, mark)
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        return rss, self._allocated()

    def _allocated(self) -> int | None:
        if not self._traces or not tracemalloc.is_tracing():
            return None
        now, peak = tracemalloc.get_traced_memory()
        before = self.peak_allocated_bytes or 0
        if peak > max(self._first_allocated_peak, before) or (self._has_started_tracing and not before):
            now = peak
        self.peak_allocated_bytes = max(before, now)
        return now

    def close(self) -> None:
        """Stop tracemalloc, if it was started here."""
        if self._has_started_tracing:
            self._has_started_tracing = self._traces = False
            tracemalloc.stop()


def _resident() -> tuple[int, int]:
    """The bytes of this process that are resident, and the most that ever were; 0 where nobody says.

    From Linux's status file, which has both: getrusage begins with the mark of the process that started this
    one. The heartbeat asks each time, with cold caches, so it is asked at once.
    """
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:
            match = _RESIDENT.search(file.read())
        if match is not None:
            return int(match[2]) * 1024, int(match[1]) * 1024
    except OSError:  # no such file: another system
        pass
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    return psutil.Process().memory_info().rss, mark
