"""Live budgets: the assertions of a renacer.toml, judged while the run goes on, in bounded memory.

Counts and maxima are exact over the whole run. Anti-patterns are judged on the last WINDOW spans that
ended, from the time on from which all spans are known, once there are LEAST of them, each time that one in
NEWS is new. Custom expressions are judged on request, see `check_summary`.

A violation is reported once per episode: an exceeded budget stays silent until it was below REARM of its
limit again; a latency CALM_SPANS times in a row, since one slow span in ten would otherwise be reported all
the time. A count never falls, so it is reported once. Of memory and anti-patterns, the end is reported too.
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
WINDOW, LEAST, NEWS = 4_096, 100, 4
REARM, CALM_SPANS = 0.9, 10
#: Names whose budgets are remembered, and violations that wait for `violations()`.
_MAX_NAMES, _MAX_WAITING = 4_096, 1_000
#: Names given to `check_latency` and `check_memory` whose largest values are kept for the gate.
_MAX_CHECKED = 256


class Usage(NamedTuple):
    """How much of a budget is used: `usage` is the value over `limit`, which is in `unit`."""

    budget: str
    unit: str
    limit: float
    usage: float


class _Budget:
    """One assertion, the largest value so far, and whether its violation was reported."""

    def __init__(self, assertion: Any) -> None:
        self.assertion = assertion
        self.limit = limit_of(assertion)
        self.value: float | None = None
        self.is_reported = False
        self.calm = 0
        names = ("trace_name_pattern", "span_name_pattern")
        pattern = next((text for name in names if (text := getattr(assertion, name, None))), None)
        self.pattern: re.Pattern[str] | None = re.compile(pattern) if pattern else None

    def is_about(self, name: str) -> bool:
        if self.assertion.type == "critical_path":
            return is_about_latency(self.pattern, name)
        return self.pattern is None or self.pattern.search(name) is not None

    def calms(self, value: float, times: int) -> bool:
        """Take a value within the limit; returns whether it ends an episode."""
        assert self.limit is not None
        self.calm = self.calm + 1 if value < REARM * self.limit or value == 0 else 0
        is_resolved = self.is_reported and self.calm >= times
        if is_resolved:
            self.is_reported = False
        return is_resolved


class LiveBudgets:
    """The enabled assertions of a run that goes on. Every method may be called on any thread.

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
        budgets = [_Budget(assertion) for assertion in assertions if assertion.enabled]
        by_type: dict[str, list[_Budget]] = {name: [] for name in UNITS}
        for budget in budgets:
            by_type[budget.assertion.type].append(budget)
        self._budgets = budgets
        self._latencies = by_type["critical_path"]
        self._counts = by_type["span_count"]
        self._memory = by_type["memory_usage"]
        self._patterns = by_type["anti_pattern"]
        self._customs: list[tuple[_Budget, Expression]] = [
            (budget, parse(budget.assertion.expression)) for budget in by_type["custom"]
        ]
        for budget in self._counts:
            budget.value = 0
        self._lock = threading.Lock()
        self._about: dict[str, tuple[tuple[_Budget, ...], tuple[_Budget, ...]]] = {}
        self._waiting: deque[Violation] = deque(maxlen=_MAX_WAITING)
        self._kept_again: deque[str] = deque(maxlen=_MAX_WAITING)
        self._checked: dict[str, dict[str, float]] = {SECONDS: {}, BYTES: {}}
        self._window: deque[Span] = deque(maxlen=WINDOW)
        self._known_from_ns = 0
        self._span_count = self._judged_at = 0

    @property
    def needs_allocations(self) -> bool:
        """Whether a budget is about memory allocated by Python, which only tracemalloc knows."""
        return any(budget.assertion.tracking_mode == "allocations" for budget in self._memory)

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
        """Count a span that ended. Anti-patterns also need its ids and the time of its end."""
        with self._lock:
            counts, latencies = self._budgets_of(name)
            for budget in counts:
                assert budget.value is not None
                budget.value += 1
                limit = budget.assertion.max_spans
                if budget.value > limit and not budget.is_reported:
                    message = count_message(int(budget.value), limit, budget.assertion.span_name_pattern)
                    self._report(budget, judged(budget.assertion, budget.value, limit, message, name))
            for budget in latencies:
                self._latency(budget, name, duration_s)
            if self._patterns and end_ns is not None:
                self._span_count += 1
                if len(self._window) == WINDOW:
                    self._known_from_ns = max(self._known_from_ns, self._window[0].end_ns)
                start_ns = end_ns - int(duration_s * 1e9)
                self._window.append(Span(trace_id, span_id, parent_span_id, name, start_ns, end_ns))

    def check_latency(self, name: str, seconds: float) -> Violation | None:
        """Judge a latency that has no span; returns the worst violation.

        It is judged by every critical_path whose pattern matches the name, or which has no pattern.
        """
        with self._lock:
            self._keep(SECONDS, name, seconds)
            return _worst([self._latency(budget, name, seconds) for budget in self._budgets_of(name)[1]])

    def _budgets_of(self, name: str) -> tuple[tuple[_Budget, ...], tuple[_Budget, ...]]:
        """The counts and the latencies that are about a name."""
        about = self._about.get(name)
        if about is None:
            counts = tuple(budget for budget in self._counts if budget.is_about(name))
            about = counts, tuple(budget for budget in self._latencies if budget.is_about(name))
            if len(self._about) < _MAX_NAMES:
                self._about[name] = about
        return about

    def _latency(self, budget: _Budget, name: str, seconds: float) -> Violation | None:
        value, limit = seconds * 1000, budget.assertion.max_duration_ms
        if not math.isfinite(value):
            return None
        if budget.value is None or value > budget.value:
            budget.value = value
        if value > limit:
            message = latency_message(name, value, limit)
            return self._report(budget, judged(budget.assertion, value, limit, message, name))
        budget.calms(value, CALM_SPANS)
        return None

    def check_patterns(
        self, lookup: Lookup = lambda function, metric, tags: None, *, ended: bool = False
    ) -> None:
        """Judge the anti-patterns of the last spans: some milliseconds, so at most once per tick, and until
        it has `ended` only where one span in NEWS is new.

        `lookup` gives the run's numbers, for PcieBottleneck where no span has the name of a transfer.
        """
        if not self._patterns:
            return
        with self._lock:
            new, size = self._span_count - self._judged_at, len(self._window)
            if size < LEAST or new < (1 if ended else max(1, size // NEWS)):
                return
            window, known_from_ns = list(self._window), self._known_from_ns
            self._judged_at = self._span_count
        spans = SpanTimes.of(window).clipped(known_from_ns)
        for budget in self._patterns:
            share = share_of(budget.assertion, spans, lookup)
            if isinstance(share, str):
                continue
            with self._lock:
                budget.value = share.value
                self._take(budget, judged_share(budget.assertion, share))

    # -- memory ---------------------------------------------------------------------------------

    def memory(self, rss: float | None, allocations: float | None = None) -> None:
        """Judge the bytes that the process holds now: resident, and allocated by Python (None: unknown)."""
        for budget in self._memory:
            value = rss if budget.assertion.tracking_mode == "rss" else allocations
            if value is not None:
                with self._lock:
                    self._bytes(budget, value, None)

    def check_memory(self, name: str, bytes_: float) -> Violation | None:
        """Judge a size by the memory budget of its name, else by all of them; returns the worst violation."""
        named = [budget for budget in self._memory if budget.assertion.name == name]
        with self._lock:
            self._keep(BYTES, name, bytes_)
            return _worst([self._bytes(budget, bytes_, name) for budget in named or self._memory])

    def _keep(self, unit: str, name: str, value: float) -> None:
        largest = self._checked[unit]
        if not math.isfinite(value):
            return
        if name not in largest and len(largest) >= _MAX_CHECKED:  # endless names: the largest stay
            least = min(largest, key=largest.__getitem__)
            if value <= largest[least]:
                return
            del largest[least]
        largest[name] = max(value, largest.get(name, value))

    def checked(self) -> dict[tuple[str, str], float]:
        """The largest values that were given to the two checks, by unit (SECONDS, BYTES) and name."""
        with self._lock:
            return {
                (unit, name): value
                for unit, largest in self._checked.items()
                for name, value in largest.items()
            }

    def _bytes(self, budget: _Budget, value: float, what: str | None) -> Violation | None:
        if not math.isfinite(value):
            return None
        budget.value = value if budget.value is None else max(budget.value, value)
        message = memory_message(budget.assertion, value, what)
        return self._take(budget, judged(budget.assertion, value, budget.assertion.max_bytes, message, what))

    # -- the summary ----------------------------------------------------------------------------

    def check_summary(self, lookup: Lookup, *, ended: bool = False) -> None:
        """Judge custom expressions; before the end only those that stay false once they are false.

        `last(accuracy) > 0.9` is false at the beginning of nearly every run, which means nothing; once
        `max(loss) < 100` is false, it is never true again. See `Expression.is_final`.
        """
        for budget, expression in self._customs:
            if budget.is_reported or not (ended or expression.is_final):
                continue
            result = judged_expression(budget.assertion, expression.evaluate(lookup))
            if result.outcome is Outcome.VIOLATED:
                with self._lock:
                    self._report(budget, result)

    # -- answers --------------------------------------------------------------------------------

    def violations(self) -> list[Violation]:
        """The violations since the last call, each once per episode."""
        with self._lock:
            violations = list(self._waiting)
            self._waiting.clear()
            return violations

    def kept_again(self) -> list[str]:
        """The names of memory budgets and anti-patterns whose violation ended since the last call."""
        with self._lock:
            names = list(self._kept_again)
            self._kept_again.clear()
            return names

    def usage(self) -> list[Usage]:
        """How much of each budget is used, as far as it was measured.

        For latencies and memory it is the largest value so far, as the gate after the run judges; for
        anti-patterns that of the window. Custom expressions have no such number.
        """
        with self._lock:
            return [
                Usage(
                    budget.assertion.name,
                    UNITS[budget.assertion.type],
                    budget.limit,
                    usage_of(budget.value, budget.limit),
                )
                for budget in self._budgets
                if budget.value is not None and budget.limit is not None
            ]

    def _take(self, budget: _Budget, result: Result) -> Violation | None:
        if result.outcome is Outcome.VIOLATED:
            return self._report(budget, result)
        assert result.value is not None
        if budget.calms(result.value, 1):
            self._kept_again.append(budget.assertion.name)
        return None

    def _report(self, budget: _Budget, result: Result) -> Violation:
        violation = result.violation
        assert violation is not None
        budget.calm = 0
        if not budget.is_reported:
            budget.is_reported = True
            self._waiting.append(violation)
        return violation


def _worst(violations: Iterable[Violation | None]) -> Violation | None:
    exceeded = [violation for violation in violations if violation is not None]
    return max(exceeded, key=lambda violation: violation.usage or 0.0, default=None)
