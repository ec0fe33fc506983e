"""SystemSampler: on threads of its own; what hangs or fails holds nothing up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from entrenar_processors import Series

from entrenar_otel.system import sampler
from entrenar_otel.system.gpu_usage import GpuUsage
from entrenar_otel.system.readings import Readings
from entrenar_otel.system.sampler import SystemSampler, is_wanted

#: Nobody waits so long but on a machine that does nothing else.
PATIENCE_SECONDS = 60.0


class Rows:
    """What was recorded."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def __call__(self, series: Sequence[Series], values: Sequence[float]) -> None:
        self.rows.append({str(one): value for one, value in zip(series, values, strict=True)})

    def metrics(self) -> set[str]:
        return {name.partition("{")[0] for row in self.rows for name in row}

    def wait(self, done: Callable[[Rows], bool]) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not done(self):
            assert time.monotonic() < give_up, self.metrics()
            time.sleep(0.01)


class Gpus(GpuUsage):
    """GPUs that do as a test says."""

    def __init__(self, read: Callable[[Readings], None]) -> None:
        self._does = read
        self.is_closed = False

    def read(self, to: Readings) -> None:
        self._does(to)

    def close(self) -> None:
        self.is_closed = True


def waiting_for(let_go: threading.Event) -> Callable[[Readings], None]:
    """A driver that answers when it is let go."""

    def read(to: Readings) -> None:
        let_go.wait()
        to.add("hw.power", 250.0)

    return read


def make(rows: Rows, *, host: bool = True, gpus: GpuUsage | None = None) -> SystemSampler:
    return SystemSampler(rows, interval_seconds=0.05, host=host, find_gpus=lambda: gpus)


def test_process_and_host() -> None:
    rows = Rows()
    one = make(rows)
    one.start()
    rows.wait(lambda rows: len(rows.rows) >= 4)
    one.stop()
    count = len(rows.rows)
    assert {"process.cpu.utilization", "process.memory.usage", "system.cpu.utilization"} <= rows.metrics()
    assert not any(name.startswith("hw.") for name in rows.metrics())
    assert one.cpu_seconds > 0
    assert not [t for t in threading.enumerate() if t.name in ("entrenar-system", "entrenar-gpus")]
    assert len(rows.rows) == count


def test_other_ranks_of_a_host_tell_of_themselves_only() -> None:
    rows = Rows()
    one = make(rows, host=False, gpus=Gpus(lambda to: to.add("hw.power", 1.0)))
    one.start()
    rows.wait(lambda rows: len(rows.rows) >= 2)
    one.stop()
    assert {name.partition(".")[0] for name in rows.metrics()} == {"process"}


def test_gpus_that_hang_are_said_once_and_hold_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """The driver answers no more: the rest goes on, the end of the run does not wait, nothing comes late."""
    let_go = threading.Event()
    gpus = Gpus(waiting_for(let_go))
    rows = Rows()
    one = make(rows, gpus=gpus)
    one.start()
    rows.wait(lambda _: "has not answered NVML" in caplog.text)
    before = len(rows.rows)
    rows.wait(lambda rows: len(rows.rows) > before + 4)
    one.stop()
    assert sum("has not answered NVML" in record.getMessage() for record in caplog.records) == 1
    count = len(rows.rows)
    let_go.set()
    rows.wait(lambda _: gpus.is_closed)  # it came back after all
    assert len(rows.rows) == count
    assert "hw.power" not in rows.metrics()


def test_gpus_that_come_back_are_read_again() -> None:
    let_go = threading.Event()
    rows = Rows()
    one = make(rows, gpus=Gpus(waiting_for(let_go)))
    one.start()
    rows.wait(lambda rows: len(rows.rows) >= 2)
    let_go.set()
    rows.wait(lambda rows: "hw.power" in rows.metrics())
    one.stop()


def test_what_is_looked_for_may_hang() -> None:
    """nvmlInit waits for a driver: the process and the host are read meanwhile."""
    let_go = threading.Event()

    def find() -> None:
        let_go.wait()

    rows = Rows()
    one = SystemSampler(rows, interval_seconds=0.05, host=True, find_gpus=find)
    one.start()
    rows.wait(lambda rows: len(rows.rows) >= 4)
    one.stop()
    let_go.set()


def test_a_short_run_has_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its end, of all the time since it began, if that was long enough to say anything."""
    monkeypatch.setattr(sampler, "LEAST_SECONDS", 0.0)
    rows = Rows()
    one = SystemSampler(rows, interval_seconds=1000.0, host=False)
    one.start()
    one._worker.wait(1, PATIENCE_SECONDS)
    one.stop()
    assert len(rows.rows) == 1
    assert "process.cpu.utilization" in rows.metrics()


def test_a_run_of_no_time_has_none() -> None:
    rows = Rows()
    one = SystemSampler(rows, interval_seconds=1000.0, host=False)
    one.start()
    one.stop()
    assert rows.rows == [] or "process.cpu.utilization" in rows.metrics()  # a machine may take a second


def test_what_was_never_started_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    make(Rows()).stop()
    assert not caplog.records


@pytest.mark.parametrize(
    ("value", "wanted"), [("0", False), ("off", False), (" FALSE ", False), ("1", True), ("", True)]
)
def test_the_switch(value: str, wanted: bool) -> None:
    assert is_wanted({sampler.VARIABLE: value}) is wanted
    assert is_wanted({})
