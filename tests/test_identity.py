"""Identity: run, rank and attempt from what launchers say, and who is a helper of whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from entrenar_otel import identity


def test_run_ids_sort_by_time_and_differ() -> None:
    """The time comes first; two runs of one second still are two."""
    now = datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)
    ids = {identity.new_run_id(now) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"20261124-091502-[a-z]+-[0-9a-f]{6}", one) for one in ids)
    assert max(ids) < identity.new_run_id(now + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("environ", "run_id"),
    [
        ({}, None),
        ({"ENTRENAR_RUN_ID": "mine", "TORCHELASTIC_RUN_ID": "t", "SLURM_JOB_ID": "1"}, "mine"),
        ({"TORCHELASTIC_RUN_ID": "t", "SLURM_JOB_ID": "1"}, "t"),
        ({"TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "1"}, "1.0"),
        ({"SLURM_JOB_ID": "12", "SLURM_STEP_ID": "3"}, "12.3"),
        ({"ENTRENAR_RUN_ID": "", "TORCHELASTIC_RUN_ID": ""}, None),
    ],
)
def test_run_id_from_a_launcher(environ: dict[str, str], run_id: str | None) -> None:
    """Ours before torchrun's before Slurm's; torchrun's default `none` is no id."""
    assert identity.run_id_from(environ) == run_id


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "1"}, (3, 8)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}, (0, 4)),
        ({"RANK": "five", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"RANK": "3"}, (3, 4)),
        ({"RANK": "3", "WORLD_SIZE": "1"}, (3, 4)),
    ],
)
def test_rank_from_a_launcher(environ: dict[str, str], expected: tuple[int, int]) -> None:
    """The first launcher that says something sensible; a world always holds its rank."""
    assert identity.rank_from(environ) == expected


@pytest.mark.parametrize("name", ["ENTRENAR_DISABLED", "OTEL_SDK_DISABLED"])
def test_disabled_is_a_switch(name: str) -> None:
    """The usual words for yes, in any case; anything else is no."""
    assert all(identity.is_disabled({name: word}) for word in ("1", "true", "TRUE", " yes ", "on"))
    assert not any(identity.is_disabled({name: word}) for word in ("", "0", "false", "no", "maybe"))
    assert not identity.is_disabled({})


def test_the_recording_process_is_no_worker_of_itself() -> None:
    """And when it stops recording, nothing is left for later children to see."""
    identity.mark_recording(rank=2)
    assert json.loads(os.environ[identity._PARENT]) == {"pid": os.getpid(), "rank": 2}
    assert not identity.is_worker(2)
    identity.unmark_recording()
    assert identity._PARENT not in os.environ


@pytest.mark.parametrize("mark", ["", "no json", "[]", "5", '{"pid": "x", "rank": 0}', '{"pid": 1}'])
def test_a_mark_that_is_none_is_ignored(monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    """The environment belongs to the user."""
    monkeypatch.setenv(identity._PARENT, mark)
    monkeypatch.setattr(identity, "_forked_from_recorder", True)
    assert not identity.is_worker(0)
    identity.unmark_recording()
    assert os.environ[identity._PARENT] == mark


def test_a_forked_child_is_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same rank, that is: with a rank of its own it is a peer. It cannot unmark its parent."""
    monkeypatch.setattr(identity, "_forked_from_recorder", False)
    monkeypatch.setenv(identity._PARENT, json.dumps({"pid": os.getppid(), "rank": 1}))
    assert not identity.is_worker(1)  # started anew: a program of its own
    identity.mark_forked()
    assert identity.is_worker(1)
    assert not identity.is_worker(0)
    identity.unmark_recording()
    assert identity._PARENT in os.environ


def test_a_spawned_child_is_a_worker_and_a_new_program_is_not() -> None:
    """What multiprocessing starts helps; what the shell starts trains."""
    identity.mark_recording(rank=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(identity.is_worker, [0, 1]) == [True, False]
    program = "from entrenar_otel import identity; print(identity.is_worker(0))"
    started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert started.stdout == "False\n"


def test_process_started_is_when_this_process_was_created() -> None:
    """Against the kernel's own numbers: ticks since boot, and how long ago that was; to a second."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    expected = datetime.now(UTC) - timedelta(seconds=age_seconds)
    assert abs(identity.process_started() - expected) < timedelta(seconds=1.1)
    assert identity.process_started() == identity.process_started()


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
    assert before <= identity.process_started() <= datetime.now(UTC)
