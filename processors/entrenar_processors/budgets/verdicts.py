"""Budgets: the assertions of a renacer.toml, judged on what was measured of a run.

    critical_path   the longest span whose name matches, and where its time went; or the longest time that
                    was given to `check_latency`. Without a pattern every span counts except run and epochs,
                    which last as long as the training
    span_count      how many spans match
    memory_usage    peak memory of the process: resident, or allocated by Python; or the largest size that
                    was given to `check_memory` under the budget's name, or under a name of no budget
    anti_pattern    GodProcess, TightLoop, PcieBottleneck: a share of the time, see `span_times`
    custom          comparisons over the summary, see `expression`

A budget is violated above its limit, not at it. One that was not measured is neither passed nor violated.
`budgets.live` judges the same while the run goes on.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from entrenar_processors.budgets.span_times import BOOKKEEPING, Share, SpanTimes
from entrenar_processors.counts import counted
from entrenar_processors.durations import text_of
from entrenar_processors.expression import Lookup, Verdict, parse

if TYPE_CHECKING:
    from entrenar_processors.config.models import AntiPattern, Assertion

#: Units as UCUM and OpenTelemetry write them.
UNITS = {
    "critical_path": "ms",
    "span_count": "{span}",
    "memory_usage": "By",
    "anti_pattern": "1",
    "custom": "1",
}


#: Why nothing can be said of where the time went.
NOTHING_DONE = "no span of a step, or of the program's own, was recorded"


class Outcome(StrEnum):
    """What became of a budget."""

    PASSED = "passed"
    VIOLATED = "violated"
    NOT_MEASURED = "not measured"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Violation:
    """A budget that was exceeded. `usage` is the value over the limit, where both are numbers.

    `where` names the span that exceeded it, with its id where that is known.
    """

    budget: str
    type: str
    message: str
    value: float | None
    limit: float | None
    unit: str
    usage: float | None
    fail_on_violation: bool
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one assertion; `value` and `limit` are in `unit`, and None for custom ones."""

    budget: str
    type: str
    outcome: Outcome
    message: str
    value: float | None = None
    limit: float | None = None
    fail_on_violation: bool = True
    where: str | None = None

    @property
    def unit(self) -> str:
        return UNITS[self.type]

    @property
    def usage(self) -> float | None:
        """The value over the limit: above 1 the budget is violated."""
        if self.value is None or self.limit is None:
            return None
        return usage_of(self.value, self.limit)

    @property
    def violation(self) -> Violation | None:
        if self.outcome is not Outcome.VIOLATED:
            return None
        return Violation(
            self.budget,
            self.type,
            self.message,
            self.value,
            self.limit,
            self.unit,
            self.usage,
            self.fail_on_violation,
            self.where,
        )


@dataclass(frozen=True)
class BudgetFacts:
    """What is known of a run; None where it was not measured.

    `seconds` and `bytes` are the largest values given to `check_latency` and `check_memory`, by name.
    """

    spans: SpanTimes | None = None
    peak_rss_bytes: float | None = None
    peak_allocated_bytes: float | None = None
    lookup: Lookup = lambda function, metric, tags: None
    seconds: Mapping[str, float] = field(default_factory=dict)
    bytes: Mapping[str, float] = field(default_factory=dict)

    def peak_bytes(self, tracking_mode: str) -> float | None:
        return self.peak_rss_bytes if tracking_mode == "rss" else self.peak_allocated_bytes


def evaluate(assertions: Iterable[Assertion], facts: BudgetFacts) -> list[Result]:
    """Judge every assertion, in the order given.

    >>> from entrenar_processors.config.models import parse_config
    >>> settings = parse_config({"assertion": [{"name": "ram", "type": "memory_usage", "max_bytes": 1000}]})
    >>> [result] = evaluate(settings.assertion, BudgetFacts(peak_rss_bytes=1500))
    >>> str(result.outcome), result.usage, result.message
    ('violated', 1.5, 'resident memory was 1,500 B at its peak, the limit is 1,000 B')
    """
    budgets = list(assertions)
    owned = {budget.name for budget in budgets if budget.type == "memory_usage" and budget.enabled}
    results = []
    for budget in budgets:
        if not budget.enabled:
            results.append(off(budget))
            continue
        sizes = {name: size for name, size in facts.bytes.items() if name == budget.name or name not in owned}
        results.append(_JUDGES[budget.type](budget, replace(facts, bytes=sizes)))
    return results


def usage_of(value: float, limit: float) -> float:
    """The value over the limit; infinite where the limit is 0 and the value is not."""
    return value / limit if limit else math.inf if value > 0 else 0.0


def judged(
    assertion: Assertion, value: float, limit: float, message: str, where: str | None = None
) -> Result:
    """Violated above the limit, passed at it."""
    outcome = Outcome.VIOLATED if value > limit else Outcome.PASSED
    return Result(
        assertion.name, assertion.type, outcome, message, value, limit, assertion.fail_on_violation, where
    )


def limit_of(assertion: Assertion) -> float | None:
    """The number that must not be exceeded, in its unit of UNITS; None for custom ones."""
    for name in ("max_duration_ms", "max_spans", "max_bytes", "threshold"):
        if hasattr(assertion, name):
            return float(getattr(assertion, name))
    return None


def not_measured(assertion: Assertion, why: str) -> Result:
    """Neither passed nor violated, and why."""
    return Result(
        assertion.name,
        assertion.type,
        Outcome.NOT_MEASURED,
        why,
        limit=limit_of(assertion),
        fail_on_violation=assertion.fail_on_violation,
    )


def off(assertion: Assertion) -> Result:
    """The result of an assertion that is switched off in the file."""
    return Result(
        assertion.name,
        assertion.type,
        Outcome.OFF,
        "enabled = false",
        limit=limit_of(assertion),
        fail_on_violation=assertion.fail_on_violation,
    )


# -- the types of budgets ------------------------------------------------------------------------------


def _critical_path(assertion: Any, facts: BudgetFacts) -> Result:
    spans, pattern, limit = facts.spans, assertion.trace_name_pattern, assertion.max_duration_ms
    index = None if spans is None else spans.longest(pattern)
    span_ms = None if spans is None or index is None else float(spans.duration_ns[index]) / 1e6
    checked_ms = {
        name: seconds * 1000 for name, seconds in facts.seconds.items() if is_about_latency(pattern, name)
    }
    if (longest := _largest(checked_ms, above=span_ms)) is not None:
        name, value = longest
        return judged(assertion, value, limit, latency_message(name, value, limit), name)
    if spans is None or index is None or span_ms is None:
        return not_measured(assertion, no_span(pattern, NOTHING_DONE))
    name, value = spans.name_of(index), span_ms
    message = latency_message(name, value, limit)
    parts = Counter[str]()
    for part, ns in spans.critical_path(index):
        parts[part] += ns
    if set(parts) - {name}:
        message += ": " + _made_of(parts, name)
    where = f"{name} ({spans.ids[index]})" if len(spans.ids) else name
    return judged(assertion, value, limit, message, where)


def _largest(values: Mapping[str, float], *, above: float | None) -> tuple[str, float] | None:
    """The largest value and its name, where it is above what was measured (None: nothing was)."""
    name, value = max(values.items(), key=lambda item: item[1], default=("", None))
    return None if value is None or (above is not None and value <= above) else (name, value)


def is_about_latency(pattern: str | re.Pattern[str] | None, name: str) -> bool:
    """Whether a latency of this name is judged by a budget with this pattern."""
    return name not in BOOKKEEPING if pattern is None else re.search(pattern, name) is not None


def _made_of(parts: Counter[str], name: str) -> str:
    """`backward 1.2 s, forward 0.7 s, itself 0.1 s`: the three largest parts, and the rest."""
    largest = [
        f"{'itself' if part == name else part} {text_of(ns / 1e9)}" for part, ns in parts.most_common(3)
    ]
    rest = sum(parts.values()) - sum(ns for _, ns in parts.most_common(3))
    return ", ".join(largest) + (f", others {text_of(rest / 1e9)}" if rest else "")


def _span_count(assertion: Any, facts: BudgetFacts) -> Result:
    spans, pattern = facts.spans, assertion.span_name_pattern
    if spans is None:
        return not_measured(assertion, no_span(None))
    count = int(np.count_nonzero(spans.matching(pattern)))
    message = count_message(count, assertion.max_spans, pattern) if count else no_span(pattern)
    return judged(assertion, count, assertion.max_spans, message)


def _memory_usage(assertion: Any, facts: BudgetFacts) -> Result:
    peak = facts.peak_bytes(assertion.tracking_mode)
    if (largest := _largest(facts.bytes, above=peak)) is not None:
        name, size = largest
        return judged(assertion, size, assertion.max_bytes, memory_message(assertion, size, name), name)
    if peak is None:
        return not_measured(assertion, f"{_MEMORY[assertion.tracking_mode]} was not recorded")
    return judged(assertion, peak, assertion.max_bytes, memory_message(assertion, peak))


def _anti_pattern(assertion: Any, facts: BudgetFacts) -> Result:
    share = share_of(assertion, facts.spans, facts.lookup)
    if isinstance(share, str):
        return not_measured(assertion, share)
    return judged_share(assertion, share)


def judged_share(assertion: AntiPattern, share: Share) -> Result:
    """The verdict on an anti-pattern."""
    if share.name is None:
        message = f"no sign of {assertion.pattern}"
    else:
        message = _SHARES[assertion.pattern].format(share=_percent(share.value), name=share.name)
    message += f", the limit is {_percent(assertion.threshold)}"
    return judged(assertion, share.value, assertion.threshold, message, share.name)


def share_of(assertion: AntiPattern, spans: SpanTimes | None, lookup: Lookup) -> Share | str:
    """The share of the time that an anti-pattern takes, or why it is not known.

    Most training loops have no spans of transfers: then it is the share of the metric `data_wait` in
    `step_duration`, which contains it.
    """
    pattern = assertion.process_name_pattern
    if assertion.pattern == "PcieBottleneck":
        share = spans.transfers(pattern) if spans is not None and len(spans) else None
        if share is not None:
            return share
        waited, stepped = (lookup("sum", name, {}) for name in ("data_wait", "step_duration"))
        if pattern is not None or waited is None or stepped is None or stepped <= 0:
            return f"{no_span(pattern, 'no transfer span was recorded')}, nor data_wait and step_duration"
        return Share(min(1.0, waited / stepped), "data_wait")
    if spans is None or not (spans.matching(pattern) & ~spans.named(BOOKKEEPING)).any():
        return no_span(pattern, NOTHING_DONE)
    return spans.god_process(pattern) if assertion.pattern == "GodProcess" else spans.tight_loop(pattern)


def _custom(assertion: Any, facts: BudgetFacts) -> Result:
    return judged_expression(assertion, parse(assertion.expression).evaluate(facts.lookup))


def judged_expression(assertion: Any, verdict: Verdict) -> Result:
    """The verdict on a custom budget."""
    if verdict.holds is None:
        return not_measured(assertion, str(verdict))
    outcome = Outcome.PASSED if verdict.holds else Outcome.VIOLATED
    message = str(verdict)
    if not verdict.holds:
        message += f", expected {' '.join(assertion.expression.split())}"
    return Result(
        assertion.name, assertion.type, outcome, message, fail_on_violation=assertion.fail_on_violation
    )


_JUDGES = {
    "critical_path": _critical_path,
    "span_count": _span_count,
    "memory_usage": _memory_usage,
    "anti_pattern": _anti_pattern,
    "custom": _custom,
}
_SHARES = {
    "GodProcess": "{name} takes {share} of the time by itself",
    "TightLoop": "{share} of the time is spent in {name}, a short span repeated back to back",
    "PcieBottleneck": "{share} of the step time is spent moving data or waiting for it, mostly in {name}",
}
_MEMORY = {"rss": "resident memory", "allocations": "memory allocated by Python"}


# -- messages ------------------------------------------------------------------------------------------


def no_span(pattern: str | None, otherwise: str = "no span was recorded") -> str:
    """Why a budget has nothing to judge."""
    return otherwise if pattern is None else f"no span matched {pattern!r}"


def latency_message(name: str, value_ms: float, limit_ms: float) -> str:
    """`step took 2.31 s, the limit is 2 s`."""
    return f"{name} took {_duration(value_ms)}, the limit is {_duration(limit_ms)}"


def count_message(count: int, limit: int, pattern: str | None) -> str:
    """`12 spans matching 'step', the limit is 10`."""
    which = "" if pattern is None else f" matching {pattern!r}"
    return f"{counted(count, 'span')}{which}, the limit is {limit:,}"


def memory_message(assertion: Any, peak: float, what: str | None = None) -> str:
    """`resident memory was 3.00 GiB at its peak, the limit is 2.00 GiB`; `what` names another size."""
    what = _MEMORY[assertion.tracking_mode] if what is None else what
    return f"{what} was {_bytes(peak)} at its peak, the limit is {_bytes(assertion.max_bytes)}"


def shown(type_: str, value: float | None) -> str:
    """The value or limit of a budget of this type, to three digits and with its unit.

    >>> shown("critical_path", 2310.0), shown("span_count", 8120), shown("anti_pattern", 0.125)
    ('2.31 s', '8,120', '12.5 %')
    """
    if value is None:
        return "–"
    forms = {"critical_path": _duration, "memory_usage": _bytes, "anti_pattern": _percent}
    return forms.get(type_, "{:,.0f}".format)(value)


def _duration(milliseconds: float) -> str:
    return text_of(milliseconds / 1000)


def _bytes(value: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= 10 * size or (value >= size and unit == "GiB"):
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f} B"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
