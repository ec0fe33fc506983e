"""Budget watch: a run's spans and the memory of its process, held against the budgets of renacer.toml."""

from __future__ import annotations

import logging
import os
import re
import tracemalloc
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

import psutil
from entrenar_processors.budgets import Violation
from entrenar_processors.expression import Lookup
from entrenar_processors.live_budgets import LiveBudgets, Usage
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from entrenar_otel.errors import guard
from entrenar_otel.names import BUDGET_CHECK, BUDGET_FACTS, PEAK_ALLOCATED, PEAK_RSS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from entrenar_processors.config import Assertion

logger = logging.getLogger("entrenar_otel")


class BudgetSpans(SpanProcessor):
    """Tells every span that ends to the budgets; in a forked child, none."""

    def __init__(self, budgets: LiveBudgets) -> None:
        self._ended = budgets.span_ended
        self._pid = os.getpid()

    def on_end(self, span: ReadableSpan) -> None:
        if self._pid != os.getpid():
            return
        try:
            context, parent = span.get_span_context(), span.parent
            start_ns, end_ns = span.start_time, span.end_time
            if context is None or start_ns is None or end_ns is None:
                return
            self._ended(
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


class ProcessMemory:
    """The memory of this process since now: resident, and what Python allocated where that is asked for.

    Peaks between two readings are known too, from the system's own high-water mark as soon as it
    rises above where it stood at the beginning. tracemalloc makes a program slower (allocations by a
    factor of 2 to 4): it runs only with `allocations`, and is stopped again if it was started here.

    >>> memory = ProcessMemory()
    >>> rss, allocated = memory.read()
    >>> rss > 1_000_000, allocated, memory.peak_rss_bytes >= rss
    (True, None, True)
    """

    def __init__(self, *, allocations: bool = False) -> None:
        self._process = psutil.Process()
        self._first_mark = _high_water_mark()
        self._started = False
        self._traces = allocations
        if allocations and not tracemalloc.is_tracing():
            tracemalloc.start()
            self._started = True
            logger.warning(
                'a budget has tracking_mode = "allocations": tracemalloc runs until the run\'s end, and '
                "slows down what allocates much in Python"
            )
        self._first_allocated_peak = tracemalloc.get_traced_memory()[1] if allocations else 0
        self.peak_rss_bytes = 0
        self.peak_allocated_bytes: int | None = None

    def read(self) -> tuple[int, int | None]:
        """The largest since the last reading: resident bytes, bytes allocated by Python (None: unknown).

        It is what the process holds now, unless its peak has risen meanwhile.
        """
        rss, mark = self._process.memory_info().rss, _high_water_mark()
        if mark > max(self._first_mark, self.peak_rss_bytes):
            rss = max(rss, mark)
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
        return rss, self._allocated()

    def _allocated(self) -> int | None:
        if not self._traces or not tracemalloc.is_tracing():
            return None
        now, peak = tracemalloc.get_traced_memory()
        before = self.peak_allocated_bytes or 0
        if peak > max(self._first_allocated_peak, before) or (self._started and not before):
            now = peak
        self.peak_allocated_bytes = max(before, now)
        return now

    def close(self) -> None:
        """Stop tracemalloc, if it was started here."""
        if self._started:
            self._started = self._traces = False
            tracemalloc.stop()


def _high_water_mark() -> int:
    """The most bytes that were ever resident, of this process; 0 where the system does not say.

    Linux' own mark: that of getrusage is what the process that started this one had.
    """
    try:
        with open("/proc/self/status", "rb") as file:
            found = re.search(rb"^VmHWM:\s+(\d+) kB", file.read(), flags=re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if resource is not None else 0  # in bytes


class BudgetWatch:
    """The budgets of a run that goes on.

    Its `span_processor` belongs into `RunTracing(processors=…)`, `on_tick` into the heartbeat, `close`
    behind the end of the run's spans. In a forked child it does nothing.

    Args:
        assertions: of `entrenar_processors.config`; those switched off are left out.
    """

    def __init__(self, assertions: Iterable[Assertion]) -> None:
        self._budgets = LiveBudgets(assertions)
        self._memory = ProcessMemory(allocations=self._budgets.needs_allocations)
        self._pid = os.getpid()
        self._closed = False
        self._told: dict[Hashable, float] = {}
        self.span_processor: SpanProcessor = BudgetSpans(self._budgets)

    def on_tick(self, lookup: Lookup | None = None) -> None:
        """Read memory, judge the last spans; and, with the run's numbers, what is final in the summary.

        `lookup` is that of `expression.lookup_in(summaries)`. Some 20 µs, and a few milliseconds more
        where there are anti-patterns.
        """
        self._tick(lookup, ended=False)

    def _tick(self, lookup: Lookup | None, *, ended: bool) -> None:
        if self._closed or self._pid != os.getpid():
            return
        with guard("budgets"):
            self._budgets.memory(*self._memory.read())
            if lookup is None:
                self._budgets.check_patterns()
            else:
                self._budgets.check_patterns(lookup)
                self._budgets.check_summary(lookup, ended=ended)

    def new_violations(self) -> list[Violation]:
        """The violations since the last call, each once an episode."""
        return self._budgets.violations()

    def kept_again(self) -> list[str]:
        """The budgets that are kept again since the last call, of those whose violation lasts."""
        return self._budgets.kept_again()

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
        """Events with what only this process knows, by which a gate after the run judges it.

        Peak memory, and what the two checks were told: each as it rises above `growth` times what an
        earlier event said, so that a run that is killed is known too.
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
        told = self._told.get(what)
        if value is None or (told is not None and value <= growth * told):
            return False
        self._told[what] = value
        return True

    def close(self, lookup: Lookup | None = None) -> None:
        """The run has ended: judge it for the last time, and stop measuring. Answers stay."""
        self._tick(lookup, ended=True)
        if not self._closed and self._pid == os.getpid():
            self._closed = True
            with guard("budgets"):
                self._memory.close()
