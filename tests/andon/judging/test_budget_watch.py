"""Budget watch: spans of a run as it makes them, and the memory that this process really takes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from entrenar_processors.config.models import Assertion, parse_config
from entrenar_processors.expression import lookup_in
from entrenar_processors.samples import Block, Samples, Series
from entrenar_processors.stats.summary import Summaries
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from entrenar_otel.andon.judging.budget_watch import BudgetWatch
from entrenar_otel.clock import SYSTEM_CLOCK, Clock, RunClock
from entrenar_otel.errors import failures, set_strict
from entrenar_otel.otel.traces.run_spans import RunSpans
from entrenar_otel.semconv import BUDGET_CHECK, BUDGET_FACTS, PEAK_ALLOCATED, PEAK_RSS
from entrenar_otel.testing import FakeClock

MIB = 1 << 20


def assertions(*tables: dict[str, Any]) -> tuple[Assertion, ...]:
    return parse_config({"assertion": [{"name": f"b{i}", **one} for i, one in enumerate(tables)]}).assertion


SLOW = {"type": "critical_path", "max_duration_ms": 20, "trace_name_pattern": "^step$"}
COUNT = {"type": "span_count", "max_spans": 1_000, "span_name_pattern": "^step$"}


def tracing_of(*processors: SpanProcessor, clock: Clock = SYSTEM_CLOCK) -> RunSpans:
    return RunSpans(
        lambda kind, document: True,
        Resource({}),
        lambda: (None, None, None),
        environ={},
        set_global=False,
        processors=processors,
        clock=RunClock(clock),
    )


@pytest.fixture
def big() -> Iterator[list[Any]]:
    """Where a test puts what takes memory."""
    held: list[Any] = []
    yield held
    held.clear()


def test_spans_of_a_run_are_judged_as_they_end() -> None:
    """The run's own and those within it, on any thread; what is violated is told once."""
    watch = BudgetWatch(assertions(SLOW, COUNT))
    clock = FakeClock()
    tracing = tracing_of(watch.span_processor, clock=clock)
    tracing.start()

    def steps() -> None:
        for _ in range(50):
            with tracing.span("step"):
                pass

    threads = [threading.Thread(target=steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert watch.new_violations() == []
    with tracing.span("step"):
        clock.advance(0.03)
    (told,) = watch.new_violations()
    assert (told.budget, told.where, told.fail_on_violation) == ("b0", "step", True)
    assert told.value == pytest.approx(30)
    tracing.end("completed")
    usage = {one.budget: one for one in watch.usage()}
    assert usage["b1"].usage == 201 / 1000
    assert usage["b0"].usage == told.usage
    watch.close()


def test_a_processor_that_fails_stops_nothing() -> None:
    """It is counted; the span and the others after it are not touched."""

    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise OSError("no")

    watch = BudgetWatch(assertions(COUNT))
    tracing = tracing_of(Broken(), watch.span_processor)
    before, was = failures["span processor"], set_strict(False)
    try:
        tracing.start()
        with tracing.span("step"):
            pass
        tracing.end("completed")
    finally:
        set_strict(was)
    assert failures["span processor"] == before + 3
    assert watch.usage()[0].usage == 1 / 1000
    watch.close()


USERS = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from entrenar_otel.otel.traces.run_spans import RunSpans
if {foreign}:
    trace.set_tracer_provider(TracerProvider())
class Names(list, SpanProcessor):
    def on_end(self, span):
        self.append(span.name)
def run():
    names = Names()
    at = lambda: (None, None, None)
    tracing = RunSpans(lambda kind, document: True, Resource({{}}), at, environ={{}}, processors=[names])
    tracing.start()
    return tracing, names
user = lambda name: trace.get_tracer("user").start_span(name).end()
first, one = run()
user("a")
with first.span("ours"):
    user("b")
second, two = run()
user("c")
second.end("completed")
user("d")
first.end("completed")
user("e")
assert one == ["training.run.started", "a", "b", "ours", "d", "training.run"], one
assert two == ["training.run.started", "c", "training.run"], two
"""


@pytest.mark.parametrize("foreign", [False, True])
def test_users_spans_are_seen_once_whoever_set_the_provider(foreign: bool) -> None:
    program = USERS.format(foreign=foreign)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_budgets_ring_and_are_remembered(big: list[Any]) -> None:
    now = psutil.Process().memory_info().rss
    watch = BudgetWatch(assertions({"type": "memory_usage", "max_bytes": now + 40 * MIB}))
    watch.on_tick()
    assert watch.new_violations() == []
    big.append(np.ones(100 * MIB // 8))
    watch.on_tick()
    watch.on_tick()
    (told,) = watch.new_violations()
    assert told.unit == "By"
    assert told.value is not None
    assert told.value > now + 80 * MIB
    assert watch.usage()[0].usage > 1
    watch.close()
    watch.on_tick()
    facts = dict(watch.new_facts())[BUDGET_FACTS]
    assert facts.keys() == {PEAK_RSS}
    assert facts[PEAK_RSS] >= told.value
    assert watch.new_facts() == []  # told
    watch.check_memory("weights", 1000)
    assert watch.new_facts() == [(BUDGET_CHECK, {"name": "weights", "unit": "By", "value": 1000})]
    watch.check_memory("weights", 1049)
    assert watch.new_facts(growth=1.05) == []
    watch.check_memory("weights", 1051)
    assert [attributes["value"] for _, attributes in watch.new_facts(growth=1.05)] == [1051]
    watch.check_latency("nothing", 0.0)
    assert watch.new_facts() == [(BUDGET_CHECK, {"name": "nothing", "unit": "s", "value": 0.0})]


def test_tracemalloc_runs_only_for_allocations_and_says_so(
    big: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Started with the watch, stopped with it; a peak between two ticks is known."""
    BudgetWatch(assertions({"type": "memory_usage", "max_bytes": 1})).close()
    assert not tracemalloc.is_tracing()
    assert caplog.text == ""
    budget = {"type": "memory_usage", "max_bytes": 20 * MIB, "tracking_mode": "allocations"}
    with caplog.at_level(logging.WARNING):
        watch = BudgetWatch(assertions(budget))
    assert tracemalloc.is_tracing()
    assert "tracemalloc runs until the run ends, and slows down" in caplog.text
    watch.on_tick()
    assert watch.new_violations() == []
    bytearray(30 * MIB)
    watch.on_tick()
    (told,) = watch.new_violations()
    assert told.message.startswith("memory allocated by Python was 30.")
    watch.on_tick()
    bytearray(31 * MIB)
    watch.on_tick()
    assert len(watch.new_violations()) == 1
    watch.close()
    assert not tracemalloc.is_tracing()
    assert dict(watch.new_facts())[BUDGET_FACTS][PEAK_ALLOCATED] >= 31 * MIB


def test_a_tracemalloc_of_the_user_s_own_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Its earlier peak is not the run's."""
    tracemalloc.start()
    try:
        bytearray(30 * MIB)
        watch = BudgetWatch(
            assertions({"type": "memory_usage", "max_bytes": 20 * MIB, "tracking_mode": "allocations"})
        )
        watch.on_tick()
        assert watch.new_violations() == []
        watch.close()
        assert tracemalloc.is_tracing()
        assert caplog.text == ""
    finally:
        tracemalloc.stop()


def test_the_summary_is_judged_at_the_end() -> None:
    summaries, zeros = Summaries(), np.zeros(1, np.int32)
    at = np.zeros(1, np.int64)
    summaries.update(Samples([Block((Series("accuracy"),), at, zeros, zeros, at, at, np.array([[0.5]]))]))
    watch = BudgetWatch(assertions({"type": "custom", "expression": "last(accuracy) > 0.9"}))
    watch.on_tick(lookup_in(summaries))
    assert watch.new_violations() == []
    watch.close(lookup_in(summaries))
    (told,) = watch.new_violations()
    assert told.message == "last(accuracy) = 0.5, expected last(accuracy) > 0.9"
    watch.close(lookup_in(summaries))
    assert watch.new_violations() == []


def test_direct_questions() -> None:
    watch = BudgetWatch(assertions(SLOW, {"type": "memory_usage", "max_bytes": 1000}))
    assert watch.check_latency("step", 0.01) is watch.check_memory("batch", 10) is None
    slow, large = watch.check_latency("step", 1.0), watch.check_memory("batch", 2000)
    assert slow is not None
    assert large is not None
    assert [slow, large] == watch.new_violations()
    watch.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_not_the_run() -> None:
    watch = BudgetWatch(assertions(SLOW, {"type": "memory_usage", "max_bytes": 1}))
    child = os.fork()
    if child == 0:
        watch.on_tick()
        watch.span_processor.on_end(ReadableSpan("step"))
        os._exit(len(watch.new_violations()))
    assert os.waitpid(child, 0)[1] == 0
    watch.on_tick()
    assert len(watch.new_violations()) == 1
    watch.close()
