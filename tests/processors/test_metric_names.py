"""What a metric is, whatever it is called: names of frameworks and scripts, and some that look alike."""

from __future__ import annotations

import pytest
from entrenar_processors import (
    AccuracyDrop,
    DivergenceDetector,
    Samples,
    Series,
    SpikeDetector,
)
from entrenar_processors.detectors.nonfinite import NonfiniteDetector, is_training_loss
from entrenar_processors.metric_names import is_reward, known_as, name_in, split_of

# fmt: off
LOSSES = (
    "loss", "Loss", "LOSS", "train_loss", "train/loss", "loss/train", "training_loss", "train.loss",
    "trainLoss", "total_loss", "loss_total", "train_loss_step", "train_loss_epoch", "avg_loss", "mean_loss",
    "batch_loss", "running_loss", "loss_metrics/global_avg_loss", "train/total_loss", "Train/Loss", "losses",
)
VALIDATION_LOSSES = (
    "val_loss", "val/loss", "loss/val", "eval_loss", "eval/loss", "validation_loss", "test_loss",
)
OTHERS = (
    "aux_loss", "kl_loss", "loss_scale", "loss_cls", "policy_loss", "lossy", "no_loss", "learning_rate", "lr",
    "epoch", "step", "step_duration", "train/epoch", "training", "validation", "global_step", "accuracy_gap",
    "top5", "grad_scale", "norm", "gradient", "weight_norm",
)
ACCURACIES = {
    None: ("accuracy", "acc", "Accuracy", "mean_acc", "acc1", "top1"),
    "validation": ("val_acc", "val/accuracy", "eval_accuracy", "test/acc"),
    "train": ("train_acc", "train/accuracy", "accuracy/train"),
}
NORMS = {
    None: ("gradient_norm", "grad_norm", "gradNorm", "grad_2.0_norm_total", "global_grad_norm"),
    "train": ("train/grad_norm",),
}
# fmt: on


@pytest.mark.parametrize("name", LOSSES)
def test_a_training_loss(name: str) -> None:
    """Each is the loss, and of no held-out set."""
    assert known_as(name)[0] == "loss"
    assert is_training_loss(Series(name))
    assert not is_training_loss(Series.of(name, {"split": "val"}))


@pytest.mark.parametrize("name", VALIDATION_LOSSES)
def test_a_validation_loss(name: str) -> None:
    """It is the loss, and no reason to stop."""
    assert (known_as(name), is_training_loss(Series(name))) == (("loss", "validation"), False)


@pytest.mark.parametrize(("known", "names"), [("accuracy", ACCURACIES), ("gradient_norm", NORMS)])
def test_accuracy_and_gradients(known: str, names: dict[str | None, tuple[str, ...]]) -> None:
    """By name and split."""
    for split, given in names.items():
        assert {known_as(name) for name in given} == {(known, split)}


@pytest.mark.parametrize("name", OTHERS)
def test_what_only_looks_alike(name: str) -> None:
    """It keeps its name, and no split is read out of it."""
    assert known_as(name) == (name, None)
    assert name_in({"loss", "accuracy", "gradient_norm"}, Series(name)) is None


def test_the_name_that_was_given_comes_first() -> None:
    """A setting for `train_loss` is for that one alone; the tag says more than the name."""
    assert name_in({"loss", "train_loss"}, Series("train_loss")) == "train_loss"
    assert name_in({"train_loss"}, Series("loss")) is None
    assert split_of(Series.of("val_loss", {"split": "train"})) == "train"
    assert split_of(Series.of("loss", {"split": "holdout"})) == "holdout"


SPIKE = [1.0, 1.02, 0.98, 1.01, 0.99] * 30 + [9.0] * 6


@pytest.mark.parametrize("name", ["train_loss", "val/loss", "eval_loss", "grad_norm", "Loss"])
def test_spikes_are_found_by_any_name(name: str) -> None:
    """With the threshold of the metric that it is: a gradient norm's is higher."""
    known = known_as(name)[0]
    values = [10 * value for value in SPIKE] if known == "gradient_norm" else SPIKE
    values = values + values[-6:] * 2
    found = SpikeDetector().update(Samples.from_columns({name: values}))
    expected = SpikeDetector().update(Samples.from_columns({known: values}))
    assert found
    assert [finding.at for finding in found] == [finding.at for finding in expected]
    assert {finding.series.metric for finding in found} == {name}


def test_the_others_too() -> None:
    """NaN, slow divergence, and accuracy that falls: validation is preferred across names."""
    nan = float("nan")
    bad = NonfiniteDetector(20, {"aux_loss"}).update(
        Samples.from_columns({"total_loss": [nan], "val_loss": [nan]})
    )
    assert sorted(finding.detector for finding in bad) == ["nonfinite.loss", "nonfinite.other"]
    ramp = [1.0 + 0.01 * (i % 7) + 0.002 * max(0, i - 300) for i in range(900)]
    assert DivergenceDetector().update(Samples.from_columns({"train/loss": ramp}))
    rows = {"train_acc": [0.5] * 300, "val_acc": [0.9, 0.9, 0.9] + [0.7] * 297}
    drops = AccuracyDrop().update(Samples.from_columns(rows))
    assert [finding.series.metric for finding in drops if not finding.resolved] == ["val_acc"]


@pytest.mark.parametrize(
    "name",
    [
        "reward",
        "Rewards",
        "return",
        "train/reward",
        "rollout/ep_rew_mean",
        "charts/episodic_return",
        "episode_reward_mean",
        "AverageEpRet",
        "env_runners/episode_return_mean",
        "eprewmean",
        "EpisodeReward",
        "mean_reward",
    ],
)
def test_names_of_a_reward(name: str) -> None:
    """As Stable-Baselines3, CleanRL, RLlib, Spinning Up, Baselines and people write it."""
    assert is_reward(name)


@pytest.mark.parametrize(
    "name",
    ["loss", "reward_loss", "rewards/chosen", "rewards/margins", "reward_accuracy", "returned", "", "/"],
)
def test_names_that_only_look_like_one(name: str) -> None:
    """A reward model's loss, and what preferences are tuned on, must fall like any other."""
    assert not is_reward(name)
