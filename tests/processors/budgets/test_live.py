"""Budgets while the run goes on: what is told when, how often, and that it agrees with the gate after it."""

from __future__ import annotations

import math
import pickle
import threading
from typing import Any

import pytest
from entrenar_processors.budgets.live import CALM_SPANS, LEAST, NEWS, WINDOW, LiveBudgets
from entrenar_processors.budgets.span_times import Span, SpanTimes
from entrenar_processors.budgets.verdicts import BudgetFacts, evaluate
from entrenar_processors.config.models import parse_config
from hypothesis import given, settings
from hypothesis import strategies as st

MS = 1_000_000


def live_of(*tables: dict[str, Any]) -> LiveBudgets:
    tables = tuple({"name": f"b{i}", **one} for i, one in enumerate(tables))
    return LiveBudgets(parse_config({"assertion": list(tables)}).assertion)


LATENCY = {"type": "critical_path", "max_duration_ms": 100, "trace_name_pattern": "^step$"}
COUNT = {"type": "span_count", "max_spans": 3, "span_name_pattern": "step"}
RSS = {"type": "memory_usage", "max_bytes": 1000}


def test_a_latency_is_reported_once_an_episode() -> None:
    """Again only when it was well below its limit for a while; every direct question gets its answer."""
    live = live_of(LATENCY)
    live.span_ended("other", 9)
    live.span_ended("step", 0.1)
    assert live.violations() == []
    for seconds in (0.2, 0.3, *[0.05] * (CALM_SPANS - 1), 0.4, *[0.05] * (CALM_SPANS - 1), 0.095, 0.05, 0.2):
        live.span_ended("step", seconds)
    assert [one.value for one in live.violations()] == [200.0]
    assert live.violations() == []
    for _ in range(CALM_SPANS):
        live.span_ended("step", 0.05)
    for _ in range(2):
        violation = live.check_latency("step", 0.5)
        assert violation is not None
        assert violation.message == "step took 500 ms, the limit is 100 ms"
    (told,) = live.violations()
    assert (told.value, told.usage, told.where, told.unit) == (500.0, 5.0, "step", "ms")
    assert live.usage() == [("b0", "ms", 100.0, 5.0)]
    assert live.check_latency("step", 0.01) is live.check_latency("x", 9) is None
    assert live.check_latency("step", math.nan) is None


def test_without_a_pattern_every_name_counts_but_run_and_epochs() -> None:
    live = live_of({"type": "critical_path", "max_duration_ms": 100}, LATENCY | {"max_duration_ms": 50})
    live.span_ended("training.run", 10_000)
    live.span_ended("training.epoch", 10_000)
    assert live.violations() == live.usage() == []
    worst = live.check_latency("step", 0.2)
    assert worst is not None
    assert (worst.budget, worst.usage) == ("b1", 4.0)
    assert [one.budget for one in live.violations()] == ["b0", "b1"]


def test_a_count_is_exact_and_told_once() -> None:
    live = live_of(COUNT, {"type": "span_count", "max_spans": 0, "enabled": False})
    for i in range(5):
        live.span_ended("a step", 1)
        live.span_ended("b", 1)
        assert live.usage() == [("b0", "{span}", 3.0, (i + 1) / 3)]
    (told,) = live.violations()
    assert told.message == "4 spans matching 'step', the limit is 3"


def test_memory_is_reported_again_when_it_had_fallen() -> None:
    """Each mode has its own numbers; usage is that of the peak."""
    live = live_of(RSS, RSS | {"tracking_mode": "allocations", "max_bytes": 10})
    assert live.needs_allocations
    assert not live_of(RSS).needs_allocations
    for rss in (900, 1001, 1100, 950, 1002, 899, 1003):
        live.memory(rss, None)
    assert [one.value for one in live.violations()] == [1001, 1003]
    live.memory(None, 11)
    assert [one.budget for one in live.violations()] == ["b1"]
    assert live.usage() == [("b0", "By", 1000.0, 1.1), ("b1", "By", 10.0, 1.1)]


def test_memory_is_said_to_be_kept_again() -> None:
    """Once, well below the limit; of what was not exceeded, and of times, nothing is said."""
    live = live_of(RSS, {"type": "critical_path", "max_duration_ms": 1}, anti("TightLoop"))
    for rss in (800, 1001, 950, 901):
        live.memory(rss, None)
        assert live.kept_again() == []
    for _ in range(2):
        live.memory(899, None)
    live.check_latency("step", 60)
    for _ in range(20):
        live.check_latency("step", 0)
    assert (live.kept_again(), live.kept_again()) == (["b0"], [])


def test_a_limit_of_nothing_is_kept_again_by_nothing() -> None:
    """No share is below a limit of 0, so 0 itself ends the violation."""
    live = live_of(anti("TightLoop", threshold=0))
    at = feed(live, LEAST, "a")
    live.check_patterns()
    assert ([one.value for one in live.violations()], live.kept_again()) == ([1.0], [])
    feed(live, WINDOW, "ab", at)
    live.check_patterns()
    assert (live.violations(), live.kept_again()) == ([], ["b0"])


def test_what_the_checks_were_told_is_kept_for_the_gate() -> None:
    """The largest of each name; of endless names the largest 256 of each kind."""
    live = live_of(RSS)
    for seconds in (0.5, 2.0, 1.0, math.nan):
        live.check_latency("step", seconds)
    live.check_memory("step", 10)
    assert live.checked() == {("s", "step"): 2.0, ("By", "step"): 10}
    for i in range(1000):
        live.check_memory(f"batch {i}", i)
    live.check_memory("step", 5000)
    live.check_memory("small", 1)
    names = {name for unit, name in live.checked() if unit == "By"}
    assert names == {"step", *(f"batch {i}" for i in range(745, 1000))}
    assert live.checked()["By", "step"] == 5000
    assert live.checked()["s", "step"] == 2.0


def test_check_memory_is_by_name_or_by_all() -> None:
    live = live_of(RSS, RSS | {"name": "gpu", "max_bytes": 10})
    gpu = live.check_memory("gpu", 20)
    assert gpu is not None
    assert (gpu.budget, gpu.usage, gpu.where) == ("gpu", 2.0, "gpu")
    assert gpu.message == "gpu was 20 B at its peak, the limit is 10 B"
    other = live.check_memory("weights", 1500)
    assert other is not None
    assert other.budget == "gpu"
    assert live.check_memory("gpu", 5) is live.check_memory("gpu", math.inf) is None
    assert [one.budget for one in live.violations()] == ["gpu", "b0"]


def test_custom_expressions_wait_for_the_end_unless_they_are_final() -> None:
    live = live_of(
        {"type": "custom", "expression": "last(accuracy) > 0.9"},
        {"type": "custom", "expression": "max(loss) < 10"},
    )
    for _ in range(2):
        live.check_summary(lambda function, metric, tags: 50.0 if metric == "loss" else 0.1)
    (told,) = live.violations()
    assert told.message == "max(loss) = 50, expected max(loss) < 10"
    live.check_summary(lambda function, metric, tags: None, ended=True)
    assert live.violations() == []
    live.check_summary(lambda function, metric, tags: 0.5, ended=True)
    assert [one.budget for one in live.violations()] == ["b0"]
    assert live.usage() == []


def anti(pattern: str, threshold: float = 0.5) -> dict[str, Any]:
    return {"type": "anti_pattern", "pattern": pattern, "threshold": threshold}


def feed(live: LiveBudgets, n: int, names: str = "ab", start: int = 0, parent: int = -1) -> int:
    """Spans of 1 ms one after the other; the end of the last."""
    for i in range(start, start + n):
        end = (i + 1) * MS
        live.span_ended(names[i % len(names)], 1e-3, span_id=i, parent_span_id=parent, end_ns=end)
    return start + n


def test_anti_patterns_are_those_of_the_last_spans() -> None:
    """Not of the first few; what is over is forgotten, and rings again when it comes back."""
    live = live_of(anti("GodProcess", 0.6))
    feed(live, LEAST - 1, "a")
    live.check_patterns()
    assert live.violations() == live.usage() == []
    at = feed(live, 1, "a", LEAST - 1)
    live.check_patterns()
    (told,) = live.violations()
    assert told.message == "a takes 100 % of the time by itself, the limit is 60 %"
    at = feed(live, WINDOW, "ab", at)
    live.check_patterns()
    assert live.usage() == [("b0", "1", 0.6, pytest.approx(0.5 / 0.6))]
    feed(live, WINDOW, "b", at)
    live.check_patterns()
    live.check_patterns()
    assert len(live.violations()) == 1


def test_anti_patterns_are_judged_anew_where_enough_is_new_or_at_the_end() -> None:
    live = live_of(anti("GodProcess", 0.6))
    at = feed(live, WINDOW, "ab")
    live.check_patterns()
    before = live.usage()
    at = feed(live, WINDOW // NEWS - 1, "a", at)
    live.check_patterns()
    assert live.usage() == before
    live.check_patterns(ended=True)
    assert live.usage()[0].usage > before[0].usage
    feed(live, WINDOW // NEWS, "b", at)
    live.check_patterns()
    assert live.usage()[0].usage == pytest.approx(before[0].usage, rel=0.01)


def test_a_long_parent_is_not_blamed_for_children_that_the_window_has_forgotten() -> None:
    """Only the time from which on all spans are known counts."""
    live = live_of(anti("GodProcess", 0.3))
    n = feed(live, 3 * WINDOW, "abcd", parent=1_000_000)
    live.span_ended("phase", n * 1e-3, span_id=1_000_000, end_ns=n * MS)
    live.check_patterns()
    assert live.violations() == []
    assert live.usage()[0].usage == pytest.approx(0.25 / 0.3, rel=0.01)


def test_the_other_anti_patterns_live() -> None:
    live = live_of(anti("TightLoop"), anti("PcieBottleneck", 0.4))
    feed(live, 200, "a")
    live.check_patterns(lambda function, metric, tags: {"data_wait": 1.0, "step_duration": 2.0}[metric])
    assert [(one.budget, one.value) for one in live.violations()] == [("b0", 1.0), ("b1", 0.5)]
    quiet = live_of(anti("PcieBottleneck", 0.4), RSS)
    feed(quiet, 200, "a")
    quiet.check_patterns()
    assert quiet.usage() == []


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(["step", "a step", "x"]), st.integers(0, 500)), max_size=60),
    st.integers(0, 60),
)
def test_counts_and_maxima_are_those_of_the_gate(spans: list[tuple[str, int]], cut: int) -> None:
    """However the run is cut into ticks, the usage is that of all spans judged after it."""
    budgets = [
        LATENCY,
        COUNT,
        COUNT | {"span_name_pattern": "."},
        {"type": "critical_path", "max_duration_ms": 9},
    ]
    config = parse_config({"assertion": [{"name": f"b{i}", **one} for i, one in enumerate(budgets)]})
    live = LiveBudgets(config.assertion)
    told = []
    for part in (spans[:cut], spans[cut:]):
        for name, ms in part:
            live.span_ended(name, ms / 1000)
        told += live.violations()
    columns = SpanTimes.of(Span(1, i, None, name, 0, ms * MS) for i, (name, ms) in enumerate(spans))
    results = {one.budget: one for one in evaluate(config.assertion, BudgetFacts(columns))}
    found = {one.budget: one.usage for one in live.usage()}
    wanted = {name: one.usage for name, one in results.items() if one.usage is not None}
    assert found == pytest.approx(wanted)
    assert {one.budget for one in told} == {name for name, one in results.items() if one.violation}


def test_memory_stays_bounded() -> None:
    """A hundred thousand spans of ever new names leave what ten thousand leave."""
    live = live_of(LATENCY, COUNT, anti("GodProcess"), anti("TightLoop"))

    def size() -> int:
        return len(pickle.dumps({name: part for name, part in vars(live).items() if name != "_lock"}))

    sizes = []
    for i in range(100_000):
        live.span_ended(f"span-{i:05}", 1e-4, span_id=i, end_ns=i * MS)
        if i in (9_999, 99_999):
            sizes.append(size())
    assert sizes[1] < 1.05 * sizes[0]


def test_eight_threads_lose_no_span() -> None:
    live = live_of(COUNT | {"max_spans": 10**9}, anti("GodProcess"))
    stop = threading.Event()

    def spans() -> None:
        for i in range(5_000):
            live.span_ended("step", 1e-4, span_id=i, end_ns=i * MS)

    def ticks() -> None:
        while not stop.is_set():
            live.check_patterns()
            live.usage()
            live.violations()

    threads = [threading.Thread(target=spans) for _ in range(8)]
    ticker = threading.Thread(target=ticks)
    for thread in (ticker, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    ticker.join()
    assert live.usage()[0].usage == 40_000 / 10**9
