"""Causes: each on real trainings that are made to fail that way, and none on those that do not fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Series

from benchmarks.curves import DATA, curves
from benchmarks.failing import FAILING, HELD_OUT, TUNED, healthy
from benchmarks.postmortem import causes_of_rows, language_model, rows_of
from entrenar_otel import AndonStop, Monitor
from entrenar_otel.report import PostMortem
from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.ranking import causes_of, ranked
from entrenar_otel.report.learning import Learning

Train = Callable[[int, Callable[..., None]], None]


def report_of(train: Train, seed: int, folder: Path) -> PostMortem:
    """The post-mortem of a training that was recorded."""
    monitor = Monitor("failing", lake=folder / "lake", live=folder / "live", quiet=True)
    try:
        with monitor, np.errstate(all="ignore"):
            train(seed, monitor.log)
    except AndonStop:
        pass
    return monitor.generate_postmortem()


@pytest.mark.parametrize("name", FAILING)
def test_a_training_that_fails_this_way_is_recognised(name: str, tmp_path: Path) -> None:
    """Recorded, stopped at a NaN as the defaults do it, and read back from the lake."""
    report = report_of(FAILING[name], TUNED[0], tmp_path)
    assert report.causes[0].name == name, report.causes
    assert report.causes[0].evidence
    assert any(digit in " ".join(report.causes[0].evidence) for digit in "0123456789")
    assert report.summary[2].startswith("What to do: ")


@pytest.mark.parametrize("name", [name for name in FAILING if name != "data_wait"])
def test_copies_that_were_not_tuned_on(name: str) -> None:
    """Other data, widths and ways to fail; docs/postmortem.md has the figures of all."""
    seeds = HELD_OUT[:4]
    found = [causes_of_rows(rows_of(FAILING[name], seed)) for seed in seeds]
    assert sum(bool(causes) and causes[0].name == name for causes in found) >= 3, found


def test_a_training_that_learns_has_no_cause(tmp_path: Path) -> None:
    """Recorded; and more of them from their curves alone."""
    report = report_of(healthy, 0, tmp_path)
    assert report.causes == ()
    assert report.summary[1] == "Nothing that was recorded speaks for a fault."
    assert sum(bool(causes_of_rows(rows_of(healthy, seed))) for seed in range(40, 60)) <= 2


@pytest.mark.skipif(not DATA.exists(), reason="the published curves are not here")
def test_published_language_models_have_no_cause() -> None:
    """None of 18 real pre-trainings is said to have failed."""
    found = {name: causes_of_rows(language_model(name)) for name in curves()}
    assert len(found) == 18
    assert {name: causes for name, causes in found.items() if causes} == {}


def test_a_reward_that_rises_excuses_a_loss_that_rises() -> None:
    """A policy's loss says nothing by its size."""
    steps = np.arange(200)
    rows: dict[Series, Any] = {Series("loss"): (steps, 1.0 + steps * 0.1)}
    assert [cause.name for cause in causes_of_rows(rows)] == ["learning_rate_too_high"]
    rows[Series("rollout/ep_rew_mean")] = (steps, steps * 1.0)
    assert causes_of_rows(rows) == []


def test_what_follows_from_another_is_no_cause_of_its_own() -> None:
    """And of one name there is one, with the evidence of both."""
    causes = [
        Cause("plateau", "", "", 0.7),
        Cause("vanishing_gradients", "", "", 0.8, ("seen",)),
        Cause("vanishing_gradients", "", "", 0.9, ("told",)),
    ]
    (left,) = ranked(causes)
    assert (left.name, left.score, left.evidence) == ("vanishing_gradients", 0.9, ("told", "seen"))


def test_nothing_has_no_cause() -> None:
    """An empty run."""
    assert causes_of(Learning(), {}) == []
