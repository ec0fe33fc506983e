"""Groups: seeds are samples of their configuration, and configurations are compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from entrenar_otel import Lake, NotMeasured, RunError
from entrenar_otel.compare.groups import GroupComparison, GroupMetric, compare_groups
from entrenar_otel.compare.significance import holm, mean_interval, welch

Train = Callable[..., None]


def accuracy_of(found: GroupComparison) -> GroupMetric:
    return next(one for one in found.metrics if one.name == "accuracy validation")


@pytest.fixture
def sweep(train: Train) -> None:
    """Three learning rates with four seeds each: 0.2 is 1.5 points better than 0.1, 0.3 as good as 0.1."""
    for lr, gain in ((0.1, 0.0), (0.2, 0.015), (0.3, 0.0)):
        for seed in range(4):
            config = {"lr": lr, "model": {"init_seed": seed}}
            train(f"lr{lr}-{seed}", seed=seed, gain=gain, config=config, epochs=4, steps=20)


def test_a_sweep_over_seeds(sweep: None) -> None:
    found = compare_groups("lake", "config.lr")
    assert [(group.name, len(group.run_ids), group.configurations) for group in found.groups] == [
        ("0.1", 4, 1), ("0.2", 4, 1), ("0.3", 4, 1),
    ]  # fmt: skip
    one = accuracy_of(found)
    assert (one.best, found.of, found.notes) == ("0.2", "digits", ())
    assert [(pair.a, pair.b, pair.p_corrected < 0.05) for pair in one.pairs] == [
        ("0.1", "0.2", True), ("0.1", "0.3", False), ("0.2", "0.3", True),
    ]  # fmt: skip
    assert found.metrics[0] is one  # the validation's accuracy is what people look at first


def test_the_numbers_are_those_of_the_samples(sweep: None) -> None:
    one, lake = accuracy_of(compare_groups("lake", "config.lr")), Lake("lake")
    samples = {
        group.group: [
            lake.curve("accuracy", f"lr{group.group}-{seed}")["value"][-1].as_py() for seed in range(4)
        ]
        for group in one.groups
    }
    for group in one.groups:
        assert (group.mean, group.low, group.high) == pytest.approx(mean_interval(samples[group.group]))
    results = [welch(samples[pair.a], samples[pair.b]) for pair in one.pairs]
    assert [pair.p_corrected for pair in one.pairs] == pytest.approx(holm([r.p_value for r in results]))
    turned = one.pair("0.2", "0.1")
    assert turned is not None
    assert turned.result.effect == -one.pairs[0].result.effect
    assert (turned.result.low, turned.result.high) == (-one.pairs[0].result.high, -one.pairs[0].result.low)
    assert one.pair("0.1", "9") is None


def test_two_runs_stand_for_their_configurations(sweep: None) -> None:
    """`compare A B --group-by config`: all seeds of either, and no other run."""
    found = compare_groups("lake", "config", "lr0.1-2", "lr0.2-0")
    assert [(group.name, len(group.run_ids)) for group in found.groups] == [("lr=0.1", 4), ("lr=0.2", 4)]
    assert accuracy_of(found).pairs[0].p_corrected < 0.05


def test_versions_as_groups(versions: None) -> None:
    found = compare_groups("lake", "version", "digits@1.0.0", "digits@1.1.0", test="mann_whitney")
    assert [group.name for group in found.groups] == ["1.0.0", "1.1.0"]
    assert accuracy_of(found).pairs[0].p_corrected == pytest.approx(2 / 252)
    assert [group.name for group in compare_groups("lake", "version").groups] == ["1.0.0", "1.0.1", "1.1.0"]
    alone = compare_groups("lake", "config.lr", "digits@1.0.1")
    assert [(group.name, len(group.run_ids)) for group in alone.groups] == [("0.11", 5)]
    assert accuracy_of(alone).pairs == ()


def test_groups_that_are_no_samples_say_so(train: Train) -> None:
    """Another setting varies within a group; one seed several times; one run only."""
    for at, batch in enumerate((32, 64)):
        train(f"a{at}", seed=at, config={"batch": batch}, epochs=2, steps=4)
    for at in range(2):
        train(f"b{at}", seed=7, config={"lr": 0.2, "batch": 32}, epochs=2, steps=4)
    train("c", config={"lr": 0.3, "batch": 32}, epochs=2, steps=4)
    train("other", model="other", config={"lr": 0.4}, epochs=2, steps=4)
    found = compare_groups("lake", "config.lr", "digits")
    assert found.notes == (
        "0.1: runs also differ in batch",
        "0.2: 2 runs with one and the same seed: samples of it only as far as they differ",
        "one run only: 0.3",
    )
    (single,) = [group for group in accuracy_of(found).groups if group.group == "0.3"]
    assert math.isnan(single.low)
    finer = compare_groups("lake", ["config.lr", "config.batch"], "a0")
    assert [group.name for group in finer.groups] == [
        "lr=0.1, batch=32", "lr=0.1, batch=64", "lr=0.2, batch=32", "lr=0.3, batch=32",
    ]  # fmt: skip
    assert compare_groups("lake", "config.lr").of == "other"  # the latest run's model


def test_what_is_wrong_is_said(sweep: None) -> None:
    with pytest.raises(
        RunError, match=r"expected something to group runs by, got 'lr'; there is: config, config\.lr"
    ):
        compare_groups("lake", "lr")
    with pytest.raises(RunError, match=r"got 'config\.init_seed'"):
        compare_groups("lake", "config.init_seed")
    with pytest.raises(NotMeasured, match="'f1' was not measured"):
        compare_groups("lake", "config.lr", metrics=["f1"])
    with pytest.raises(RunError, match="no run or version 'nothing'"):
        compare_groups("lake", "config.lr", "nothing")
