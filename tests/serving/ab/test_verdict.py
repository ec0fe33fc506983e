"""Verdicts over outcomes that are made here: the decision, the numbers behind it, the words."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare, ttest_ind

from entrenar_otel.serving.ab.design import Design, guardrails_of
from entrenar_otel.serving.ab.outcomes import Outcomes
from entrenar_otel.serving.ab.verdict import judge, sample_ratio


def made(a: Any, b: Any, *, counts: Any = None, split: Any = None, **more: Any) -> Outcomes:
    """Outcomes of users with these totals in each arm."""
    total = np.concatenate([np.asarray(a, float), np.asarray(b, float)])
    n = len(total)
    share = len(b) / n if n else 0.5
    count = np.ones(n, np.int64) if counts is None else np.asarray(counts)
    given = {
        "in_b": np.arange(n) >= len(a),
        "split": np.full(n, share) if split is None else np.broadcast_to(np.asarray(split, float), n),
        "in_both": np.zeros(n, bool),
        "count": count,
        "total": total,
        "nonfinite": np.zeros(n, np.int64),
        "is_binary": bool(np.isin(total, (0, 1)).all()),
    }
    return Outcomes(**given | more)


def design(**change: Any) -> Design:
    given: dict[str, Any] = {"model_a": "m@1", "model_b": "m@2", "metric": "accuracy", "traffic_split": 0.5}
    given["guardrails"] = guardrails_of(change.pop("guardrails", None))
    return Design(**given | change)


def ones(share: float, n: int) -> np.ndarray:
    return (np.arange(n) < round(share * n)).astype(float)


def test_b_is_better() -> None:
    result = judge(design(), {"accuracy": made(ones(0.80, 20_000), ones(0.82, 20_000))})
    assert result.decision == "B"
    assert result.summary == "B is better by 2.0 points (95 % always-valid interval 0.8 to 3.2)"
    assert result.kind == "binary"
    assert result.effect == pytest.approx(0.02)
    assert result.relative_effect == pytest.approx(0.025)
    assert result.p_value < 0.05
    assert set(result.fixed) == {"welch", "mann_whitney", "two_proportions"}
    assert str(result).splitlines() == [
        "A/B test m@1 vs m@2",
        "",
        "  B is better by 2.0 points (95 % always-valid interval 0.8 to 3.2).",
        "",
        "  A  m@1: 20,000 users, accuracy 80.00 %",
        "  B  m@2: 20,000 users, accuracy 82.00 %",
        "",
        "  for a single look at a planned size: welch p < 0.0001, mann whitney p < 0.0001, "
        "two proportions p < 0.0001",
    ]


def test_a_is_better_where_less_is_good() -> None:
    random = np.random.default_rng(0)
    a, b = random.exponential(0.100, 5000), random.exponential(0.120, 5000)
    result = judge(design(metric="latency"), {"latency": made(a, b)})
    assert (result.decision, result.kind) == ("A", "continuous")
    assert result.summary.startswith("A is better by 0.015 (95 % always-valid interval 0.008 to 0.022)")
    assert result.low > 0
    assert result.fixed["welch"].p_value == pytest.approx(ttest_ind(b, a, equal_var=False).pvalue)


def test_no_decision_yet() -> None:
    result = judge(design(), {"accuracy": made(ones(0.80, 2000), ones(0.81, 2000))})
    assert result.decision == "undecided"
    assert result.summary == (
        "No decision yet: B less A is 1.0 points (95 % always-valid interval -2.9 to 4.9), which holds 0"
    )


@pytest.mark.parametrize(
    ("a", "b", "split", "told"),
    [
        (
            [],
            [],
            0.5,
            "No decision yet: there are no outcomes. Call record(user_id, value) where they are known",
        ),
        ([1], [], 0, "No decision: nobody was in arm B (m@2), and traffic_split gives it none"),
        ([], [1], 1, "No decision: nobody was in arm A (m@1), and traffic_split gives it none"),
        ([1] * 5, [], 0.1, "No decision: nobody was in arm B (m@2), and 10 % was to be in it"),
        (
            [1],
            [0],
            0.5,
            "No decision yet: 1 user in A, 1 user in B; from 100 in each on there is an interval",
        ),
    ],
)
def test_too_little_to_say(a: list[float], b: list[float], split: float, told: str) -> None:
    """No outcomes, an arm without traffic, one sample per arm."""
    result = judge(design(traffic_split=split), {"accuracy": made(a, b, split=split)})
    assert (result.decision, result.summary) == ("undecided", told)
    json.dumps(result.as_dict(), allow_nan=False)
    assert told in str(result)


def test_outcomes_that_are_all_alike() -> None:
    result = judge(design(metric="revenue"), {"revenue": made([3.0] * 500, [4.0] * 500)})
    assert result.decision == "undecided"
    assert "so chance is unknown" in result.summary


def test_a_sample_ratio_mismatch_makes_every_result_void() -> None:
    a, b = ones(0.5, 10_000), ones(0.9, 9_000)
    result = judge(design(), {"accuracy": made(a, b, split=0.5)})
    assert result.decision == "mismatch"
    assert result.summary.startswith(
        "Sample ratio mismatch: 47.37 % of the users are in B, 50.00 % were to be (p < 0.0001). "
        "Do not trust this result: find out first whose outcomes are missing"
    )


@pytest.mark.parametrize(("n_a", "n_b", "share"), [(900, 100, 0.1), (870, 130, 0.1), (44_000, 45_000, 0.5)])
def test_the_sample_ratio_is_pearsons_chi_square(n_a: int, n_b: int, share: float) -> None:
    ratio = sample_ratio(made([0] * n_a, [0] * n_b, split=share))
    n = n_a + n_b
    assert ratio is not None
    assert ratio.p_value == pytest.approx(
        chisquare([n_a, n_b], [n * (1 - share), n * share]).pvalue, rel=1e-9
    )
    assert ratio.is_mismatch == (ratio.p_value < 0.001)


def test_a_raised_share_is_no_mismatch() -> None:
    """10 % of the first 1,000 users, half of the next: every user counts with the share of their time."""
    split = np.array([0.1] * 900 + [0.5] * 500 + [0.1] * 100 + [0.5] * 500)
    outcomes = made([0] * 1400, [0] * 600, split=split)
    ratio = sample_ratio(outcomes)
    assert ratio is not None
    assert ratio.p_value == 1.0
    notes = judge(design(), {"accuracy": outcomes}).notes
    assert any("traffic_split was changed (0.1, 0.5)" in note and "Simpson's" in note for note in notes)


def test_guardrails() -> None:
    """Worse by 30 % where 5 % is allowed; within what is allowed; too few to say."""
    random = np.random.default_rng(1)
    main = made(ones(0.8, 4000), ones(0.8, 4000))
    slow = made(random.exponential(0.10, 4000), random.exponential(0.13, 4000))
    same = made(random.exponential(0.10, 4000), random.exponential(0.102, 4000))
    one = design(guardrails={"latency": 0.05})
    harmed = judge(one, {"accuracy": main, "latency": slow})
    assert harmed.decision == "A"
    assert harmed.guardrails[0].is_harmed
    assert harmed.guardrails[0].worse == pytest.approx(0.3, abs=0.05)
    assert harmed.summary.startswith("A stays, since B harms a guardrail: latency harmed: 0.1")
    assert harmed.summary.endswith("% worse (5 % worse is allowed)")
    fine = judge(one, {"accuracy": main, "latency": same})
    assert (fine.decision, fine.guardrails[0].is_harmed) == ("undecided", False)
    assert "latency, no harm shown: " in fine.guardrails[0].text
    early = judge(one, {"accuracy": main, "latency": made([0.1], [0.9])})
    assert early.guardrails[0].text.startswith("latency not judged yet: 0.9 in B against 0.1 in A")
    none = judge(one, {"accuracy": main, "latency": made([], [])})
    assert none.guardrails[0].text == "latency: not measured in both arms"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_guardrail_of_which_more_is_good(sign: float) -> None:
    """Also where the mean is below 0: a tenth worse is a tenth of its size further down."""
    random = np.random.default_rng(2)
    a = sign * 10 + random.normal(0, 1, 3000)
    worse, fine = a - 2.0, a - 0.5
    one = design(guardrails={"reward": 0.1})
    main = made(ones(0.8, 3000), ones(0.8, 3000))
    assert judge(one, {"accuracy": main, "reward": made(a, worse)}).guardrails[0].is_harmed
    assert not judge(one, {"accuracy": main, "reward": made(a, fine)}).guardrails[0].is_harmed
    assert not judge(one, {"accuracy": main, "reward": made(a, a + 2)}).guardrails[0].is_harmed


def test_the_unit_of_analysis_is_the_user() -> None:
    """A user with a thousand outcomes weighs as one; with average="observation" by the delta method."""
    random = np.random.default_rng(3)
    counts = random.integers(1, 20, 4000)
    rate = random.beta(2, 2, 4000)
    total = random.binomial(counts, rate).astype(float)
    outcomes = made(total[:2000], total[2000:], counts=counts, is_binary=True)
    per_user = judge(design(), {"accuracy": outcomes})
    assert per_user.kind == "continuous"
    assert per_user.a.mean == pytest.approx((total / counts)[:2000].mean())
    assert per_user.a.observations == counts[:2000].sum()
    assert "the unit of analysis is the user: an arm's mean is that of its users' means" in per_user.notes
    pooled = judge(design(average="observation"), {"accuracy": outcomes})
    assert pooled.a.mean == pytest.approx(total[:2000].sum() / counts[:2000].sum())
    # the delta method, as a bootstrap over users has it
    draws = random.integers(0, 2000, (2000, 2000))
    ratios = total[:2000][draws].sum(1) / counts[:2000][draws].sum(1)
    assert pooled.a.std / math.sqrt(2000) == pytest.approx(ratios.std(), rel=0.1)


def test_what_is_left_out_is_said() -> None:
    bad = np.zeros(2000, np.int64)
    bad[:3] = 1
    both = np.zeros(2000, bool)
    both[10:15] = True
    outcomes = made(ones(0.8, 1000), ones(0.8, 1000), nonfinite=bad, in_both=both)
    result = judge(design(), {"accuracy": outcomes})
    assert (result.a.users, result.b.users, result.a.nonfinite) == (995, 1000, 3)
    assert result.notes[:2] == (
        "accuracy: 3 outcomes not finite (NaN, infinite), left out",
        "5 users in both arms, since traffic_split was changed: left out",
    )


def test_without_scipy_the_sequential_test_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setattr("entrenar_processors.extras.find_spec", lambda _name: None)
    result = judge(design(), {"accuracy": made(ones(0.80, 20_000), ones(0.82, 20_000))})
    assert (result.decision, result.fixed) == ("B", {})
    assert "pip install 'entrenar-otel[" in result.notes[0]


def test_a_stopped_test_says_so() -> None:
    result = judge(design(), {"accuracy": made(ones(0.8, 200), ones(0.8, 200))}, "by hand (noon)", quick=True)
    assert result.fixed == {}
    assert "  Stopped, everybody is in A: by hand (noon)." in str(result)
    assert sys.getsizeof(result.as_dict()["stopped"]) > 0
