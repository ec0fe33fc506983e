"""Process: run ids, the switch, when it began."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from entrenar_otel.identity import process


def test_run_ids_sort_by_time_and_differ() -> None:
    """The time comes first; two runs of one second still are two."""
    now = datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)
    ids = {process.new_run_id(now) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"20261124-091502-[a-z]+-[0-9a-f]{6}", one) for one in ids)
    assert max(ids) < process.new_run_id(now + timedelta(seconds=1))


@pytest.mark.parametrize("name", ["ENTRENAR_DISABLED", "OTEL_SDK_DISABLED"])
def test_disabled_is_a_switch(name: str) -> None:
    """The usual words for yes, in any case; anything else is no."""
    assert all(process.is_disabled({name: word}) for word in ("1", "true", "TRUE", " yes ", "on"))
    assert not any(process.is_disabled({name: word}) for word in ("", "0", "false", "no", "maybe"))
    assert not process.is_disabled({})


def test_process_started_is_when_this_process_was_created() -> None:
    """Against the kernel's own numbers: ticks since boot, and how long ago that was; to a second."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    expected = datetime.now(UTC) - timedelta(seconds=age_seconds)
    assert abs(process.process_started() - expected) < timedelta(seconds=1.1)
    assert process.process_started() == process.process_started()


@pytest.mark.parametrize("stat", [None, "cpu 1 2 3\n", "btime soon\n"])
def test_process_started_without_proc_is_now(
    tmp_path: Path, stat: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not say, the first question is the start."""
    if stat is not None:
        own = tmp_path / str(os.getpid()) / "stat"
        own.parent.mkdir()
        own.write_bytes(Path("/proc/self/stat").read_bytes())
        (tmp_path / "stat").write_text(stat)
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
    before = datetime.now(UTC)
    assert before <= process.process_started() <= datetime.now(UTC)
