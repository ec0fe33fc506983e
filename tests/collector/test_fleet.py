"""Many short runs of several writers at a time, by a gateway into a sink: every sample arrives once."""

from __future__ import annotations

from pathlib import Path

from benchmarks.fleet import WRITERS, Fleet

RUNS, STEPS = 8, 200
#: Of each writer, which ends before its metrics would be exported a second time.
PUBLISHED = ("training_loss", "training_value", "training_progress_step", "training_run_state")


def test_a_sweep(collector_binary: str, tmp_path: Path) -> None:
    with Fleet(tmp_path, collector_binary) as fleet:
        arrived = fleet.train(RUNS, STEPS)
    print(arrived)  # seen with -rP
    assert arrived.values == RUNS * WRITERS * STEPS * 5
    assert arrived.is_exact, arrived
    writers = RUNS * WRITERS
    assert arrived.requests["logs"] >= writers
    assert arrived.requests["metrics"] >= writers
    assert {arrived.series[name] for name in PUBLISHED} == {writers}
    assert arrived.files_after["metrics"] == arrived.files_after["runs"] == writers
