"""ProcessUsage: CPU, memory, disk, threads and open files of this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

from entrenar_otel.system.cgroup import Cgroup
from entrenar_otel.system.readings import Readings


class ProcessUsage:
    """Reads `process.*`; CPU and disk are known from the second reading on.

    CPU time is over that of the CPUs this process may use: those it is bound to, or fewer where its
    container's quota says so. `clock` gives seconds. What the process has started (workers that load data)
    is not in it.
    """

    def __init__(self, cgroup: Cgroup | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._process = psutil.Process()
        self._cgroup = cgroup
        self._clock = clock
        self._before: tuple[float, float] | None = None

    def read(self, to: Readings) -> None:
        """Read everything once."""
        process = self._process
        with process.oneshot():
            to.add("process.cpu.utilization", to.attempt("the CPU time of the process", self._cpu))
            if memory := to.attempt("the memory of the process", process.memory_info):
                to.add("process.memory.usage", memory.rss)
                if host := to.attempt("the memory of the host", psutil.virtual_memory):
                    to.add("process.memory.utilization", memory.rss / host.total)
            if disk := to.attempt("the disk use of the process", self._disk):
                for direction, total in zip(("read", "write"), disk, strict=True):
                    to.add_since("process.disk.io", total, {"disk.io.direction": direction})
            to.add("process.thread.count", to.attempt("the threads of the process", process.num_threads))
            to.add(
                "process.unix.file_descriptor.count",
                to.attempt("the open files of the process", process.num_fds),
            )

    def _cpu(self) -> float | None:
        times, now = self._process.cpu_times(), self._clock()
        used = times.user + times.system
        before, self._before = self._before, (used, now)
        if before is None or now <= before[1]:
            return None
        share: float = (used - before[0]) / (now - before[1]) / self._cpus()
        return share

    def _disk(self) -> tuple[int, int]:
        counters = self._process.io_counters()  # not on every system
        return counters.read_bytes, counters.write_bytes

    def _cpus(self) -> float:
        bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quota = None if self._cgroup is None else self._cgroup.cpus()
        return bound if quota is None else min(bound, quota)
