"""ProcessUsage, HostUsage: this very process and machine, against what it does and what psutil says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil
import pytest
from entrenar_processors import Series

from entrenar_otel.semconv import MACHINE
from entrenar_otel.system.host_usage import HostUsage
from entrenar_otel.system.process_usage import ProcessUsage
from entrenar_otel.system.readings import Readings


def read(usage: ProcessUsage | HostUsage, readings: Readings) -> dict[str, float]:
    usage.read(readings)
    return {str(series): value for series, value in readings.take().items()}


def test_a_process_that_works() -> None:
    moments = iter([100.0, 102.0])
    usage, readings = ProcessUsage(clock=lambda: next(moments)), Readings()
    first = read(usage, readings)
    assert "process.cpu.utilization" not in first  # since when?
    before = sum(psutil.Process().cpu_times()[:2])
    while (used := sum(psutil.Process().cpu_times()[:2]) - before) < 0.3:
        pass
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
    try:
        values = read(usage, readings)
    finally:
        release.set()
        thread.join()
        for file in files:
            os.close(file)
    assert used / 2.0 / len(os.sched_getaffinity(0)) <= values["process.cpu.utilization"] <= 1.0
    assert values["process.thread.count"] == first["process.thread.count"] + 1
    name = "process.unix.file_descriptor.count"
    assert values[name] == first[name] + 7
    rss = psutil.Process().memory_info().rss
    assert values["process.memory.usage"] == pytest.approx(rss, rel=0.2)
    share = values["process.memory.usage"] / psutil.virtual_memory().total
    assert values["process.memory.utilization"] == pytest.approx(share)


def test_bytes_that_a_process_wrote(tmp_path: Path) -> None:
    usage, readings = ProcessUsage(), Readings()
    read(usage, readings)
    before = psutil.Process().io_counters().write_bytes
    with open(tmp_path / "much", "wb") as file:
        file.write(bytes(8 << 20))
        file.flush()
        os.fsync(file.fileno())
    after = psutil.Process().io_counters().write_bytes
    values = read(usage, readings)
    assert values['process.disk.io{disk.io.direction="write"}'] >= after - before


def test_a_host() -> None:
    usage, readings = HostUsage(), Readings()
    assert not any("cpu" in name for name in read(usage, readings))
    before = psutil.cpu_times()
    while psutil.cpu_times().user < before.user + 0.05:
        pass
    values = read(usage, readings)
    modes = [value for name, value in values.items() if name.startswith("system.cpu.utilization")]
    assert len(modes) == 4
    assert 0 < sum(modes) <= 1 + 1e-9
    assert 0 < values['system.memory.utilization{system.memory.state="used"}'] < 1
    assert values['system.memory.usage{system.memory.state="used"}'] < psutil.virtual_memory().total
    for name in (
        'system.disk.io{disk.io.direction="read"}',
        'system.disk.io{disk.io.direction="write"}',
        'system.network.io{network.io.direction="receive"}',
        'system.network.io{network.io.direction="transmit"}',
    ):
        assert values[name] >= 0
    assert {Series(name.partition("{")[0]).metric for name in values} <= MACHINE.keys()


def test_what_lies_above_a_disk_is_not_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume on a disk, a partition, a bridge: only what has a device behind it counts."""
    disk, card = psutil.disk_io_counters(), psutil.net_io_counters()
    assert disk is not None
    disks = {
        "nvme0n1": disk._replace(read_bytes=100, write_bytes=10),
        "dm-0": disk._replace(read_bytes=90, write_bytes=9),
        "nvme0n1p1": disk._replace(read_bytes=80, write_bytes=8),
    }
    cards = {
        "lo": card._replace(bytes_recv=7, bytes_sent=7),
        "eth0": card._replace(bytes_recv=5, bytes_sent=4),
        "docker0": card._replace(bytes_recv=5, bytes_sent=4),
    }
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: disks)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: cards)
    for place in ("block/nvme0n1/device", "class/net/eth0/device"):
        (tmp_path / place).mkdir(parents=True)
    usage = HostUsage(devices=tmp_path)
    assert (usage._disk(), usage._network()) == ((100, 10), (5, 4))
    # a container that is shown no hardware: all of it but the loopback
    assert HostUsage(devices=tmp_path / "none")._network() == (10, 8)


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing costs nothing but itself."""

    def missing(*_: object, **__: object) -> None:
        raise NotImplementedError("couldn't find a file")

    for name in ("cpu_times", "disk_io_counters", "net_io_counters"):
        monkeypatch.setattr(psutil, name, missing)
    usage, readings = HostUsage(), Readings()
    read(usage, readings)
    assert {name.partition("{")[0] for name in read(usage, readings)} == {
        "system.memory.usage",
        "system.memory.utilization",
    }
