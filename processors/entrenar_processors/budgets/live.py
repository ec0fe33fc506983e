"""Live budgets: the assertions of a renacer.toml, judged while the run goes on, in bounded memory.

Counts and maxima are exact over the whole run. Anti-patterns are those of the last WINDOW spans that
ended, from the moment on from which all of them are known; a run of fewer than LEAST is not judged. A
custom expression is judged on request, see `check_summary`.

Told once an episode: an exceeded budget is silent until it was below REARM of its limit again, of a
latency CALM_SPANS times in a row, since one slow span in ten would otherwise ring all the time. A
count never falls, so it is told once. Memory and anti-patterns are said to be kept again when they are.
"""

from __future__ import annotations

import math
import re
import threading
from collections import deque
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from entrenar_processors.budgets.span_times import Span, SpanTimes
from entrenar_processors.budgets.verdicts import (
    UNITS,
    Outcome,
    Result,
    Violation,
    count_message,
    is_about_latency,
    judged,
    judged_expression,
    judged_share,
    latency_message,
    limit_of,
    memory_message,
    share_of,
    usage_of,
)
from entrenar_processors.expression import Expression, Lookup, parse

if TYPE_CHECKING:
    from entrenar_processors.config.models import Assertion

SECONDS, BYTES = "s", "By"
WINDOW, LEAST = 4_096, 100
REARM, CALM_SPANS = 0.9, 10
#: Names whose budgets are remembered, and violations that wait to be asked for.
_MAX_NAMES, _MAX_WAITING = 4_096, 1_000
#: Names told to `check_latency` and `check_memory` whose largest values are kept for the gate.
_MAX_CHECKED = 256


class Usage(NamedTuple):
    """How much of a budget is used: `usage` is the value over `limit`, which is in `unit`."""

    budget: str
    unit: str
    limit: float
    usage: float


class _Budget:
    """One assertion, the largest value so far, and whether its violation was told."""

    def __init__(self, assertion: Any) -> None:
        self.assertion = assertion
        self.limit = limit_of(assertion)
        self.value: float | None = None
        self.is_told = False
        self.calm = 0
        names = ("trace_name_pattern", "span_name_pattern")
        pattern = next((found for name in names if (found := getattr(assertion, name, None))), None)
        self.pattern: re.Pattern[str] | None = re.compile(pattern) if pattern else None

    def is_about(self, name: str) -> bool:
        if self.assertion.type == "critical_path":
            return is_about_latency(self.pattern, name)
        return self.pattern is None or self.pattern.search(name) is not None

    def calms(self, value: float, times: int) -> bool:
        """Take a value that is within the limit; returns whether an episode is over with it."""
        assert self.limit is not None
        self.calm = self.calm + 1 if value < REARM * self.limit or value == 0 else 0
        is_resolved = self.is_told and self.calm >= times
        if is_resolved:
            self.is_told = False
        return is_resolved


class LiveBudgets:
    """The enabled assertions over a run that goes on. Every method may be called on any thread.

    >>> from entrenar_processors.config.models import parse_config
    >>> slow = {"name": "latency", "type": "critical_path", "max_duration_ms": 2000,
    ...         "trace_name_pattern": "^training_iteration$"}
    >>> live = LiveBudgets(parse_config({"assertion": [slow]}).assertion)
    >>> live.span_ended("training_iteration", 1.0)
    >>> live.violations()
    []
    >>> live.check_latency("training_iteration", 2.5).message
    'training_iteration took 2.5 s, the limit is 2 s'
    >>> live.span_ended("training_iteration", 2.4)
    >>> [violation.value for violation in live.violations()], live.usage()[0].usage
    ([2500.0], 1.25)
    """

    def __init__(self, assertions: Iterable[Assertion]) -> None:
        budgets = [_Budget(one) for one in assertions if one.enabled]
        by_type: dict[str, list[_Budget]] = {name: [] for name in UNITS}
        for one in budgets:
            by_type[one.assertion.type].append(one)
        self._budgets = budgets
        self._latencies = by_type["critical_path"]
        self._counts = by_type["span_count"]
        self._memory = by_type["memory_usage"]
        self._patterns = by_type["anti_pattern"]
        self._customs: list[tuple[_Budget, Expression]] = [
            (one, parse(one.assertion.expression)) for one in by_type["custom"]
        ]
        for one in self._counts:
            one.value = 0
        self._lock = threading.Lock()
        self._about: dict[str, tuple[tuple[_Budget, ...], tuple[_Budget, ...]]] = {}
        self._waiting: deque[Violation] = deque(maxlen=_MAX_WAITING)
        self._kept_again: deque[str] = deque(maxlen=_MAX_WAITING)
        self._checked: dict[str, dict[str, float]] = {SECONDS: {}, BYTES: {}}
        self._window: deque[Span] = deque(maxlen=WINDOW)
        self._known_from_ns = 0
        self._ended = self._judged_at = 0

    @property
    def needs_allocations(self) -> bool:
        """Whether a budget is about what Python allocates, which tracemalloc alone knows."""
        return any(one.assertion.tracking_mode == "allocations" for one in self._memory)

    # -- spans ----------------------------------------------------------------------------------

    def span_ended(
        self,
        name: str,
        duration_s: float,
        *,
        trace_id: Hashable = 0,
        span_id: Hashable = None,
        parent_span_id: Hashable = None,
        end_ns: int | None = None,
    ) -> None:
        """A span ended. Anti-patterns need its ids and the time of its end too."""
        with self._lock:
            counts, latencies = self._budgets_of(name)
            for one in counts:
                assert one.value is not None
                one.value += 1
                limit = one.assertion.max_spans
                if one.value > limit and not one.is_told:
                    message = count_message(int(one.value), limit, one.assertion.span_name_pattern)
                    self._tell(one, judged(one.assertion, one.value, limit, message, name))
            for one in latencies:
                self._latency(one, name, duration_s)
            if self._patterns and end_ns is not None:
                self._ended += 1
                if len(self._window) == WINDOW:
                    self._known_from_ns = max(self._known_from_ns, self._window[0].end_ns)
                start_ns = end_ns - int(duration_s * 1e9)
                self._window.append(Span(trace_id, span_id, parent_span_id, name, start_ns, end_ns))

    def check_latency(self, name: str, seconds: float) -> Violation | None:
        """Judge a latency that has no span; of several budgets that it exceeds, the one by most.

        It is judged by every critical_path whose pattern is found in the name, or which has none.
        """
        with self._lock:
            self._keep(SECONDS, name, seconds)
            found = [self._latency(one, name, seconds) for one in self._budgets_of(name)[1]]
        return _worst(found)

    def _budgets_of(self, name: str) -> tuple[tuple[_Budget, ...], tuple[_Budget, ...]]:
        """The counts and the latencies that are about a name."""
        found = self._about.get(name)
        if found is None:
            counts = tuple(one for one in self._counts if one.is_about(name))
            found = counts, tuple(one for one in self._latencies if one.is_about(name))
            if len(self._about) < _MAX_NAMES:
                self._about[name] = found
        return found

    def _latency(self, one: _Budget, name: str, seconds: float) -> Violation | None:
        value, limit = seconds * 1000, one.assertion.max_duration_ms
        if not math.isfinite(value):
            return None
        if one.value is None or value > one.value:
            one.value = value
        if value > limit:
            message = latency_message(name, value, limit)
            return self._tell(one, judged(one.assertion, value, limit, message, name))
        one.calms(value, CALM_SPANS)
        return None

    def check_patterns(self, lookup: Lookup = lambda function, metric, tags: None) -> None:
        """Judge the anti-patterns of the last spans: some milliseconds, so once a tick at most.

        `lookup` are the run's numbers, for PcieBottleneck where no span is called like a transfer.
        """
        if not self._patterns:
            return
        with self._lock:
            window, known_from_ns = list(self._window), self._known_from_ns
            is_news, self._judged_at = self._ended != self._judged_at, self._ended
        if not is_news or len(window) < LEAST:
            return
        spans = SpanTimes.of(window).clipped(known_from_ns)
        for one in self._patterns:
            share = share_of(one.assertion, spans, lookup)
            if isinstance(share, str):
                continue
            with self._lock:
                one.value = share.value
                self._take(one, judged_share(one.assertion, share))

    # -- memory ---------------------------------------------------------------------------------

    def memory(self, rss: float | None, allocations: float | None = None) -> None:
        """The process holds this many bytes now: resident, and allocated by Python (None: not known)."""
        for one in self._memory:
            value = rss if one.assertion.tracking_mode == "rss" else allocations
            if value is not None:
                with self._lock:
                    self._bytes(one, value, None)

    def check_memory(self, name: str, bytes_: float) -> Violation | None:
        """Judge the size of something, by the memory budget of that name, else by all of them."""
        named = [one for one in self._memory if one.assertion.name == name]
        with self._lock:
            self._keep(BYTES, name, bytes_)
            return _worst([self._bytes(one, bytes_, name) for one in named or self._memory])

    def _keep(self, unit: str, name: str, value: float) -> None:
        largest = self._checked[unit]
        if not math.isfinite(value):
            return
        if name not in largest and len(largest) >= _MAX_CHECKED:  # endless names: the largest stay
            least = min(largest, key=lambda one: largest[one])
            if value <= largest[least]:
                return
            del largest[least]
        largest[name] = max(value, largest.get(name, value))

    def checked(self) -> dict[tuple[str, str], float]:
        """The largest values that were told to the two checks, by unit (SECONDS, BYTES) and name."""
        with self._lock:
            return {
                (unit, name): value for unit, found in self._checked.items() for name, value in found.items()
            }

    def _bytes(self, one: _Budget, value: float, what: str | None) -> Violation | None:
        if not math.isfinite(value):
            return None
        one.value = value if one.value is None else max(one.value, value)
        message = memory_message(one.assertion, value, what)
        return self._take(one, judged(one.assertion, value, one.assertion.max_bytes, message, what))

    # -- the summary ----------------------------------------------------------------------------

    def check_summary(self, lookup: Lookup, *, ended: bool = False) -> None:
        """Judge custom expressions; before the end only those that stay false once they are.

        `last(accuracy) > 0.9` is false of nearly every run at its beginning, which means nothing;
        `max(loss) < 100` is never true again. See `Expression.is_final`.
        """
        for one, expression in self._customs:
            if one.is_told or not (ended or expression.is_final):
                continue
            result = judged_expression(one.assertion, expression.evaluate(lookup))
            if result.outcome is Outcome.VIOLATED:
                with self._lock:
                    self._tell(one, result)

    # -- answers --------------------------------------------------------------------------------

    def violations(self) -> list[Violation]:
        """The violations since the last call, each once an episode."""
        found = []
        with self._lock:
            while self._waiting:
                found.append(self._waiting.popleft())
        return found

    def kept_again(self) -> list[str]:
        """The budgets of memory and anti-patterns that are kept again, since the last call."""
        with self._lock:
            found = list(self._kept_again)
            self._kept_again.clear()
            return found

    def usage(self) -> list[Usage]:
        """How much of each budget is used, as far as it was measured.

        Of latencies and memory the largest so far, as the gate after the run judges; of anti-patterns
        the window's. Custom expressions have no such number.
        """
        with self._lock:
            return [
                Usage(
                    one.assertion.name, UNITS[one.assertion.type], one.limit, usage_of(one.value, one.limit)
                )
                for one in self._budgets
                if one.value is not None and one.limit is not None
            ]

    def _take(self, one: _Budget, result: Result) -> Violation | None:
        if result.outcome is Outcome.VIOLATED:
            return self._tell(one, result)
        assert result.value is not None
        if one.calms(result.value, 1):
            self._kept_again.append(one.assertion.name)
        return None

    def _tell(self, one: _Budget, result: Result) -> Violation:
        violation = result.violation
        assert violation is not None
        one.calm = 0
        if not one.is_told:
            one.is_told = True
            self._waiting.append(violation)
        return violation


def _worst(found: Iterable[Violation | None]) -> Violation | None:
    violations = [one for one in found if one is not None]
    return max(violations, key=lambda one: one.usage or 0.0, default=None)
