"""SystemSampler: reads the machine every few seconds, on threads of its own, and records what it finds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from entrenar_processors import Series

from entrenar_otel.console import logger
from entrenar_otel.delivery.deadline import Deadline
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.system.gpu_usage import GpuUsage
from entrenar_otel.system.readings import Readings

#: Switches it off, with `0`.
VARIABLE = "ENTRENAR_SYSTEM_METRICS"
#: A last reading, at the end of a run, is of at least so many seconds: utilisation over less says nothing.
LEAST_SECONDS = 1.0
#: How long the end of a run waits for the last reading.
END_SECONDS = 0.5
#: GPUs that have not answered for so many intervals are said to hang.
_PATIENCE = 3

Record = Callable[[Sequence[Series], Sequence[float]], object]


class SystemSampler:
    """Records `process.*` of this process, and with `host` also `system.*`, `container.*` and `hw.*`.

    `record(series, values)` takes one row of values. One thread reads the process and the host, another the
    GPUs: a driver that hangs holds up nothing but its own readings. Nobody waits for either, but the end of a
    run for `END_SECONDS`.
    """

    def __init__(
        self,
        record: Record,
        *,
        interval_seconds: float,
        host: bool,
        find_gpus: Callable[[], GpuUsage | None] = GpuUsage.find,
    ) -> None:
        self._record, self._host = record, host
        self._interval = interval_seconds
        self._find_gpus = find_gpus
        self._is_stopped = False
        self._sources: list[Callable[[Readings], None]] | None = None
        self._readings = Readings()
        self._gpus: GpuUsage | None = None
        self._gpu_readings = Readings()
        self._gpu_since: float | None = None
        self._has_looked = False
        self._has_said = False
        self._read_at = {"machine": 0.0, "gpus": 0.0}
        self._worker = Worker("entrenar-system", self._read_machine, interval_seconds)
        self._gpu_worker = Worker("entrenar-gpus", self._read_gpus, interval_seconds, finish=self._close_gpus)

    @property
    def cpu_seconds(self) -> float:
        """What the threads have used."""
        return self._worker.cpu_seconds + self._gpu_worker.cpu_seconds

    def start(self) -> None:
        """Begin: the first look only says where counters stand."""
        self._worker.wake()
        if self._host:
            self._gpu_worker.wake()

    def stop(self) -> None:
        """Read a last time, and no more; bounded. What comes later is dropped."""
        workers = [worker for worker in (self._worker, self._gpu_worker) if worker.is_started]
        for worker in workers:
            worker.begin_stop()
        left = Deadline(END_SECONDS)
        for worker in workers:
            worker.join(left.left())
        self._is_stopped = True

    # -- on threads of its own --------------------------------------------------------------------

    def _read_machine(self) -> None:
        if self._sources is None:
            self._sources = self._make_sources()
        self._look("machine", self._sources, self._readings)
        since = self._gpu_since
        waited = 0.0 if since is None else time.monotonic() - since
        if waited > _PATIENCE * self._interval and not self._has_said:
            self._has_said = True
            logger.warning(
                "the GPU driver has not answered NVML for %.0f s; GPUs are read again when it does, "
                "everything else goes on",
                waited,
            )

    def _make_sources(self) -> list[Callable[[Readings], None]]:
        from entrenar_otel.system.cgroup import Cgroup
        from entrenar_otel.system.host_usage import HostUsage
        from entrenar_otel.system.process_usage import ProcessUsage

        cgroup = self._readings.attempt("the control group", Cgroup)
        process = ProcessUsage(cgroup)
        return [process.read, HostUsage(cgroup).read] if self._host else [process.read]

    def _read_gpus(self) -> None:
        self._gpu_since = time.monotonic()
        try:
            if not self._has_looked:
                self._has_looked = True
                self._gpus = self._find_gpus()
            if self._gpus is None:
                self._gpu_worker.begin_stop()  # nothing to do for this thread
            else:
                self._look("gpus", [self._gpus.read], self._gpu_readings)
        finally:
            self._gpu_since = None

    def _close_gpus(self) -> None:
        if self._gpus is not None:
            self._gpus.close()

    def _look(self, name: str, sources: Sequence[Callable[[Readings], None]], readings: Readings) -> None:
        now, before = time.monotonic(), self._read_at[name]
        if before and now - before < min(LEAST_SECONDS, self._interval / 2):
            return
        self._read_at[name] = now
        for read in sources:
            read(readings)
            values = readings.take()
            if before:
                self._keep(values)

    def _keep(self, values: Mapping[Series, float]) -> None:
        if values and not self._is_stopped:
            self._record(tuple(values), tuple(values.values()))


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether nobody has said no."""
    return environ.get(VARIABLE, "1").strip().lower() not in ("0", "false", "no", "off")
