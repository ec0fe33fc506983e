"""Cgroup: limits as the kernel's files have them, in a folder that looks like theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from entrenar_otel.system.cgroup import Cgroup
from entrenar_otel.system.host_usage import HostUsage
from entrenar_otel.system.process_usage import ProcessUsage
from entrenar_otel.system.readings import Readings


def make(folder: Path, files: Mapping[str, str], own: str = "0::/job/task\n") -> Cgroup:
    (folder / "root/job/task").mkdir(parents=True)
    (folder / "root/cgroup.controllers").write_text("cpu memory\n")
    for name, text in files.items():
        (folder / "root" / name).write_text(text)
    (folder / "own").write_text(own)
    return Cgroup(folder / "root", folder / "own")


def test_the_tightest_limit_up_to_the_root_counts(tmp_path: Path) -> None:
    group = make(
        tmp_path,
        {
            "job/task/cpu.max": "max 100000\n",
            "job/cpu.max": "150000 100000\n",
            "cpu.max": "400000 100000\n",
            "job/task/memory.max": "1000\n",
            "job/task/memory.current": "700\n",
            "job/task/memory.stat": "anon 400\ninactive_file 300\n",
            "job/memory.max": "5000\n",
            "job/memory.current": "4900\n",
            "job/memory.stat": "anon 4900\ninactive_file 100\n",
        },
    )
    assert group.cpus() == 1.5
    assert group.memory() == (4900, 200)


def test_cached_files_make_room(tmp_path: Path) -> None:
    group = make(
        tmp_path,
        {
            "job/memory.max": "1000",
            "job/memory.current": "990",
            "job/memory.stat": "inactive_file 800\nslab 1\n",
        },
    )
    assert group.memory() == (990, 810)


@pytest.mark.parametrize("own", ["0::/\n", "12:memory:/job\n", "", "0::/../elsewhere\n"])
def test_without_a_limit(tmp_path: Path, own: str) -> None:
    """In a namespace of its own, under version 1, or with a path that is not mounted here."""
    group = make(tmp_path, {"job/cpu.max": "50000 100000", "job/memory.max": "1"}, own)
    assert (group.cpus(), group.memory()) == (None, None)


def test_no_groups_at_all(tmp_path: Path) -> None:
    assert Cgroup(tmp_path, tmp_path / "own").cpus() is None


def test_a_quota_is_what_a_process_has(tmp_path: Path) -> None:
    """With a quarter of a CPU, a process that keeps one busy is at 400 %."""
    group = make(tmp_path, {"job/cpu.max": "25000 100000"})
    moments = iter([0.0, 1.0])
    usage, readings = ProcessUsage(group, clock=lambda: next(moments)), Readings()
    usage.read(readings)
    before = sum(psutil.Process().cpu_times()[:2])
    while sum(psutil.Process().cpu_times()[:2]) < before + 0.2:
        pass
    readings.take()
    usage.read(readings)
    (value,) = [v for s, v in readings.take().items() if s.metric == "process.cpu.utilization"]
    assert value == pytest.approx(0.8, rel=0.5)


def test_what_the_container_holds(tmp_path: Path) -> None:
    group = make(
        tmp_path,
        {"job/memory.max": "1000", "job/memory.current": "990", "job/memory.stat": "inactive_file 800\n"},
    )
    readings = Readings()
    HostUsage(group).read(readings)
    values = {series.metric: value for series, value in readings.take().items()}
    assert values["container.memory.usage"] == 990
    assert values["container.memory.available"] == 810
