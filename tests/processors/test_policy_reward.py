"""A run that reports a reward: its loss need not fall, so what rules say of that is only logged."""

from __future__ import annotations

from typing import Any

import pytest
from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors.alert import Action
from entrenar_processors.config.build import policy_of
from entrenar_processors.config.models import parse_config
from entrenar_processors.policy import Policy


def policy(has_reward: bool = True, **monitor: Any) -> Policy:
    made = policy_of(parse_config({"monitor": monitor}))
    made.has_reward = has_reward
    return made


def told(policy: Policy, detector: str, metric: str = "loss", value: float = 30.0) -> bool:
    at = Coordinates(time_ns=10**9, step=500, seq=500)
    finding = Finding(detector, Series(metric), Severity.HIGH, at, value, 1.0, 9.0)
    assert policy.is_logged(finding) != any(
        one.action is not Action.LOG for one in policy.decide([finding], 10**9)
    )
    return not policy.is_logged(finding)


@pytest.mark.parametrize("detector", ["spike", "divergence"])
def test_its_loss_is_not_told_of(detector: str) -> None:
    assert told(policy(has_reward=False), detector)
    assert not told(policy(), detector)
    assert not told(policy(), detector, value=1e9)


@pytest.mark.parametrize(("value", "is_told"), [(30.0, False), (99.0, False), (100.0, True), (4000.0, True)])
def test_its_gradient_norm_is_where_it_explodes(value: float, is_told: bool) -> None:
    assert told(policy(), "spike", "train/grad_norm", value) is is_told
    assert told(policy(has_reward=False), "spike", "train/grad_norm", value)


@pytest.mark.parametrize("detector", ["nonfinite.loss", "stuck", "accuracy_drop", "silent.nan"])
def test_all_else_is_as_in_any_run(detector: str) -> None:
    assert told(policy(), detector)


def test_what_the_file_says_is_done() -> None:
    """Who sets actions means them."""
    given = {"actions": {"low": "notify", "medium": "notify", "high": "stop"}}
    assert told(policy(spike=given), "spike")
    assert not told(policy(spike=given), "divergence")
    assert not told(policy(spike={"window": 50}), "spike")
