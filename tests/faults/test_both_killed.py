"""Trainers and their sink, killed at random (benchmarks/otlp_kills): every sample is there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.otlp_kills import Kills


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["blocks", "events"])
def test_trainers_and_their_sink_are_killed(tmp_path: Path, mode: str) -> None:
    outcome = Kills(tmp_path, seed=1, mode=mode).run(trainers=3, sinks=3)
    assert outcome.problems == []
    assert (outcome.lost, outcome.doubled, outcome.wrong) == (0, 0, 0)
    assert outcome.arrived >= outcome.acknowledged > 100
    assert outcome.trainers_killed == outcome.sinks_killed == 3
