"""Comparison of recorded runs: known effects are found with their size, and none where there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import AndonStop, Lake, Monitor, NotMeasured, RunError
from entrenar_otel.compare.metrics import WITHIN, Verdict
from entrenar_otel.compare.runs import Comparison, compare_runs
from entrenar_otel.compare.significance import WELCH, welch

Train = Callable[..., None]


def diverge(run_id: str) -> None:
    with Monitor(run_id, lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        monitor.log(scale=math.inf, loss=math.nan)


def crash(run_id: str, **settings: Any) -> None:
    with Monitor(run_id, model_id="digits", lake="lake", quiet=True, **settings) as monitor:
        monitor.log(loss=99.0 / (monitor is None))


def verdicts(found: Comparison) -> dict[str, Verdict]:
    return {one.name: one.verdict for one in found.metrics}


def test_a_version_that_is_two_points_better(versions: None) -> None:
    """Its size within the interval, its settings named, its curve above from early on."""
    found = compare_runs("lake", "digits@1.0.0", "digits@1.1.0")
    accuracy, loss = found.metric("accuracy", "validation"), found.metric("loss")
    assert (accuracy.verdict, loss.verdict, accuracy.method) == (Verdict.BETTER, Verdict.BETTER, WELCH)
    assert accuracy.low < 0.02 < accuracy.high
    assert accuracy.effect == pytest.approx(0.02, abs=0.006)
    assert accuracy.ratio == pytest.approx(accuracy.effect / accuracy.a.final)
    assert accuracy.p_value <= accuracy.p_corrected < 0.01
    assert (accuracy.a.runs, accuracy.b.runs, loss.a.count) == (5, 5, 720)
    assert [(one.name, one.a, one.b) for one in found.settings] == [("optim.name", (), ("adam",))]
    assert (found.a.seeds, found.a.steps) == ({"seed": (0, 1, 2, 3, 4)}, 720.0)
    (curve,) = [one for one in found.curves if one.name == "loss"]
    assert curve.diverges_at is not None
    assert len(curve.steps) == 64
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["metrics"][0]["verdict"] == "better"


def test_versions_that_do_not_differ(versions: None) -> None:
    found = compare_runs("lake", "digits@1.0.0", "digits@1.0.1")
    assert verdicts(found)["accuracy validation"] == verdicts(found)["loss"] == Verdict.UNCERTAIN
    assert [(one.name, one.a, one.b) for one in found.settings] == [("lr", (0.1,), (0.11,))]
    assert all(curve.diverges_at is None for curve in found.curves)


def test_the_numbers_are_those_of_the_samples(versions: None) -> None:
    """By SQL of another make: means of the last tenth, the last values, the best."""
    found = compare_runs("lake", "digits@1.0.0", "digits@1.1.0").metric("loss")
    lake = Lake("lake")
    sides = []
    for name in ("base", "good"):
        values = [lake.curve("loss", f"{name}-{seed}")["value"].to_numpy() for seed in range(5)]
        sides.append(([v[-72:].mean() for v in values], [v[-1] for v in values], [v.min() for v in values]))
    for side, of_side in zip(sides, (found.a, found.b), strict=True):
        expected = [sum(numbers) / 5 for numbers in side]
        assert [of_side.final, of_side.last, of_side.best] == pytest.approx(expected)
    result = welch(sides[0][0], sides[1][0])
    assert found.p_value == pytest.approx(result.p_value)
    assert (found.effect, found.low, found.high) == pytest.approx((result.effect, result.low, result.high))


@pytest.mark.parametrize("test", ["mann_whitney", "bootstrap"])
def test_other_tests(test: Any, versions: None) -> None:
    found = compare_runs("lake", "digits@1.0.0", "digits@1.1.0", test=test, value="last", correction="holm")
    accuracy = found.metric("accuracy")
    assert accuracy.verdict is Verdict.BETTER
    assert accuracy.low < accuracy.effect < accuracy.high
    assert math.isnan(accuracy.p_value) == (test == "bootstrap")


def test_one_run_per_side_is_tested_within_the_runs(train: Train) -> None:
    """And says that this is about steps; long enough, with a large difference."""
    train("a", epochs=10, steps=200)
    train("b", epochs=10, steps=200, gain=0.05)
    found = compare_runs("lake", "a", "b")
    loss, accuracy = found.metric("loss"), found.metric("accuracy")
    assert (loss.method, loss.verdict) == (WITHIN, Verdict.BETTER)
    assert loss.low < -0.05 + 0.0 < loss.high + 0.02
    assert (accuracy.verdict, math.isnan(accuracy.p_value)) == (Verdict.UNTESTED, True)
    assert "one run per side: whether another seed would do the same is not known" in found.notes


def test_one_run_against_several(versions: None) -> None:
    found = compare_runs("lake", "digits@1.0.0", "good-1").metric("accuracy")
    assert found.method.startswith("one value against several")
    assert found.verdict is Verdict.BETTER


def test_the_same_metric_by_other_names(train: Train) -> None:
    """`train/loss` and `loss`, `val_acc` and accuracy of the split validation are compared."""
    train("a")
    train("b", names=("train/loss", "val_acc"))
    found = compare_runs("lake", "a", "b")
    assert verdicts(found).keys() == {"accuracy validation", "loss"}
    assert all(one.a.runs and one.b.runs for one in found.metrics)
    only = compare_runs("lake", "a", "b", metrics=["val_acc"])
    assert verdicts(only).keys() == {"accuracy validation"}


def test_what_is_on_one_side_only_equal_or_not_finite() -> None:
    for run_id, more in (("a", {"old": 1.0}), ("b", {"new": 2.0})):
        with Monitor(run_id, lake="lake", quiet=True) as monitor:
            monitor.log(margin=0.5, threshold=1.0 if run_id == "a" else 2.0, **more)
            if run_id == "a":
                monitor.log(scale=1.0)
    with pytest.raises(AndonStop):
        diverge("c")
    assert verdicts(compare_runs("lake", "a", "b")) == {
        "margin": Verdict.EQUAL,
        "new": Verdict.ONLY_B,
        "old": Verdict.ONLY_A,
        "scale": Verdict.ONLY_A,
        "threshold": Verdict.UNTESTED,
    }
    found = compare_runs("lake", "a", "c")
    assert found.metric("scale").verdict is Verdict.NOT_FINITE
    assert found.metric("loss").b.nonfinite == 1
    assert found.metric("loss").b.last == 0.5


def test_what_was_meant(versions: None) -> None:
    """Latest, the start of an id, a version; and close ones where there is none."""
    found = compare_runs("lake", "base-0", "latest")
    assert (found.a.run_ids, found.b.run_ids) == (("base-0",), ("good-4",))
    with pytest.raises(RunError, match=r"no run or version 'digits@2' in .*; close to it: digits@1\.1\.0"):
        compare_runs("lake", "digits@2", "base-0")
    with pytest.raises(RunError, match=r"no run or version 'bose-0' in .*; close to it: base-0"):
        compare_runs("lake", "bose-0", "base-0")
    with pytest.raises(RunError, match="'base' is a prefix of 5 runs: base-0, base-1"):
        compare_runs("lake", "base", "good-1")
    with pytest.raises(NotMeasured, match=r"'acuracy' was not measured in .*; close to it: accuracy"):
        compare_runs("lake", "base-0", "good-0", metrics=["acuracy"])
    with pytest.raises(RunError, match="no runs in"):
        compare_runs("nowhere", "a", "b")


def test_seeds_of_a_run_are_hinted_at(versions: None) -> None:
    notes = compare_runs("lake", "base-0", "good-0").notes
    assert "4 other runs like base-0 but for the seed: --group-by config takes them as samples" in notes


def test_a_crashed_run_of_a_version_is_left_out(train: Train) -> None:
    train("a-0", version="1")
    train("a-1", version="1", seed=1)
    with pytest.raises(ZeroDivisionError):
        crash("a-2", version="1")
    train("b", version="2")
    found = compare_runs("lake", "digits@1", "digits@2")
    assert found.a.run_ids == ("a-0", "a-1")
    assert "digits@1: 1 run that crashed left out (a-2)" in found.notes
    alone = compare_runs("lake", "a-2", "b")
    assert "a-2 crashed: its last values are those before that" in alone.notes


def test_a_resumed_run_counts_what_its_last_attempt_did(train: Train) -> None:
    train("a", gain=-0.3)
    train("a", gain=0.0)
    train("b")
    found = compare_runs("lake", "a", "b").metric("accuracy")
    assert found.a.count == 12
    assert found.a.final == pytest.approx(0.9, abs=0.02)


def test_a_pruned_run_is_compared_by_its_curves(train: Train) -> None:
    from datetime import timedelta

    train("a")
    train("b", gain=0.05)
    before = compare_runs("lake", "a", "b").metric("loss")
    assert len(Lake("lake").prune(timedelta(0), "a")) == 1
    found = compare_runs("lake", "a", "b")
    assert found.metric("loss").a.final == pytest.approx(before.a.final, abs=0.01)
    assert found.metric("loss").a.best == pytest.approx(before.a.best)
    assert "a pruned: values are those of down-sampled curves" in found.notes
    assert [len(curve.steps) > 24 for curve in found.curves if curve.name == "loss"] == [True]
