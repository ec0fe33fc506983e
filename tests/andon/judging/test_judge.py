"""The judge counts what processors find and the policy decides, in a bounded number of series."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from entrenar_processors import Coordinates, Finding, Samples, Series, Severity
from entrenar_processors.config.build import processors_of, rules_of
from entrenar_processors.config.models import Config
from entrenar_processors.detectors.nonfinite import NonfiniteDetector
from entrenar_processors.policy import Policy

from entrenar_otel import errors
from entrenar_otel.andon.judging import judge as judge_module
from entrenar_otel.andon.judging.judge import Judge


def findings(n: int) -> list[Finding]:
    """One finding in each of n series of spikes, each of a layer of its own."""
    return [
        Finding(
            "spike",
            Series.of(f"loss{i}", {"layer": i}),
            Severity.HIGH,
            Coordinates(time_ns=1, seq=i),
            9.0,
            1.0,
            8.0,
        )
        for i in range(n)
    ]


def test_endless_names_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The total stays right, and how many have no count of their own is known."""
    monkeypatch.setattr(judge_module, "_MAX_NAMES", 3)
    lost: list[int] = []
    judge = Judge([], Policy(rules_of(Config())), lost=lost.append)
    judge.decide(findings(5), now_ns=2)
    judge.decide(findings(5), now_ns=2)
    counts = {labels["metric"]: n for labels, n in judge.metrics()["training.anomalies"]}
    assert counts == {"(others)": 4, "loss0": 2, "loss1": 2, "loss2": 2}
    assert sum(lost) == 4


def test_series_that_share_an_alert_are_counted() -> None:
    """Fifty of a rule have alerts of their own; each finding of further ones is counted."""
    policy = Policy(rules_of(Config()))
    Judge([], policy).decide(findings(60), now_ns=2)
    assert len(policy.active) == 51
    assert policy.shared == 10


def test_findings_come_in_the_order_of_the_recording() -> None:
    """Whichever processor made them."""
    judge = Judge(processors_of(Config().monitor), Policy(rules_of(Config())))
    nan = float("nan")
    loss = [*[1.0, 1.1, 0.9, 1.05] * 30, 9.0, nan, 9.0]
    found = judge.judge(Samples.from_columns({"loss": loss, "other": [nan, *[1.0] * 122]}))
    places = [finding.at.seq for finding in found]
    assert places == sorted(places)
    assert {finding.detector for finding in found} >= {"zscore", "nonfinite.loss", "nonfinite.other"}


def test_a_detector_that_breaks_is_out(lenient: Callable[[], None], caplog: pytest.LogCaptureFixture) -> None:
    """Its state is unknown from then on: it says nothing more, though it would, and the others judge."""

    class Breaks(NonfiniteDetector):
        def update(self, samples: Samples) -> list[Finding]:
            if len(calls) == 1:
                raise MemoryError("no room")
            calls.append(len(samples.blocks))
            return super().update(samples)

    calls: list[int] = []
    lenient()
    judge = Judge([Breaks(20), NonfiniteDetector(20)], Policy(rules_of(Config())))
    ticks = [Samples.from_columns({name: [float("nan")]}) for name in ("a", "b", "c")]
    found = [len(judge.judge(samples)) for samples in ticks]
    assert (found, calls) == ([2, 1, 1], [1])
    assert errors.failures["detector Breaks"] == 1
    assert (
        "monitoring failed in detector Breaks (MemoryError: no room); it is off for the rest" in caplog.text
    )


def test_a_reward_is_seen_in_whatever_row_it_comes() -> None:
    judge = Judge([], Policy(rules_of(Config())))
    judge.judge(Samples.from_columns({"loss": [1.0, 2.0], "rewards/chosen": [1.0, 2.0]}))
    assert not judge.policy.has_reward
    judge.judge(Samples.from_columns({"loss": [1.0], "charts/episodic_return": [9.0]}))
    assert judge.policy.has_reward
    judge.judge(Samples.from_columns({"loss": [1.0]}))
    assert judge.policy.has_reward
