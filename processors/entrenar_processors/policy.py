"""Policy: from findings to alerts, one per episode, with the level and action of its rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from entrenar_processors.alert import Action, Alert, Level, Rule
from entrenar_processors.finding import Finding
from entrenar_processors.samples import ABSENT, Series

#: How many series of one rule have episodes of their own at a time. If more are abnormal at once (all
#: layers of a network), the rest share one episode: nobody reads two thousand alerts.
MAX_OPEN = 50

_Key = tuple[str, Series | None]


@dataclass(slots=True)
class _Episode:
    """A firing alert and what ends it; `as_alert` brings `count` and `peak` into the alert."""

    alert: Alert
    rule: Rule
    last_ns: int
    #: Lasting findings that are not resolved; without any, the episode ends after a quiet time. A finding
    #: of count 0 only announces one that the same sample will bring, so it is not counted here.
    holding: int
    top_score: float
    count: int
    peak: float
    announced: bool = False

    def as_alert(self, ended_ns: int | None = None) -> Alert:
        """The alert as it stands."""
        return replace(self.alert, count=self.count, peak=self.peak, ended_ns=ended_ns)


class Policy:
    """Decides about findings. It reads no clock: what it returns depends only on what it was given.

    The first finding of a rule on a series begins an episode, which fires once, and again where a later
    finding calls for a stronger action. The episode is over when no finding came for `quiet_seconds`,
    but not while a lasting state holds (`Rule.lasting`). What begins again within that time belongs to
    the same episode: hysteresis, for values that waver about a limit.

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

    def __init__(self, rules: Iterable[Rule], *, quiet_seconds: float = 60.0) -> None:
        self._rules = {rule.detector: rule for rule in rules}
        self._quiet_ns = round(quiet_seconds * 1e9)
        self._open: dict[_Key, _Episode] = {}
        self._open_of: dict[str, int] = {}
        self._number = 0
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

    def admit(self, rule: Rule) -> None:
        """From now on, findings of the rule's detector are decided about by it."""
        self._rules[rule.detector] = rule

    def decide(self, findings: Iterable[Finding], now_ns: int) -> list[Alert]:
        """The alerts that fire, in the order of the findings, then those that are resolved."""
        due: dict[_Key, None] = {}
        for finding in findings:
            rule = self.rule_of(finding.detector)
            if rule is not None and (key := self._take(finding, rule, now_ns)) is not None:
                due[key] = None
        fired = [self._open[key].as_alert() for key in due]
        return fired + self._end(now_ns)

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

    def _take(self, finding: Finding, rule: Rule, now_ns: int) -> _Key | None:
        """Count the finding in; returns the key of its episode where an alert is due."""
        time_ns = finding.at.time_ns if finding.at.time_ns != ABSENT else now_ns
        if finding.resolved:
            if (episode := self._begun(finding, rule)) is not None:
                episode.holding = max(0, episode.holding - 1)
                episode.last_ns = max(episode.last_ns, time_ns)
                episode.count += finding.count
            return None
        key = self._key(finding, rule)
        self.shared += key[1] is None
        episode = self._open.get(key)
        action = self._action(finding, rule)
        if episode is None:
            self._begin(key, finding, rule, action, time_ns)
            return key
        episode.last_ns = max(episode.last_ns, time_ns)
        episode.holding += rule.lasting and finding.count > 0
        if (score := _size(finding.score)) > episode.top_score:
            episode.top_score, episode.peak = score, finding.value
        if finding.count:
            episode.count += finding.count - episode.announced
            episode.announced = False
        now = episode.alert.action
        if action is now or action.rank <= now.rank:
            return None
        episode.alert = replace(
            episode.alert, level=self._level(rule, action), **_action_fields(rule, action)
        )
        return key

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
        action = rule.actions.get(finding.severity, Action.LOG)
        step = finding.at.step if finding.at.step != ABSENT else finding.at.seq
        return Action.LOG if ABSENT != step < rule.after_steps else action

    @staticmethod
    def _level(rule: Rule, action: Action) -> Level:
        return Level.of(action) if rule.level is None or action is Action.LOG else rule.level

    def _begin(self, key: _Key, finding: Finding, rule: Rule, action: Action, time_ns: int) -> None:
        self._number += 1
        self._open_of[rule.detector] = self._open_of.get(rule.detector, 0) + 1
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
            holding=holding,
            top_score=_size(finding.score),
            count=max(1, finding.count),
            peak=finding.value,
            announced=not is_real,
        )

    def _end(self, now_ns: int) -> list[Alert]:
        quiet = [
            key
            for key, episode in self._open.items()
            if not episode.holding and now_ns - episode.last_ns >= self._quiet_ns
        ]
        return self._close(quiet, None)

    def _close(self, keys: list[_Key], at_ns: int | None) -> list[Alert]:
        closed = []
        for key in keys:
            episode = self._open.pop(key)
            self._open_of[episode.rule.detector] -= 1
            closed.append(episode.as_alert(max(episode.last_ns, at_ns or 0)))
        return closed


def _action_fields(rule: Rule, action: Action) -> dict[str, Any]:
    """The fields of an alert that depend on the action."""
    reduces = action is Action.REDUCE_LR
    return {
        "action": action,
        "factor": rule.factor if reduces else None,
        "min_factor": rule.min_factor if reduces else None,
    }


def _size(score: float) -> float:
    """How abnormal a score is; NaN is beyond every number."""
    return math.inf if math.isnan(score) else abs(score)


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
