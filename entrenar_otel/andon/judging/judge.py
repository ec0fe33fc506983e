"""Judge: every sample of every tick goes past the processors, and what they find past the policy."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from entrenar_processors import Coordinates, Finding, Processor, Samples, Series
from entrenar_processors.alert import NOWHERE, Action, Alert, Level
from entrenar_processors.finding import ORDER
from entrenar_processors.metric_names import is_reward
from entrenar_processors.policy import Policy
from entrenar_processors.processor import FollowsClock
from entrenar_processors.samples import Block, Singles
from entrenar_processors.stats.arrays import give_way

from entrenar_otel.andon.judging.user_processor import UserProcessor, own_copy
from entrenar_otel.errors import guard
from entrenar_otel.recording.process.control import CONTROL

#: Combinations of metric, detector and severity that have a count of their own; the rest share one.
_MAX_NAMES = 2000

#: What of a finding says how it is counted.
_KIND = attrgetter("series.metric", "detector", "severity", "count", "resolved")

Points = list[tuple[Mapping[str, Any], float]]


class Judge:
    """Processors and policy, and the counts of what they found. Thread-safe.

    `others` are the program's own processors. Each processor has a guard of its own: one that raises is out
    for the rest of the run, since it may have seen half of the samples, and the others judge on. `lost`
    counts findings whose metric found no count of its own.
    """

    def __init__(
        self,
        processors: Iterable[Processor],
        policy: Policy,
        others: Iterable[UserProcessor] = (),
        *,
        lost: Callable[[int], None] = lambda _n: None,
    ) -> None:
        self.processors = tuple(processors)
        self._broken: set[int] = set()  # ids of processors that raised
        self.policy = policy
        #: Where the newest sample that was judged is.
        self.newest = NOWHERE
        self._without_reward: set[tuple[Series, ...]] = set()
        self._others = tuple(others)
        self._lost = lost
        self._lock = threading.RLock()
        self._anomalies: Counter[tuple[str, str, str]] = Counter()
        self._p_values: dict[tuple[str, str], float] = {}
        # Every combination starts at 0: an increase from nothing is invisible to Prometheus.
        sources = {CONTROL, *(rule.source for rule in policy.rules)}
        self._alerts = Counter({(level, source): 0 for source in sorted(sources) for level in Level})
        self._known = {
            (rule.name, rule.level or Level.of(action))
            for rule in policy.rules
            for action in rule.actions.values()
            if action is not Action.LOG
        }

    def judge(self, samples: Samples) -> list[Finding]:
        """What the processors find in the samples of a tick, in the order of the recording."""
        if samples.parts:
            self.newest = max(map(_newest_of, samples.parts), key=lambda at: at.seq)
            self._look_for_reward(samples)
        findings: list[Finding] = []
        rows = len(samples)
        for processor in self.processors:
            give_way(rows)
            findings += self._found_by(processor, type(processor).__name__, samples)
        if self._others:
            samples = own_copy(samples)
        for other in self._others:
            findings += self._found_by(other, other.name, samples)
        findings.sort(key=ORDER)
        return findings

    def _look_for_reward(self, samples: Samples) -> None:
        for block in () if self.policy.has_reward else samples.parts:
            if isinstance(block, Singles):  # of which the next tick may have others
                self.policy.has_reward |= any(is_reward(series.metric) for series in block.series)
            elif block.series not in self._without_reward:
                self.policy.has_reward |= any(is_reward(series.metric) for series in block.series)
                self._without_reward.add(block.series)

    def _found_by(self, processor: Processor | UserProcessor, name: str, samples: Samples) -> list[Finding]:
        if id(processor) not in self._broken:
            with guard(f"detector {name}", "it is off for the rest of this run; the others go on"):
                try:
                    return processor.update(samples)
                except Exception:
                    self._broken.add(id(processor))
                    raise
        return []

    def decide(self, findings: Sequence[Finding], now_ns: int) -> list[Alert]:
        """The alerts that begin, call for more, or are resolved."""
        with self._lock:
            if findings:
                self._count_anomalies(findings)
            alerts = self.policy.decide(findings, now_ns, self.newest)
            for alert in alerts:
                self._count(alert)
            return alerts

    def on_clock_step(self, shift_ns: int, now_ns: int) -> None:
        """The clock was moved: how long something lasts is told as if it had always been like this."""
        for processor in self.processors:
            with guard(f"detector {type(processor).__name__}"):
                if isinstance(processor, FollowsClock):
                    processor.on_clock_step(shift_ns, now_ns)
        with self._lock:
            self.policy.on_clock_step(shift_ns, now_ns)

    def finish(self, now_ns: int) -> list[Alert]:
        """The alerts that still fire, ended: the run is over."""
        with self._lock:
            return self.policy.finish(now_ns)

    def close(self) -> None:
        """Let go of the program's own processors: another run may have them."""
        for other in self._others:
            other.close()

    def count(self, alert: Alert) -> None:
        """Count an alert that no rule decided: a person's."""
        with self._lock:
            self._count(alert)

    @property
    def active(self) -> list[Alert]:
        """The alerts that fire now."""
        with self._lock:
            return self.policy.active

    def metrics(self) -> dict[str, Points]:
        """What is exported of all this: instrument → points."""
        with self._lock:
            firing = {(a.name, a.level) for a in self.policy.active if a.action is not Action.LOG}
            self._known |= firing
            return {
                "training.anomalies": [
                    ({"metric": metric, "detector": detector, "severity": severity}, n)
                    for (metric, detector, severity), n in sorted(self._anomalies.items())
                ],
                "training.drift.p_value": [
                    ({"metric": metric, "detector": detector}, p)
                    for (metric, detector), p in sorted(self._p_values.items())
                ],
                "training.alert.active": [
                    ({"name": name, "level": str(level)}, float((name, level) in firing))
                    for name, level in sorted(self._known)
                ],
                "training.alerts": [
                    ({"level": str(level), "source": source}, n)
                    for (level, source), n in sorted(self._alerts.items())
                ],
            }

    def _count(self, alert: Alert) -> None:
        if not alert.is_resolved:
            self._alerts[alert.level, alert.source] += 1

    def _count_anomalies(self, findings: Sequence[Finding]) -> None:
        counts = Counter(map(_KIND, findings))
        for (metric, detector, severity, count, resolved), n in counts.items():
            if resolved or not count:
                continue
            key = metric, detector, str(severity)
            if key not in self._anomalies and len(self._anomalies) >= _MAX_NAMES:
                key = "(others)", detector, str(severity)
                self._lost(n)
            self._anomalies[key] += n
        for finding in findings if any(kind[1] == "drift" for kind in counts) else ():
            if finding.detector == "drift" and finding.count and not finding.resolved:
                self._p_values[finding.series.metric, finding.detector] = finding.score


def _newest_of(part: Block | Singles) -> Coordinates:
    """Where its last row is."""
    if isinstance(part, Singles):
        return Coordinates.of(part.columns, int(part.seq.argmax()))
    return Coordinates.of(part, -1)
