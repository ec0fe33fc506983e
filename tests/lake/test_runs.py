"""Run records: whose attempt it is, also where several claim at the same time."""

from __future__ import annotations

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
