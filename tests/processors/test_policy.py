"""Policy: one alert an episode, told once more when it calls for more, and when it is over."""

from __future__ import annotations

import math
from typing import Any

import pytest
from entrenar_processors import ABSENT, Coordinates, Finding, Series, Severity
from entrenar_processors.alert import Action, Alert, Level, Rule
from entrenar_processors.policy import Policy, summary_of

LOSS = Series("loss")
SECOND = 10**9
LOW, MEDIUM, HIGH = Severity.LOW, Severity.MEDIUM, Severity.HIGH
BY_SEVERITY = {LOW: Action.LOG, MEDIUM: Action.NOTIFY, HIGH: Action.STOP}


def rule(detector: str = "spike", **fields: Any) -> Rule:
    actions = fields.pop("actions", dict.fromkeys(Severity, Action.NOTIFY))
    return Rule(detector, f"{detector}_rule", f"{detector}_source", "Spike", actions, **fields)


def found(seconds: float, severity: Severity = LOW, detector: str = "spike", **fields: Any) -> Finding:
    given: dict[str, Any] = {"series": LOSS, "value": 9.0, "expected": 1.0, "score": 3.5} | fields
    given.setdefault("at", Coordinates(time_ns=round(seconds * SECOND)))
    return Finding(detector, severity=severity, **given)


def decide(policy: Policy, seconds: float, *findings: Finding) -> list[tuple[str, str, str, int]]:
    """State, action, episode and count of what is told at this time."""
    alerts = policy.decide(findings, round(seconds * SECOND))
    return [(alert.state, str(alert.action), alert.episode, alert.count) for alert in alerts]


def test_an_alert_says_all_that_is_known() -> None:
    """Names, texts and labels of the rule; coordinates and numbers of the finding that began it."""
    given = rule(level=Level.ERROR, labels={"team": "vision"}, annotations={"runbook_url": "x"})
    at = Coordinates(time_ns=5 * SECOND, epoch=3, step=40, seq=41)
    (alert,) = Policy([given]).decide([found(5, at=at)], 7 * SECOND)
    assert alert == Alert(
        name="spike_rule",
        source="spike_source",
        level=Level.ERROR,
        action=Action.NOTIFY,
        summary="Spike: loss is 9, expected 1",
        episode="1",
        started_ns=5 * SECOND,
        at=at,
        series=LOSS,
        value=9.0,
        expected=1.0,
        score=3.5,
        peak=9.0,
        count=1,
        labels={"team": "vision"},
        annotations={"runbook_url": "x"},
    )


def test_one_alert_an_episode() -> None:
    """Told when it begins and when it is over: it ended with the last abnormal sample."""
    policy = Policy([rule()], quiet_seconds=60)
    assert decide(policy, 1, found(1)) == [("firing", "notify", "1", 1)]
    assert decide(policy, 2, found(2), found(2.5)) == []
    assert decide(policy, 62, found(61)) == []
    (alert,) = policy.active
    assert (alert.count, alert.is_resolved) == (4, False)
    (alert,) = policy.decide([], 300 * SECOND)
    assert (alert.started_ns, alert.ended_ns, alert.count) == (SECOND, 61 * SECOND, 4)
    assert policy.active == policy.decide([], 900 * SECOND) == []
    assert decide(policy, 901, found(901)) == [("firing", "notify", "2", 1)]


@pytest.mark.parametrize("lasting", [False, True])
def test_quiet_is_quiet_time_to_the_nanosecond(lasting: bool) -> None:
    """It counts from the last sample; a finding within it makes it the same episode, told no second time."""
    policy = Policy([rule(lasting=lasting)], quiet_seconds=1.5)
    ends = [found(0, resolved=True, count=0)] if lasting else []
    assert decide(policy, 0, found(0), *ends) == [("firing", "notify", "1", 1)]
    assert policy.decide([], 1_499_999_999) == []
    assert decide(policy, 1.5, found(1.5)) == []
    if lasting:
        assert decide(policy, 90, found(90, resolved=True, count=0)) == []
        assert policy.decide([], 91 * SECOND) == []
    ended = 90 if lasting else 1.5
    (alert,) = policy.decide([], round((ended + 1.5) * SECOND))
    assert (alert.state, alert.count, alert.ended_ns) == ("resolved", 2, ended * SECOND)


def test_a_minute_is_quiet_by_default() -> None:
    """As the docstring of the settings says."""
    policy = Policy([rule()])
    decide(policy, 0, found(0))
    assert policy.decide([], 60 * SECOND - 1) == []
    assert len(policy.decide([], 60 * SECOND)) == 1


def test_what_lasts_is_not_over_because_it_is_quiet() -> None:
    """Only `over` lets the quiet time begin, and what it counts is added."""
    policy = Policy([rule(lasting=True)], quiet_seconds=10)
    assert decide(policy, 0, found(0)) == [("firing", "notify", "1", 1)]
    assert decide(policy, 9999) == []
    assert decide(policy, 10_000, found(10_000, resolved=True, count=7)) == []
    assert [one.count for one in policy.active] == [8]
    assert decide(policy, 10_009) == []
    assert decide(policy, 10_010) == [("resolved", "notify", "1", 8)]


def test_a_state_may_be_two() -> None:
    """A member that is constant and then NaN: one episode of the family, until both are over."""
    policy = Policy([rule("silent", lasting=True)], quiet_seconds=10)
    assert decide(policy, 0, found(0, detector="silent.constant")) == [("firing", "notify", "1", 1)]
    assert decide(policy, 1, found(1, detector="silent.nan")) == []
    assert decide(policy, 2, found(2, detector="silent.nan", resolved=True, count=0)) == []
    assert decide(policy, 500) == []
    assert decide(policy, 501, found(501, detector="silent.constant", resolved=True, count=0)) == []
    assert decide(policy, 511) == [("resolved", "notify", "1", 2)]


def test_over_of_what_never_began() -> None:
    """Nothing: no alert, no debt that would end the next episode early."""
    policy = Policy([rule(lasting=True)], quiet_seconds=1)
    assert decide(policy, 0, found(0, resolved=True, count=5)) == []
    assert policy.active == []
    assert decide(policy, 1, found(1)) == [("firing", "notify", "1", 1)]
    assert decide(policy, 2, found(2, resolved=True), found(2, resolved=True)) == []
    assert decide(policy, 2.5, found(2.5)) == []
    assert decide(policy, 900) == []  # the superfluous end before did not count against this beginning
    assert decide(policy, 901, found(901, resolved=True)) == []
    assert decide(policy, 902) == [("resolved", "notify", "1", 5)]


def test_over_never_calls_for_more() -> None:
    """It is good news, whatever its severity."""
    policy = Policy([rule(actions=BY_SEVERITY, lasting=True)])
    assert decide(policy, 0, found(0, LOW)) == [("firing", "log", "1", 1)]
    assert decide(policy, 1, found(1, HIGH, resolved=True)) == []
    assert [one.action for one in policy.active] == [Action.LOG]


def test_an_old_end_does_not_shorten_an_episode() -> None:
    """Findings may come in any order; the last abnormal time is the latest."""
    policy = Policy([rule(lasting=True)], quiet_seconds=10)
    decide(policy, 100, found(100), found(50, resolved=True, count=0))
    assert decide(policy, 109.9) == []
    (alert,) = policy.decide([], 110 * SECOND)
    assert alert.ended_ns == 100 * SECOND
    momentary = Policy([rule()], quiet_seconds=10)
    decide(momentary, 100, found(100), found(50))
    assert [one.ended_ns for one in momentary.decide([], 200 * SECOND)] == [100 * SECOND]


# -- what calls for more ------------------------------------------------------------------------------


def test_more_is_told_as_the_same_episode() -> None:
    """A stronger action is told again, at its level; as strong or weaker is not."""
    policy = Policy([rule(actions=BY_SEVERITY)])
    told = [
        [(one.episode, one.action, one.level) for one in policy.decide([found(second, severity)], 0)]
        for second, severity in enumerate([LOW, LOW, MEDIUM, LOW, MEDIUM, HIGH, HIGH, MEDIUM])
    ]
    assert told == [
        [("1", Action.LOG, Level.INFO)],
        [],
        [("1", Action.NOTIFY, Level.WARNING)],
        *[[], []],
        [("1", Action.STOP, Level.ERROR)],
        *[[], []],
    ]
    (alert,) = policy.decide([], 999 * SECOND)
    assert (alert.action, alert.level, alert.count) == (Action.STOP, Level.ERROR, 8)


def test_more_within_one_decision_is_told_once() -> None:
    """As it stands after all of them."""
    policy = Policy([rule(actions=BY_SEVERITY)])
    assert decide(policy, 0, found(0, LOW), found(1, HIGH), found(2, MEDIUM)) == [("firing", "stop", "1", 3)]
    later = Policy([rule(actions=BY_SEVERITY)])
    decide(later, 0, found(0, LOW))
    assert decide(later, 1, found(1, MEDIUM), found(1, HIGH)) == [("firing", "stop", "1", 3)]


def test_the_level_of_the_rule() -> None:
    """Holds for whatever is done, but not where it is only logged."""
    policy = Policy([rule(actions=BY_SEVERITY, level=Level.CRITICAL)])
    levels = [policy.decide([found(0, severity)], 0)[0].level for severity in Severity]
    assert levels == [Level.INFO, Level.CRITICAL, Level.CRITICAL]


def test_how_much_the_learning_rate_is_reduced() -> None:
    """Said by alerts that reduce it and by no others, also where they came to it later."""
    actions = {LOW: Action.LOG, MEDIUM: Action.REDUCE_LR, HIGH: Action.PAUSE}
    factors: dict[str, Any] = {"factor": 0.25, "min_factor": 0.125}
    policy = Policy([rule(actions=actions, **factors)])
    told = [policy.decide([found(0, severity)], 0)[0] for severity in Severity]
    assert [(one.factor, one.min_factor) for one in told] == [(None, None), (0.25, 0.125), (None, None)]
    (at_once,) = Policy([rule(actions=actions, **factors)]).decide([found(0, MEDIUM)], 0)
    assert (at_once.factor, at_once.min_factor) == (0.25, 0.125)


def test_a_severity_without_an_action_is_logged() -> None:
    """A rule need not name all."""
    policy = Policy([rule(actions={HIGH: Action.STOP})])
    assert decide(policy, 0, found(0, MEDIUM)) == [("firing", "log", "1", 1)]


@pytest.mark.parametrize("field", ["step", "seq"])
def test_warm_up(field: str) -> None:
    """Before `after_steps` it is only logged; from that step on, or row without one, more is called for."""
    policy = Policy([rule(level=Level.ERROR, after_steps=100)])
    at = [Coordinates(time_ns=n, **{field: n}) for n in (0, 99, 100)]
    told = [[(a.action, a.level) for a in policy.decide([found(0, at=one)], one.time_ns)] for one in at]
    assert told == [[(Action.LOG, Level.INFO)], [], [(Action.NOTIFY, Level.ERROR)]]


def test_warm_up_goes_by_the_step_where_there_is_one() -> None:
    """Not by rows, of which there may be many a step; without either nobody knows, so it is told."""
    for at, action in (
        (Coordinates(step=5, seq=500), Action.LOG),
        (Coordinates(step=500, seq=5), Action.NOTIFY),
        (Coordinates(step=0, seq=500), Action.LOG),
        (Coordinates(), Action.NOTIFY),
    ):
        (alert,) = Policy([rule(after_steps=100)]).decide([found(0, at=at)], 0)
        assert alert.action is action
    assert decide(Policy([rule()]), 0, found(0, at=Coordinates(step=0))) == [("firing", "notify", "1", 1)]


# -- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "peak"),
    [
        ([5.0, 6.0, 5.5, -70.0], 6.0),  # upward, whatever the scores are
        ([-5.0, -7.0, 90.0, -6.0], -7.0),
        ([5.0, math.inf, 9.0], math.inf),
        ([1.0, 3.0], 3.0),  # of what is as expected
    ],
)
def test_the_peak_is_the_farthest_on_the_side_of_the_first(values: list[float], peak: float) -> None:
    """So it is never below the value that is shown with it; what began it stays as it was."""
    policy = Policy([rule()])
    for value, score in zip(values, (3.0, 1.0, 9.0, -4.0), strict=False):
        policy.decide([found(0, value=value, score=score)], 0)
    (alert,) = policy.active
    assert (alert.value, alert.score, alert.peak) == (values[0], 3.0, peak)


@pytest.mark.parametrize("values", [[math.nan, 2.0, math.inf], [2.0, math.nan, math.inf]])
def test_no_number_is_beyond_nan(values: list[float]) -> None:
    """Wherever it comes."""
    policy = Policy([rule()])
    for value in values:
        policy.decide([found(0, value=value)], 0)
    assert [math.isnan(one.peak or 0.0) for one in policy.active] == [True]


@pytest.mark.parametrize(
    ("value", "expected", "text"),
    [
        (1234.56789, 0.00001, "T: loss is 1234.57, expected 1e-05"),
        (2.0, math.nan, "T: loss is 2, expected nan"),
        (math.nan, 0.0, "T: loss is nan"),
        (math.inf, 0.0, "T: loss is inf"),
        (-math.inf, 0.0, "T: loss is -inf"),
    ],
)
def test_what_is_said(value: float, expected: float, text: str) -> None:
    """Six digits; nothing was expected of what is no number."""
    given = Rule("a", "a", "a", "T", {})
    assert summary_of(given, found(0, value=value, expected=expected), LOSS) == text
    assert summary_of(given, found(0), None) == "T: loss and other series at the same time"


# -- announcements: what `log` saw in its own call ------------------------------------------------------


def test_an_announcement_is_counted_with_the_finding_that_follows() -> None:
    """The same sample, seen by the loop and by the heartbeat: one abnormal sample, told once."""
    policy = Policy([rule(lasting=True)], quiet_seconds=10)
    assert decide(policy, 0, found(0, count=0)) == [("firing", "notify", "1", 1)]
    assert decide(policy, 1, found(0)) == []
    assert [one.count for one in policy.active] == [1]
    assert decide(policy, 2, found(0, detector="spike", count=0)) == []
    assert decide(policy, 900, found(900, resolved=True, count=4)) == []
    assert decide(policy, 901, found(901)) == []
    assert [one.count for one in policy.active] == [6]


def test_announcements_of_a_loop_that_goes_on() -> None:
    """However many: the heartbeat counts. They hold nothing, so alone they end by themselves."""
    policy = Policy([rule(lasting=True)], quiet_seconds=10)
    assert decide(policy, 0, found(0, count=0)) == [("firing", "notify", "1", 1)]
    assert decide(policy, 5, found(5, count=0)) == []
    assert decide(policy, 14.9) == []
    assert decide(policy, 15) == [("resolved", "notify", "1", 1)]
    assert decide(policy, 20, found(20, count=0), found(20, count=0)) == [("firing", "notify", "2", 1)]
    assert decide(policy, 21, found(20, count=3)) == []
    assert [one.count for one in policy.active] == [3]


def test_an_announcement_may_call_for_more() -> None:
    """It is about a sample as bad as any."""
    policy = Policy([rule(actions=BY_SEVERITY)])
    assert decide(policy, 0, found(0, LOW)) == [("firing", "log", "1", 1)]
    assert decide(policy, 0, found(0, HIGH, count=0)) == [("firing", "stop", "1", 1)]


# -- rules --------------------------------------------------------------------------------------------


def test_which_rule() -> None:
    """The detector's own before that of its family; without one nothing is decided."""
    family, own = rule("silent"), rule("silent.nan")
    policy = Policy([family, own])
    assert policy.rules == (family, own)
    assert policy.rule_of("silent.nan") is own
    assert policy.rule_of("silent.stopped") is family
    assert policy.rule_of("silent.stopped.twice") is family
    assert policy.rule_of("silent") is family
    assert [policy.rule_of(name) for name in ("silently", "nan", "", "unknown.silent")] == [None] * 4
    assert decide(policy, 0, found(0, detector="unknown")) == []
    assert policy.active == []
    policy.admit(added := rule("unknown"))
    assert policy.rules == (family, own, added)
    assert decide(policy, 0, found(0, detector="unknown.too")) == [("firing", "notify", "1", 1)]


def test_without_a_time_it_is_now() -> None:
    """Budgets have no sample."""
    policy = Policy([rule()], quiet_seconds=1)
    (alert,) = policy.decide([found(0, at=Coordinates(step=3))], 8 * SECOND)
    assert (alert.started_ns, alert.at.time_ns) == (8 * SECOND, ABSENT)
    assert policy.decide([], 9 * SECOND - 1) == []
    assert [one.ended_ns for one in policy.decide([], 9 * SECOND)] == [8 * SECOND]
