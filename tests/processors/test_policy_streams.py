"""Policy over many findings: thousands at once, and whatever stream in whatever calls."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors import policy as policy_module
from entrenar_processors.alert import Action, Alert, Rule
from entrenar_processors.policy import MAX_OPEN, Policy
from hypothesis import given, settings
from hypothesis import strategies as st

SECOND = 10**9
QUIET = 10
ACTIONS = dict(zip(Severity, (Action.LOG, Action.NOTIFY, Action.STOP), strict=True))
DETECTORS = ["spike", "silent.nan", "silent.stopped"]
RULES = [
    Rule("spike", "spike", "s", "Spike", ACTIONS),
    Rule("silent", "silent", "s", "Silent", ACTIONS, lasting=True),
]


def layer(i: int) -> Series:
    return Series.of("gradient_norm", {"layer": i})


def found(
    i: int, seconds: int, detector: str = "spike", severity: Severity = Severity.MEDIUM, **fields: int
) -> Finding:
    at = Coordinates(time_ns=seconds * SECOND, seq=seconds)
    over, count = bool(fields.get("resolved")), fields.get("count", 1)
    return Finding(detector, layer(i), severity, at, 9.0, 1.0, 3.5, over, count)


def made(quiet: float = QUIET) -> Policy:
    return Policy(RULES, quiet_seconds=quiet)


# -- many at once ---------------------------------------------------------------------------------------


def test_ten_thousand_findings_are_one_alert() -> None:
    """What a whole history says of one series."""
    policy = made()
    (alert,) = policy.decide([found(0, i) for i in range(10_000)], 10_000 * SECOND)
    assert (alert.count, alert.started_ns) == (10_000, 0)
    (ended,) = policy.decide([], 20_000 * SECOND)
    assert (ended.count, ended.ended_ns, ended.episode) == (10_000, 9_999 * SECOND, alert.episode)


@pytest.mark.parametrize("n", [MAX_OPEN, MAX_OPEN + 1, 2000])
def test_all_layers_at_once(n: int) -> None:
    """So many have an alert of their own; what more there are share one. None is lost, and all end."""
    policy = made()
    told = policy.decide([found(i, 5) for i in range(n)], 5 * SECOND)
    own, shared = told[:MAX_OPEN], told[MAX_OPEN:]
    assert [one.series for one in own] == [layer(i) for i in range(MAX_OPEN)]
    assert {one.count for one in own} == {1}
    assert [(one.series, one.count) for one in shared] == [(None, n - MAX_OPEN)] * (n > MAX_OPEN)
    assert policy.active == told
    for one in shared:
        assert one.summary == f"Spike: {layer(MAX_OPEN)} and other series at the same time"
        assert "metric" not in one.as_dict()
    again = policy.decide([found(i, 6) for i in range(n)], 6 * SECOND)
    assert again == []
    ended = policy.decide([], 16 * SECOND)
    assert [one.episode for one in ended] == [one.episode for one in told]
    assert sum(one.count for one in ended) == 2 * n
    assert policy.shared == 2 * (n - MAX_OPEN)
    assert {one.ended_ns for one in ended} == {6 * SECOND}
    assert policy.active == []


def test_room_is_by_rule_and_comes_back() -> None:
    """Two thousand layers of one rule do not take the alerts of another; afterwards all is as at first."""
    policy = made()
    for start in (0, 1000, 2000):
        told = policy.decide([found(i, start) for i in range(2000)], start * SECOND)
        assert len(told) == MAX_OPEN + 1
        (other,) = policy.decide([found(7777, start, "silent")], start * SECOND)
        assert other.series == layer(7777)
        policy.decide([found(7777, start + 1, "silent", resolved=1)], (start + 1) * SECOND)
        assert len(policy.decide([], (start + 500) * SECOND)) == MAX_OPEN + 2
        assert policy.active == []


def test_what_began_in_the_shared_alert_ends_it() -> None:
    """Also when there is room again by the time it is over; it does not end others' alerts."""
    policy = made()
    policy.decide([found(i, 0, "silent") for i in range(MAX_OPEN + 3)], 0)
    policy.decide([found(i, 1, "silent", resolved=1, count=0) for i in range(MAX_OPEN)], 1 * SECOND)
    assert len(policy.decide([], 11 * SECOND)) == MAX_OPEN
    (shared,) = policy.active
    assert (shared.series, shared.count) == (None, 3)
    # One of those, announced anew, gets an alert of its own, which holds nothing.
    (announced,) = policy.decide([found(MAX_OPEN, 12, "silent", count=0)], 12 * SECOND)
    assert announced.series == layer(MAX_OPEN)
    for i in range(3):
        assert policy.decide([found(MAX_OPEN + i, 20, "silent", resolved=1, count=5)], 20 * SECOND) == []
    assert [one.episode for one in policy.decide([], 22 * SECOND)] == [announced.episode]
    assert policy.decide([], 29 * SECOND) == []
    (ended,) = policy.decide([], 30 * SECOND)
    assert (ended.series, ended.count, ended.ended_ns) == (None, 3 + 3 * 5, 20 * SECOND)


def test_an_alert_of_its_own_ends_by_itself() -> None:
    """While others share one, the end of a series with its own alert is counted there."""
    policy = made()
    policy.decide([found(i, 0, "silent") for i in range(MAX_OPEN + 1)], 0)
    policy.decide([found(0, 1, "silent", resolved=1, count=4)], 1 * SECOND)
    assert [one.count for one in policy.active] == [5] + [1] * MAX_OPEN
    assert [one.series for one in policy.decide([], 11 * SECOND)] == [layer(0)]
    policy.decide([found(MAX_OPEN, 12, "silent", resolved=1, count=0)], 12 * SECOND)
    assert [one.series for one in policy.decide([], 22 * SECOND)] == [None]
    assert len(policy.active) == MAX_OPEN - 1


def test_momentary_findings_know_no_debt() -> None:
    """Where nothing lasts, `over` is counted in the series' own alert, else in the shared one."""
    policy = made()
    policy.decide([found(i, 0) for i in range(MAX_OPEN + 1)], 0)
    policy.decide([found(1, 0, resolved=1, count=2), found(MAX_OPEN, 0, resolved=1, count=3)], 0)
    assert [one.count for one in policy.active] == [1, 3, *[1] * (MAX_OPEN - 2), 4]


def test_a_stronger_one_among_many_is_told() -> None:
    """The shared alert calls for more like any."""
    policy = made()
    policy.decide([found(i, 0) for i in range(100)], 0)
    (alert,) = policy.decide([found(77, 1, severity=Severity.HIGH)], 1 * SECOND)
    assert (alert.series, alert.action, alert.count) == (None, Action.STOP, 51)


def test_told_in_the_order_of_the_findings_then_what_is_over() -> None:
    """The order in which a person reads them; ends in the order of the beginnings."""
    policy = made()
    policy.decide([found(3, 0), found(1, 0)], 0)
    told = policy.decide([found(i, 50) for i in (9, 2, 9, 5)], 50 * SECOND)
    assert [(one.series, one.state) for one in told] == [
        *[(layer(i), "firing") for i in (9, 2, 5)],
        *[(layer(i), "resolved") for i in (3, 1)],
    ]


def test_found_late() -> None:
    """What began and was over long before anybody decided is told, and told to be over, in one call."""
    policy = made()
    assert [one.state for one in policy.decide([found(0, 0)], 100 * SECOND)] == ["firing", "resolved"]
    assert policy.active == []


# -- any stream, in any calls -----------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Finding]:
    """Findings in the order of time: momentary ones, and states that begin and are all over at last."""
    stream, seconds = [], 0
    held: set[tuple[int, str]] = set()
    for _ in range(draw(st.integers(0, 40))):
        seconds += draw(st.sampled_from([0, 0, 1, 5, QUIET - 1, QUIET, 3 * QUIET]))
        i, detector = (
            draw(st.integers(0, 5)),
            draw(st.sampled_from(DETECTORS)),
        )
        severity = draw(st.sampled_from(list(Severity)))
        if (i, detector) in held:
            held.discard((i, detector))
            stream.append(found(i, seconds, detector, severity, resolved=1, count=draw(st.integers(0, 3))))
        else:
            if detector != "spike":
                held.add((i, detector))
            stream.append(found(i, seconds, detector, severity))
    return stream + [found(i, seconds, detector, resolved=1, count=0) for i, detector in sorted(held)]


def told_of(stream: list[Finding], cuts: list[int], beats: bool = False) -> list[Alert]:
    """All that is told of the stream, cut there; then long nothing. `beats`: also asked in between."""
    policy, told = made(), []
    for start, end in itertools.pairwise([0, *sorted({c for c in cuts if c < len(stream)}), len(stream)]):
        if start < end:
            now_ns = stream[end - 1].at.time_ns
            told += policy.decide([], now_ns - 1) if beats else []
            told += policy.decide(stream[start:end], now_ns)
            firing = {one.episode: one for one in told if not one.is_resolved}
            for one in told:
                if one.is_resolved:
                    firing.pop(one.episode)
            assert {one.episode for one in policy.active} == set(firing)
    told += policy.decide([], 10**6 * SECOND)
    assert policy.active == policy.decide([], 10**7 * SECOND) == []
    return told


@given(stream=streams(), cuts=st.lists(st.integers(0, 40)), room=st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_every_alert_is_told_and_over_once(stream: list[Finding], cuts: list[int], room: int) -> None:
    """Whatever comes in whatever calls, with room or without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy_module, "MAX_OPEN", room)
        told = told_of(stream, cuts)
        assert told_of(stream, cuts) == told  # and in the same order
    episodes: dict[str, list[Alert]] = defaultdict(list)
    for one in told:
        episodes[one.episode].append(one)
    for alerts in episodes.values():
        *firing, last = alerts
        assert firing
        assert last.is_resolved
        assert not any(one.is_resolved for one in firing)
        ranks = [one.action.rank for one in firing]
        assert ranks == sorted(set(ranks))  # told again only where it calls for more
        assert last.action is firing[-1].action
        assert len({(one.series, one.started_ns, one.name, one.value) for one in alerts}) == 1
        assert last.ended_ns is not None
        assert last.started_ns <= last.ended_ns <= stream[-1].at.time_ns
        counts = [one.count for one in alerts]
        assert counts == sorted(counts)
    ended = [one for one in told if one.is_resolved]
    counted: Counter[str] = Counter()
    for finding in stream:
        counted[finding.detector.partition(".")[0]] += finding.count
    assert sum(one.count for one in ended if one.name == "spike") == counted["spike"]
    assert sum(one.count for one in ended if one.name == "silent") == counted["silent"]
    spans: dict[object, list[tuple[int, int]]] = defaultdict(list)
    for one in ended:
        spans[one.name, one.series].append((one.started_ns, one.ended_ns or 0))
    for of_key in spans.values():
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(sorted(of_key)))
    for name in ("spike", "silent"):
        assert most_open([one for one in told if one.name == name]) <= room + 1


def most_open(told: list[Alert]) -> int:
    """How many alerts were told and not yet over at a time."""
    n, most = 0, 0
    seen: set[str] = set()
    for one in told:
        if one.is_resolved:
            n -= 1
        elif one.episode not in seen:
            n += 1
        seen.add(one.episode)
        most = max(most, n)
    return most


@given(stream=streams())
@settings(max_examples=200, deadline=None)
def test_finding_by_finding_episodes_are_as_defined(stream: list[Finding]) -> None:
    """Decided one by one, as by a heartbeat: an episode is what is never quiet so long, or held."""
    told = [one for one in told_of(stream, list(range(len(stream))), beats=True) if one.is_resolved]
    expected: list[tuple[str, Series, int, int, int]] = []
    for name in ("spike", "silent"):
        for i in range(6):
            mine = [f for f in stream if f.detector.startswith(name) and f.series == layer(i)]
            held = start = last = count = 0
            is_open = False
            for one in mine:
                now = one.at.time_ns
                if is_open and not held and now - last > QUIET * SECOND:
                    expected.append((name, layer(i), start, last, count))
                    is_open, count = False, 0
                elif is_open and not held and now - last == QUIET * SECOND:
                    # Others of this very time may have been decided before: then it was over.
                    before = stream[: next(n for n, f in enumerate(stream) if f is one)]
                    if any(f.at.time_ns == now for f in before):
                        expected.append((name, layer(i), start, last, count))
                        is_open, count = False, 0
                if not is_open:
                    is_open, start = True, now
                count += one.count
                last = now
                if name == "silent":
                    held += -1 if one.resolved else 1
            if is_open:
                expected.append((name, layer(i), start, last, count))
    got = [(one.name, one.series, one.started_ns, one.ended_ns, one.count) for one in told]
    assert sorted(got, key=repr) == sorted(expected, key=repr)


def test_what_only_measures_is_passed_by_until_its_rule_is_another() -> None:
    """Findings of an event that are only logged begin nothing; admitted with an action, the same are told."""
    logged = Rule("zscore", "z", "z", "Unusual", dict.fromkeys(Severity, Action.LOG), event="training")
    finding = Finding(
        "zscore", Series("loss"), Severity.HIGH, Coordinates(time_ns=1, step=1, seq=1), 9.0, 1.0, 6.0
    )
    policy = Policy([logged])
    assert policy.decide([finding], 1) == []
    policy.admit(replace(logged, actions=dict.fromkeys(Severity, Action.NOTIFY)))
    assert [alert.state for alert in policy.decide([finding], 1)] == ["firing"]
    policy.admit(logged)  # what fires is of it still
    policy.decide([finding], 1)
    assert [alert.count for alert in policy.active] == [2]
    assert policy.decide([replace(finding, detector="unknown")], 1) == []
