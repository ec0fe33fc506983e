"""Policy by steps: episodes that end after steps, one event that is one alert, and what recurs."""

from __future__ import annotations

import pytest
from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors.alert import Action, Alert, Level, Rule
from entrenar_processors.config.build import policy_of
from entrenar_processors.config.models import parse_text
from entrenar_processors.policy import Policy

LOSS, NORM = Series("loss"), Series("gradient_norm")


def rule(detector: str = "spike", action: Action = Action.NOTIFY, **fields: object) -> Rule:
    actions = dict.fromkeys(Severity, action)
    return Rule(detector, detector, detector, "", actions, **fields)  # type: ignore[arg-type]


def place(step: int, seconds: float = 0.5) -> Coordinates:
    return Coordinates(time_ns=round(step * seconds * 1e9), step=step, seq=2 * step)


def found(step: int, series: Series = LOSS, detector: str = "spike", **fields: object) -> Finding:
    at = fields.pop("at", place(step))
    return Finding(detector, series, Severity.LOW, at, 9.0, 1.0, 3.5, **fields)  # type: ignore[arg-type]


def told(
    policy: Policy, step: int, *findings: Finding, seconds: float = 0.5
) -> list[tuple[str, str, str, int]]:
    """Name, state, episode and count of what is told when this step is the newest."""
    at = place(step, seconds)
    alerts = policy.decide(findings, at.time_ns, at)
    return [(one.name, one.state, one.episode, one.count) for one in alerts]


def _kinds(alerts: list[tuple[str, str, str, int]]) -> list[tuple[str, str]]:
    return [(name, state) for name, state, _, _ in alerts]


def by_steps(*rules: Rule, **given: int) -> Policy:
    return Policy(rules or [rule()], quiet_steps=100, **given)


@pytest.mark.parametrize("seconds", [0.001, 600.0])
def test_an_episode_is_over_after_steps_however_long_they_take(seconds: float) -> None:
    """From the last finding on, to the step."""
    policy = by_steps()
    assert told(policy, 10, found(10), seconds=seconds) == [("spike", "firing", "1", 1)]
    assert told(policy, 109, found(109), seconds=seconds) == []
    assert told(policy, 208, seconds=seconds) == []
    assert told(policy, 209, seconds=seconds) == [("spike", "resolved", "1", 2)]


def test_rows_count_where_no_step_is_known() -> None:
    """And where one of the two has none."""
    for last, newest in ((Coordinates(seq=5), Coordinates(seq=104)), (place(5), Coordinates(seq=109))):
        policy = by_steps()
        policy.decide([found(0, at=last)], 1, last)
        assert policy.decide([], 10**15, newest) == []
        assert len(policy.decide([], 10**15, newest._replace(seq=newest.seq + 1))) == 1


@pytest.mark.parametrize(("last", "newest"), [(3000, 5), (5, 3000)])
def test_series_may_count_by_other_steps(last: int, newest: int) -> None:
    """A validation that is logged at the number of its epoch ends no episode of the training."""
    policy = by_steps()
    policy.decide([found(last, at=Coordinates(time_ns=0, step=last, seq=1000))], 0)
    assert policy.decide([], 10**15, Coordinates(time_ns=10**15, step=newest, seq=1099)) == []
    assert len(policy.decide([], 10**15, Coordinates(time_ns=10**15, step=newest, seq=1100))) == 1


def test_the_clock_counts_for_what_is_of_no_sample() -> None:
    """A budget, a warning; and for all without `quiet_steps`."""
    policy = by_steps()
    assert told(policy, 10, found(10, at=Coordinates(time_ns=5 * 10**9, step=10))) == [
        ("spike", "firing", "1", 1)
    ]
    assert told(policy, 129) == []
    assert told(policy, 130) == [("spike", "resolved", "1", 1)]
    assert told(Policy([rule()]), 0, found(0), found(5000)) == [("spike", "firing", "1", 2)]


def test_a_tick_of_many_steps_tells_as_many_alerts_as_many_ticks() -> None:
    """The heartbeat may have waited, or a history be read at once."""
    steps = [10, 50, 400, 420, 5000]
    apart, at_once = by_steps(), by_steps()
    one_by_one = [one for step in steps for one in told(apart, step, found(step))]
    together = told(at_once, 5000, *(found(step) for step in steps))
    assert [(state, n) for _, state, _, n in together] == [
        *[("firing", 2), ("firing", 2), ("firing", 1)], *[("resolved", 2), ("resolved", 2)],
    ]  # fmt: skip
    assert [state for _, state, _, _ in one_by_one].count("firing") == 3


def test_a_lasting_state_lasts_however_many_steps() -> None:
    """Its end begins the quiet time."""
    policy = by_steps(rule(lasting=True))
    told(policy, 0, found(0))
    assert told(policy, 5000) == []
    assert told(policy, 5000, found(5000)) == []  # a second one: two must be over
    assert told(policy, 6000, found(5001, resolved=True), found(6000, resolved=True)) == []
    assert told(policy, 6099) == []
    assert told(policy, 6100) == [("spike", "resolved", "1", 4)]


def test_what_recurs_is_told_of_ever_more_rarely() -> None:
    """A peak every 150 steps, as of a target network: after 100, 200, 400 … steps the episode is over."""
    policy = by_steps()
    firing = [
        step for step in range(0, 6000, 150) if ("spike", "firing") in _kinds(told(policy, step, found(step)))
    ]
    assert firing == [0, 150]
    assert _kinds(told(policy, 5900, found(5900, NORM)))[0] == ("spike", "firing")  # another series
    assert told(policy, 5999, found(5999, NORM)) == []
    assert _kinds(told(policy, 6099)) == [("spike", "resolved"), ("spike", "resolved")]


def test_the_steps_are_doubled_six_times_at_most() -> None:
    """6,400: a run of weeks is told of its hundredth spike too."""
    policy = by_steps()
    for n in range(20):
        assert [one[1] for one in told(policy, 7000 * n, found(7000 * n)) if one[1] == "firing"] == ["firing"]
    assert told(policy, 7000 * 19 + 6399) == []
    assert [one[1] for one in told(policy, 7000 * 19 + 6400)] == ["resolved"]


# -- one event ----------------------------------------------------------------------------------------


SIDES = [rule(event="training"), rule("divergence", event="training"), rule("drift", event="training")]


def test_one_event_is_one_alert() -> None:
    """In whatever series and by whatever detector it shows; later it is another."""
    policy = by_steps(*SIDES, rule("silent"))
    validation = Series.of("accuracy", {"split": "val"})
    assert told(policy, 10, found(10), found(10, NORM), found(12, validation, "drift")) == [
        ("spike", "firing", "1", 3)
    ]
    assert told(policy, 90, found(90, LOSS, "divergence")) == []
    assert told(policy, 189, found(189, NORM, "divergence")) == []
    assert told(policy, 190, found(190, LOSS, "silent")) == [("silent", "firing", "2", 1)]
    assert ("divergence", "firing", "3", 1) in told(policy, 289, found(289, NORM, "divergence"))


def test_of_another_member_it_is_another_event() -> None:
    """Tags say which; the split and the phase do not."""
    policy = by_steps(*SIDES)
    experts = [Series.of("loss", {"expert": i}) for i in range(2)]
    alerts = told(policy, 10, *(found(10, one) for one in experts), found(10))
    assert [state for _, state, _, _ in alerts] == ["firing"] * 3
    alike = Series.of("accuracy", {"expert": 1, "split": "test", "phase": "warm-up"})
    assert told(policy, 11, found(11, alike, "drift")) == []


@pytest.mark.parametrize(
    ("more", "n"),
    [
        ({"action": Action.STOP}, 2),
        ({"level": Level.ERROR}, 2),
        ({"action": Action.LOG}, 1),
        ({"event": ""}, 2),
    ],
)
def test_what_calls_for_more_is_told_by_itself(more: dict[str, object], n: int) -> None:
    """What was set for a rule holds: its action and its level."""
    other = rule("divergence", **({"event": "training"} | more))  # type: ignore[arg-type]
    policy = by_steps(SIDES[0], other)
    assert len(told(policy, 10, found(10), found(11, LOSS, "divergence"))) == n


def test_what_is_only_logged_hides_nothing() -> None:
    """It is a measurement; the first that notifies is the alert of the event."""
    logs = rule("zscore", Action.LOG, event="training")
    policy = by_steps(logs, *SIDES)
    alerts = policy.decide([found(9, detector="zscore"), found(10), found(11, NORM)], 0, place(11))
    assert [(one.name, one.action) for one in alerts] == [("spike", Action.NOTIFY)]
    told(policy, 90, found(90, detector="zscore"))
    assert told(policy, 111) == [("spike", "resolved", "1", 2)]  # and makes no event longer, or larger
    limit = by_steps(rule("threshold.heat", Action.LOG))
    assert len(told(limit, 1, found(1, detector="threshold.heat"))) == 1  # that of a limit is an event


def test_by_the_clock_an_event_is_as_long_as_an_episode() -> None:
    """Without `quiet_steps`."""
    for seconds, n in ((59, 0), (60, 1)):
        policy = Policy(SIDES)
        policy.decide([found(0, at=Coordinates(time_ns=0))], 0)
        later = found(0, NORM, at=Coordinates(time_ns=seconds * 10**9))
        assert len([one for one in policy.decide([later], seconds * 10**9) if not one.is_resolved]) == n


def test_an_end_within_an_event_ends_nothing() -> None:
    """Of a lasting state that began within another's alert."""
    policy = by_steps(SIDES[0], rule("drop", event="training", lasting=True))
    told(policy, 10, found(10), found(11, NORM, "drop"))
    assert told(policy, 12, found(12, NORM, "drop", resolved=True)) == []
    assert told(policy, 111) == [("spike", "resolved", "1", 2)]


# -- settings -----------------------------------------------------------------------------------------


def alerts_of(toml: str) -> list[Alert]:
    """What fires of two spikes 150 steps and 75 seconds apart."""
    policy = policy_of(parse_text(toml))
    fired = []
    for step in (0, 150):
        for findings in ([], [found(step)]):
            fired += policy.decide(findings, place(step).time_ns, place(step))
    return [one for one in fired if not one.is_resolved]


@pytest.mark.parametrize(
    ("toml", "n"),
    [
        ("", 2),
        ("[monitor.andon]\nquiet_steps = 151", 1),
        ("[monitor.andon]\nquiet_seconds = 76", 1),  # who sets it means the clock
        ("[monitor.andon]\nquiet_seconds = 74", 2),
        ("[monitor.andon]\nquiet_seconds = 76\nquiet_steps = 150", 2),
    ],
)
def test_settings_say_what_is_quiet(toml: str, n: int) -> None:
    """A hundred steps by default."""
    assert len(alerts_of(toml)) == n
