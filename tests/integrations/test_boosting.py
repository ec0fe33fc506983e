"""RoundScores: which data set and which metric is what."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import pytest

from entrenar_otel import AndonStop
from entrenar_otel.integrations.boosting import RoundScores, Score
from entrenar_otel.integrations.callback import TrainingRun
from tests.integrations.recorded_runs import rows


@pytest.mark.parametrize(
    ("datasets", "splits"),
    [
        (["train"], ["train"]),
        (["training", "valid_0"], ["train", "validation"]),
        (["validation_0", "validation_1"], ["validation_0", "validation"]),
        (["Train", "holdout", "test"], ["train", "holdout", "validation"]),
        ([], []),
    ],
)
def test_splits(datasets: list[str], splits: list[str]) -> None:
    """The last set that is not the training's is the one that training is stopped early by."""
    assert list(RoundScores(None).splits(datasets).values()) == splits


def logged(loss: str | None, scores: list[Score]) -> list[tuple[object, ...]]:
    run = TrainingRun(run_id="r", quiet=True)
    run.begin()
    RoundScores(loss).log(run, scores, 3)
    run.finish()
    return rows("SELECT metric, tags['split'], step, value FROM metrics ORDER BY seq, metric")


def test_the_first_metric_of_which_less_is_better_is_the_loss_too() -> None:
    scores = [Score("train", "auc", 0.9), Score("train", "logloss", 0.4), Score("valid", "logloss", 0.5)]
    assert logged(None, scores) == [
        ("auc", "train", 3, 0.9),
        ("logloss", "train", 3, 0.4),
        ("loss", "train", 3, 0.4),
        ("logloss", "validation", 3, 0.5),
        ("loss", "validation", 3, 0.5),
    ]


def test_a_loss_that_was_named_is_that() -> None:
    scores = [Score("train", "rmse", 0.4, 0.1), Score("train", "mine", 2.0)]
    assert logged("mine", scores) == [
        ("loss", "train", 3, 2.0),
        ("mine", "train", 3, 2.0),
        ("rmse", "train", 3, 0.4),
        ("rmse_std", "train", 3, 0.1),
    ]


def test_where_more_of_everything_is_better_there_is_no_loss() -> None:
    assert [row[0] for row in logged(None, [Score("train", "ndcg@5", 0.4)])] == ["ndcg@5"]


SETS = [("train", "auc"), ("train", "logloss"), ("held", "logloss"), ("other", "auc")]


@pytest.mark.parametrize("loss", [None, "auc"])
def test_rounds_with_the_scores_of_the_last_are_recorded_as_it_was(loss: str | None) -> None:
    """Whichever of the two ways a round takes, the quick one as soon as it can."""
    told = [[n + place / 8 for place in range(len(SETS))] for n in range(6)]
    found = []
    for is_quick in (False, True):
        run, scores, quick = TrainingRun(run_id=f"r{is_quick:d}", quiet=True), RoundScores(loss), 0
        run.begin()
        for step, values in enumerate(told):
            if is_quick and scores.names == SETS:
                quick += 1
                scores.write(run, values, step)
            else:
                scores.log(
                    run, [Score(*names, value) for names, value in zip(SETS, values, strict=True)], step
                )
        run.finish()
        assert quick == (4 if is_quick else 0)
        sql = f"""SELECT metric, tags['split'], step, value, seq FROM metrics
                  WHERE run_id = '{run.monitor and run.monitor.run_id}' ORDER BY seq, metric"""
        found.append(rows(sql))
    assert len(found[0]) == 6 * 6
    assert found[0] == found[1]


@pytest.mark.parametrize("on_stop", ["raise", "stop"])
def test_a_nan_stops_at_its_own_round_the_quick_way_too(on_stop: Any) -> None:
    run, scores = TrainingRun(run_id="r", quiet=True, on_stop=on_stop), RoundScores(None)
    run.begin()
    for step in range(3):
        scores.log(run, [Score("train", "logloss", 0.5)], step)
    assert scores.names == [("train", "logloss")]
    with pytest.raises(AndonStop) if on_stop == "raise" else nullcontext():
        scores.write(run, [math.nan], 3)
    if on_stop == "stop":
        assert run.stopped is not None
        assert run.stopped.step == 3
    run.finish()
    steps = rows("SELECT step FROM metrics WHERE metric = 'loss' AND isnan(value)")
    assert steps == [(3,)]


@pytest.mark.parametrize(
    "scores",
    [
        [Score("train", "rmse", 0.4, 0.1)],  # folds
        [Score("train", "logloss", 0.4), Score("train", "loss", 0.5)],  # which of them is the loss?
        [Score("train", "logloss", 0.4), Score("train", "logloss", 0.5)],
        [],
    ],
)
def test_other_scores_are_never_taken_quickly(scores: list[Score]) -> None:
    run, known = TrainingRun(run_id="r", quiet=True), RoundScores(None)
    run.begin()
    for step in range(4):
        known.log(run, scores, step)
        assert known.names is None
    run.finish()
