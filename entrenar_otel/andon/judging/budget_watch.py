"""Budget watch: a run's spans and the memory of its process, held against the budgets of renacer.toml."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors.budgets.live import LiveBudgets, Usage
from entrenar_processors.budgets.verdicts import Violation
from entrenar_processors.expression import Lookup
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from entrenar_otel.andon.judging.process_memory import ProcessMemory
from entrenar_otel.errors import guard
from entrenar_otel.semconv import BUDGET_CHECK, BUDGET_FACTS, PEAK_ALLOCATED, PEAK_RSS

if TYPE_CHECKING:
    from entrenar_processors.config.models import Assertion


class BudgetSpans(SpanProcessor):
    """Judges every span that ends by the budgets; in a forked child, none."""

    def __init__(self, budgets: LiveBudgets) -> None:
        self._on_span_end = budgets.span_ended
        self._pid = os.getpid()

    def on_end(self, span: ReadableSpan) -> None:
        if self._pid != os.getpid():
            return
        try:
            context, parent = span.get_span_context(), span.parent
            start_ns, end_ns = span.start_time, span.end_time
            if context is None or start_ns is None or end_ns is None:
                return
            self._on_span_end(
                span.name,
                (end_ns - start_ns) / 1e9,
                trace_id=context.trace_id,
                span_id=context.span_id,
                parent_span_id=None if parent is None else parent.span_id,
                end_ns=end_ns,
            )
        except Exception:
            with guard("budgets"):  # entered for failures only: it costs a microsecond
                raise

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True  # nothing waits here


class BudgetWatch:
    """The budgets of a run in progress. In a forked child it does nothing.

    Its `span_processor` belongs into `RunSpans(processors=…)`, `on_tick` into the heartbeat, `close`
    behind the end of the run's spans.

    Args:
        assertions: of `entrenar_processors.config.models`; those switched off are left out.
    """

    def __init__(self, assertions: Iterable[Assertion]) -> None:
        self._budgets = LiveBudgets(assertions)
        self._memory = ProcessMemory(allocations=self._budgets.needs_allocations)
        self._pid = os.getpid()
        self._is_closed = False
        self._recorded: dict[Hashable, float] = {}
        self.span_processor: SpanProcessor = BudgetSpans(self._budgets)

    def on_tick(self, lookup: Lookup | None = None) -> None:
        """Read memory and judge the last spans; with `lookup` also what is final in the run's summaries.

        `lookup` is that of `expression.lookup_in(summaries)`. It takes some 20 µs, and a few milliseconds
        more where there are anti-patterns.
        """
        self._tick(lookup, ended=False)

    def _tick(self, lookup: Lookup | None, *, ended: bool) -> None:
        if self._is_closed or self._pid != os.getpid():
            return
        with guard("budgets"):
            self._budgets.memory(*self._memory.read())
            if lookup is None:
                self._budgets.check_patterns(ended=ended)
            else:
                self._budgets.check_patterns(lookup, ended=ended)
                self._budgets.check_summary(lookup, ended=ended)

    def findings(self, at: Coordinates) -> list[Finding]:
        """What has changed since the last call: budgets exceeded, each once per episode, or kept again."""
        exceeded = [_exceeded(violation, at) for violation in self.new_violations()]
        return exceeded + [_kept_again(budget, at) for budget in self._budgets.kept_again()]

    def new_violations(self) -> list[Violation]:
        """The violations since the last call, each once per episode."""
        return self._budgets.violations()

    def usage(self) -> list[Usage]:
        """For `training.budget.usage` and `training.budget.limit`: name, unit, limit, value over limit."""
        return self._budgets.usage()

    def check_latency(self, name: str, seconds: float) -> Violation | None:
        """Judge a latency that has no span, see LiveBudgets."""
        return self._budgets.check_latency(name, seconds)

    def check_memory(self, name: str, bytes_: float) -> Violation | None:
        """Judge the size of something, see LiveBudgets."""
        return self._budgets.check_memory(name, bytes_)

    def new_facts(self, growth: float = 1.0) -> list[tuple[str, dict[str, Any]]]:
        """Events with what only this process knows, so that a gate after the run can judge it.

        Peak memory, and what the two checks were given: each as it rises above `growth` times the value of
        an earlier event, so that the gate knows of a run that was killed too.
        """
        peaks = {
            PEAK_RSS: self._memory.peak_rss_bytes or None,
            PEAK_ALLOCATED: self._memory.peak_allocated_bytes,
        }
        rising = {name: peak for name, peak in peaks.items() if self._rises(name, peak, growth)}
        events: list[tuple[str, dict[str, Any]]] = [(BUDGET_FACTS, rising)] if rising else []
        for (unit, name), value in self._budgets.checked().items():
            if self._rises((unit, name), value, growth):
                events.append((BUDGET_CHECK, {"name": name, "unit": unit, "value": value}))
        return events

    def _rises(self, what: Hashable, value: float | None, growth: float) -> bool:
        recorded = self._recorded.get(what)
        if value is None or (recorded is not None and value <= growth * recorded):
            return False
        self._recorded[what] = value
        return True

    def close(self, lookup: Lookup | None = None) -> None:
        """The run has ended: judge it for the last time, and stop measuring. What was measured stays."""
        self._tick(lookup, ended=True)
        if not self._is_closed and self._pid == os.getpid():
            self._is_closed = True
            with guard("budgets"):
                self._memory.close()


def _exceeded(violation: Violation, at: Coordinates) -> Finding:
    return Finding(
        f"budget.{violation.budget}",
        Series.of("budget", {"budget": violation.budget}),
        Severity.HIGH,
        at,
        math.nan if violation.value is None else violation.value,
        math.nan if violation.limit is None else violation.limit,
        1.0 if violation.usage is None else violation.usage,
        text=violation.message,
    )


def _kept_again(budget: str, at: Coordinates) -> Finding:
    """A budget that was exceeded is kept again."""
    series = Series.of("budget", {"budget": budget})
    nan = math.nan
    return Finding(f"budget.{budget}", series, Severity.LOW, at, nan, nan, 0.0, resolved=True, count=0)
