"""Policy: from findings to alerts, one per episode, with the level and action of its rule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from entrenar_processors.alert import NOWHERE, Action, Alert, Level, Rule
from entrenar_processors.finding import Coordinates, Finding
from entrenar_processors.metric_names import known_as
from entrenar_processors.samples import ABSENT, Series

#: How many series of one rule have episodes of their own at a time. If more are abnormal at once (all
#: layers of a network), the rest share one episode: nobody reads two thousand alerts.
MAX_OPEN = 50

#: A gradient norm of so many times what was expected is told in any training.
EXPLODES = 100.0

#: How often the steps after which an episode is over are doubled, of a series that alerts again and again.
_MOST_DOUBLINGS = 6

_Key = tuple[str, Series | None]
_Event = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Episode:
    """A firing alert and what ends it; `as_alert` brings `count` and `peak` into the alert."""

    alert: Alert
    rule: Rule
    last_ns: int
    #: Where the newest finding was made by a sample: its place.
    last: Coordinates
    #: How many steps must be normal for it to end.
    quiet_steps: int
    #: Lasting findings that are not resolved; without any, the episode ends after a quiet time. A finding
    #: of count 0 only announces one that the same sample will bring, so it is not counted here.
    holding: int
    count: int
    peak: float
    announced: bool = False

    def seen(self, finding: Finding, time_ns: int) -> None:
        """A finding of it came: it lasts."""
        self.last_ns = max(self.last_ns, time_ns)
        if finding.at.seq != ABSENT:
            self.last = finding.at

    def as_alert(self, ended_ns: int | None = None) -> Alert:
        """The alert as it stands."""
        return replace(self.alert, count=self.count, peak=self.peak, ended_ns=ended_ns)


class Policy:
    """Decides about findings. It reads no clock: what it returns depends only on what it was given.

    The first finding of a rule on a series begins an episode, which fires once, and again where a later
    finding calls for a stronger action. The episode is over when no finding came for `quiet_steps` steps of
    the loop, so that a slow loop is told of no more often than a fast one; where a finding is not of a
    sample, or without `quiet_steps`, for `quiet_seconds`. It is not over while a lasting state holds
    (`Rule.lasting`). What begins again within that time belongs to the same episode: hysteresis, for values
    that waver about a limit. A series that alerts again and again is told of ever more rarely: each
    episode doubles the steps that must be normal after the next.

    One event, one alert: what bad weights do shows in loss, accuracy and gradient norm, and to several
    detectors. A finding of a rule with the same `Rule.event`, within the quiet time of an alert that
    notified, belongs to that one's episode, unless it calls for more. What such a rule only logs is a
    measurement, and begins none.

    Where the run reports a reward (`has_reward`), the loss of a policy that learns rises and falls with what
    it meets, and nobody is told of it: what rules find that are `but_with_reward` is only logged, but for a
    gradient norm of a hundred times what was expected.

    Findings of detectors without a rule are ignored: they stay measurements.

    >>> from entrenar_processors import Coordinates, Severity
    >>> rule = Rule("spike", "spike", "spike", "Spike", dict.fromkeys(Severity, Action.NOTIFY))
    >>> policy = Policy([rule], quiet_seconds=60)
    >>> at = [Coordinates(time_ns=second * 10**9, step=second) for second in (1, 2)]
    >>> findings = [Finding("spike", Series("loss"), Severity.LOW, one, 9.0, 1.0, 3.5) for one in at]
    >>> [(a.summary, a.state, a.count) for a in policy.decide(findings, now_ns=2 * 10**9)]
    [('Spike: loss is 9, expected 1', 'firing', 2)]
    >>> [(a.state, a.count) for a in policy.decide([], now_ns=63 * 10**9)]
    [('resolved', 2)]
    """

    def __init__(
        self, rules: Iterable[Rule], *, quiet_seconds: float = 60.0, quiet_steps: int | None = None
    ) -> None:
        self._rules: dict[str, Rule] = {}
        self._measuring: set[str] = set()  # detectors whose findings never begin an episode
        for rule in rules:
            self.admit(rule)
        self._quiet_ns, self._quiet_steps = round(quiet_seconds * 1e9), quiet_steps
        self._times: Counter[_Key] = Counter()  # how many episodes there were
        self._leaders: dict[_Event, _Key] = {}
        self._open: dict[_Key, _Episode] = {}
        self._open_of: dict[str, int] = {}
        self._number = 0
        #: Whether the run reports what it is to raise.
        self.has_reward = False
        #: Findings of series that found no room for an alert of their own, and share one.
        self.shared = 0

    @property
    def rules(self) -> Sequence[Rule]:
        """All rules, in the order given."""
        return tuple(self._rules.values())

    @property
    def active(self) -> list[Alert]:
        """The alerts that are firing, as they stand."""
        return [episode.as_alert() for episode in self._open.values()]

    def rule_of(self, detector: str) -> Rule | None:
        """The rule of a detector, or of its family: what is before the dot.

        >>> rule = Rule("silent", "silent", "silent", "", {})
        >>> Policy([rule]).rule_of("silent.nan") is rule
        True
        """
        return self._rules.get(detector) or self._rules.get(detector.partition(".")[0])

    def is_logged(self, finding: Finding) -> bool:
        """Whether nothing is done about it: it is a measurement."""
        rule = self.rule_of(finding.detector)
        return rule is None or self._action(finding, rule) is Action.LOG

    def admit(self, rule: Rule) -> None:
        """From now on, findings of the rule's detector are decided about by it."""
        self._rules[rule.detector] = rule
        if rule.event and all(action is Action.LOG for action in rule.actions.values()):
            self._measuring.add(rule.detector)
        else:
            self._measuring.discard(rule.detector)

    def decide(self, findings: Iterable[Finding], now_ns: int, at: Coordinates = NOWHERE) -> list[Alert]:
        """The alerts that fire, in the order of the findings, then those that are resolved.

        `at` is where the newest sample was recorded.
        """
        due: dict[_Key, None] = {}
        fired, ended = [], []
        for finding in self._decidable(findings):
            rule = self.rule_of(finding.detector)
            if rule is None:
                continue
            if (key := self._over_before(finding, rule)) is not None:
                if key in due:
                    fired.append(self._open[key].as_alert())
                    del due[key]
                ended += self._close([key], None)
            if (taken := self._take(finding, rule, now_ns)) is not None:
                due[taken] = None
        fired += [self._open[key].as_alert() for key in due]
        return fired + ended + self._end(now_ns, at)

    def on_clock_step(self, shift_ns: int, now_ns: int) -> None:
        """The clock was moved by `shift_ns`, to `now_ns`: an episode has been quiet for as long as before.

        After a step back for less: its last finding may have the new time already.
        """
        for episode in self._open.values():
            episode.last_ns = min(episode.last_ns + max(0, shift_ns), now_ns)

    def finish(self, now_ns: int) -> list[Alert]:
        """End all episodes: the run is over."""
        return self._close(list(self._open), now_ns)

    # -- inside ---------------------------------------------------------------------------------

    def _decidable(self, findings: Iterable[Finding]) -> list[Finding]:
        """Those that may begin an episode or belong to one: hundreds at once, of a z-score, do neither."""
        given = list(findings)
        measured = set()
        for detector in {finding.detector for finding in given}:
            rule = self.rule_of(detector)
            if rule is not None and rule.detector in self._measuring and not self._open_of.get(rule.detector):
                measured.add(detector)
        return [finding for finding in given if finding.detector not in measured] if measured else given

    def _take(self, finding: Finding, rule: Rule, now_ns: int) -> _Key | None:
        """Count the finding in; returns the key of its episode where an alert is due."""
        time_ns = finding.at.time_ns if finding.at.time_ns != ABSENT else now_ns
        if finding.resolved:
            if (episode := self._begun(finding, rule)) is not None:
                episode.holding = max(0, episode.holding - 1)
                episode.seen(finding, time_ns)
                episode.count += finding.count
            return None
        key = self._key(finding, rule)
        episode = self._open.get(key)
        action = self._action(finding, rule)
        if episode is None and rule.event and action is Action.LOG:
            return None  # a measurement, no event
        if episode is None and (leader := self._leader(finding, rule, action, time_ns)) is not None:
            leader.seen(finding, time_ns)
            leader.count += finding.count
            return None
        self.shared += key[1] is None
        if episode is None:
            self._begin(key, finding, rule, action, time_ns)
            return key
        episode.seen(finding, time_ns)
        episode.holding += rule.lasting and finding.count > 0
        if _is_beyond(finding.value, episode.peak, episode.alert):
            episode.peak = finding.value
        if finding.count:
            episode.count += finding.count - episode.announced
            episode.announced = False
        now = episode.alert.action
        if action is now or action.rank <= now.rank:
            return None
        episode.alert = replace(
            episode.alert, level=self._level(rule, action), **_action_fields(rule, action)
        )
        self._lead(key, rule, action)
        return key

    def _over_before(self, finding: Finding, rule: Rule) -> _Key | None:
        """The key of the episode to which the finding would belong, had it not ended some steps before."""
        key = self._key(finding, rule)
        episode = self._open.get(key)
        if episode is None or finding.resolved or episode.holding or self._quiet_steps is None:
            return None
        steps = _steps_between(episode.last, finding.at)
        return key if steps is not None and steps >= episode.quiet_steps else None

    def _leader(self, finding: Finding, rule: Rule, action: Action, time_ns: int) -> _Episode | None:
        """The open episode of the same event, if the finding calls for no more than that one did."""
        episode = self._open.get(self._leaders.get(_event_of(rule, finding.series), ("", None)))
        if not rule.event or episode is None:
            return None
        alert = episode.alert
        if action.rank > alert.action.rank or self._level(rule, action).rank > alert.level.rank:
            return None
        steps = None if self._quiet_steps is None else _steps_between(episode.last, finding.at)
        if steps is None or self._quiet_steps is None:
            return episode if time_ns - episode.last_ns < self._quiet_ns else None
        return episode if steps < self._quiet_steps else None

    def _lead(self, key: _Key, rule: Rule, action: Action) -> None:
        """From now on, what is of the same event belongs to this episode, if it notified."""
        if rule.event and key[1] is not None and action.rank >= Action.NOTIFY.rank:
            self._leaders[_event_of(rule, key[1])] = key

    def _key(self, finding: Finding, rule: Rule) -> _Key:
        key: _Key = (rule.detector, finding.series)
        if key not in self._open and self._open_of.get(rule.detector, 0) >= MAX_OPEN:
            return rule.detector, None
        return key

    def _begun(self, finding: Finding, rule: Rule) -> _Episode | None:
        """The episode in which the state began that is resolved now: the series' own, or the shared one.

        A series that began in the shared one stays there even if there is room for its own by now.
        """
        own, shared = self._open.get((rule.detector, finding.series)), self._open.get((rule.detector, None))
        if own is None or (shared is not None and shared.holding and not own.holding):
            return shared
        return own

    def _action(self, finding: Finding, rule: Rule) -> Action:
        if self.has_reward and rule.but_with_reward and not _explodes(finding):
            return Action.LOG
        action = rule.actions.get(finding.severity, Action.LOG)
        step = finding.at.step if finding.at.step != ABSENT else finding.at.seq
        return Action.LOG if ABSENT != step < rule.after_steps else action

    @staticmethod
    def _level(rule: Rule, action: Action) -> Level:
        return Level.of(action) if rule.level is None or action is Action.LOG else rule.level

    def _begin(self, key: _Key, finding: Finding, rule: Rule, action: Action, time_ns: int) -> None:
        self._number += 1
        self._open_of[rule.detector] = self._open_of.get(rule.detector, 0) + 1
        self._times[key] += 1
        self._lead(key, rule, action)
        series = key[1]
        alert = Alert(
            name=rule.name,
            source=rule.source,
            level=self._level(rule, action),
            summary=summary_of(rule, finding, series),
            episode=str(self._number),
            started_ns=time_ns,
            at=finding.at,
            series=series,
            value=finding.value,
            expected=finding.expected,
            score=finding.score,
            labels=rule.labels,
            annotations=rule.annotations,
            **_action_fields(rule, action),
        )
        is_real = finding.count > 0
        holding = int(rule.lasting and is_real)
        self._open[key] = _Episode(
            alert,
            rule,
            last_ns=time_ns,
            last=finding.at,
            quiet_steps=(self._quiet_steps or 0) << min(self._times[key] - 1, _MOST_DOUBLINGS),
            holding=holding,
            count=max(1, finding.count),
            peak=finding.value,
            announced=not is_real,
        )

    def _end(self, now_ns: int, at: Coordinates) -> list[Alert]:
        quiet = [key for key, episode in self._open.items() if self._is_quiet(episode, now_ns, at)]
        return self._close(quiet, None)

    def _is_quiet(self, episode: _Episode, now_ns: int, at: Coordinates) -> bool:
        if episode.holding:
            return False
        if episode.rule.ends_at_once:
            return True
        if self._quiet_steps is None or (steps := _steps_since(episode.last, at)) is None:
            return now_ns - episode.last_ns >= self._quiet_ns
        return steps >= episode.quiet_steps

    def _close(self, keys: list[_Key], at_ns: int | None) -> list[Alert]:
        closed = []
        for key in keys:
            episode = self._open.pop(key)
            self._open_of[episode.rule.detector] -= 1
            closed.append(episode.as_alert(max(episode.last_ns, at_ns or 0)))
        return closed


def _explodes(finding: Finding) -> bool:
    is_norm = known_as(finding.series.metric)[0] == "gradient_norm"
    return is_norm and finding.value >= EXPLODES * abs(finding.expected)


def _action_fields(rule: Rule, action: Action) -> dict[str, Any]:
    """The fields of an alert that depend on the action."""
    reduces = action is Action.REDUCE_LR
    return {
        "action": action,
        "factor": rule.factor if reduces else None,
        "min_factor": rule.min_factor if reduces else None,
    }


def _is_beyond(value: float, peak: float, begun: Alert) -> bool:
    """Whether a value is farther from what was expected than the peak, on the side of the first one."""
    if math.isnan(value) or math.isnan(peak):
        return not math.isnan(peak)
    assert begun.value is not None
    assert begun.expected is not None
    return value < peak if begun.value < begun.expected else value > peak


def _steps_between(one: Coordinates, other: Coordinates) -> int | None:
    """How far two samples lie apart; None where one of them is none."""
    if ABSENT in (one.seq, other.seq):
        return None
    return abs(other.step - one.step) if ABSENT not in (one.step, other.step) else abs(other.seq - one.seq)


def _steps_since(last: Coordinates, newest: Coordinates) -> int | None:
    """How far the loop has come, by a sample of whatever series; at most as many steps as rows.

    The newest may count by other steps, as a validation that is logged at the number of its epoch.
    """
    if ABSENT in (last.seq, newest.seq):
        return None
    rows = newest.seq - last.seq
    is_ahead = ABSENT not in (last.step, newest.step) and newest.step >= last.step
    return min(rows, newest.step - last.step) if is_ahead else rows


def _event_of(rule: Rule, series: Series) -> _Event:
    """Of which event a finding may be: of one model or member, whatever the metric and the split."""
    return rule.event, tuple(tag for tag in series.tags if tag[0] not in ("split", "phase"))


def summary_of(rule: Rule, finding: Finding, series: Series | None) -> str:
    """The text of an alert of this rule about a finding; `series` is None in the shared episode."""
    if series is None:
        return f"{rule.text}: {finding.series} and other series at the same time"
    if finding.text:
        return f"{rule.text}: {finding.text}"
    value, expected = (_short(number) for number in (finding.value, finding.expected))
    if not math.isfinite(finding.value):
        return f"{rule.text}: {series} is {value}"
    word = "the limit is" if rule.source in ("threshold", "budget") else "expected"
    return f"{rule.text}: {series} is {value}, {word} {expected}"


def _short(number: float) -> str:
    return f"{number:.6g}"
