"""Run records: whose attempt it is, also where several claim at the same time."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.lake.records import runs
from entrenar_otel.lake.records.runs import claim, new_record


def record(process: str) -> runs.RunRecord:
    return new_record(
        run_id="r", rank=0, world_size=1, day="2026-11-29", config=None, model_id=None, version=None,
        process=process, live="",
    )  # fmt: skip


@pytest.mark.parametrize("processes", [["host-1-a", "host-1-a"], ["host-1-a", "host-2-b"]])
def test_two_claims_at_the_same_moment(
    processes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one dead process, by two who recover it, there is one attempt; for two processes there are two."""
    storage = Lake(tmp_path / "lake").storage
    both = threading.Barrier(2)
    look = runs._last_attempt

    def together(*arguments: Any) -> int:
        found = look(*arguments)
        if not both.broken and not found:
            both.wait(60)
        return found

    monkeypatch.setattr(runs, "_last_attempt", together)
    claimed: list[int] = []
    threads = [
        threading.Thread(target=lambda name=name: claimed.append(claim(storage, record(name)).attempt))
        for name in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == ([1, 1] if len(set(processes)) == 1 else [1, 2])
    assert len(Lake(tmp_path / "lake").runs()) == len(set(processes))


@pytest.mark.parametrize("step", ["_last_attempt", "_claimed_by"])
@pytest.mark.parametrize("comes", ["before", "after"])
def test_another_claim_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, comes: str
) -> None:
    """Whenever the one that is quicker claims for the same process, there is one attempt."""
    storage = Lake(tmp_path / "lake").storage
    look = getattr(runs, step)
    others: list[int] = []

    def with_another(*arguments: Any) -> Any:
        found = look(*arguments) if comes == "after" else None
        if not others:
            monkeypatch.setattr(runs, step, look)
            others.append(claim(storage, record("host-1-a")).attempt)
        return found if comes == "after" else look(*arguments)

    monkeypatch.setattr(runs, step, with_another)
    assert [claim(storage, record("host-1-a")).attempt, *others] == [1, 1]
    assert len(Lake(tmp_path / "lake").runs()) == 1


def test_a_git_that_does_not_answer_holds_no_run_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pipe is held open: by a child of its own here, by a fork in another thread as well."""
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nsleep 600 &\necho $! > sleeper\nexec sleep 600\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(runs, "_GIT_SECONDS", 1.0)
    monkeypatch.setattr(runs, "_git_commits", {})
    try:
        assert runs.git_commit() is None
        sleeper = int((tmp_path / "sleeper").read_text())
        os.kill(sleeper, 0)  # it goes on, and so does the run
    finally:
        os.kill(sleeper, signal.SIGKILL)
