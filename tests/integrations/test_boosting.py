"""RoundScores: which data set and which metric is what."""

from __future__ import annotations

import pytest

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
