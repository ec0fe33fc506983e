"""Budgets after the fact, on trees whose times are known by hand or by counting nanosecond by nanosecond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors.budgets.span_times import Span, SpanTimes
from entrenar_processors.budgets.verdicts import BudgetFacts, Outcome, Result, evaluate, shown
from entrenar_processors.config.models import Assertion, parse_config
from hypothesis import given, settings
from hypothesis import strategies as st

MS = 1_000_000


def assertions(*tables: dict[str, Any]) -> tuple[Assertion, ...]:
    return parse_config({"assertion": [{"name": f"b{i}", **one} for i, one in enumerate(tables)]}).assertion


def tree(*rows: tuple[int, int | None, str, float, float]) -> SpanTimes:
    """Span id, parent's id, name, start and end in ms."""
    return SpanTimes.of(
        Span(1, span, parent, name, int(start * MS), int(end * MS)) for span, parent, name, start, end in rows
    )


def judge(facts: BudgetFacts, **table: Any) -> Result:
    (result,) = evaluate(assertions(table), facts)
    return result


TRAINING = tree(
    (1, None, "training.run", 0, 1000),
    (2, 1, "training.epoch", 10, 990),
    (3, 2, "training_iteration", 20, 420),
    (4, 3, "forward", 30, 130),
    (5, 3, "backward", 130, 400),
    (6, 5, "matmul", 150, 350),
    (7, 2, "training_iteration", 420, 520),
    (8, 2, "data_wait", 520, 620),
)


def test_self_times_and_the_critical_path_by_hand() -> None:
    """Every millisecond is somebody's; the path goes backwards from the end."""
    by_span = dict(zip(TRAINING.ids, (TRAINING.self_ns // MS).tolist(), strict=True))
    assert by_span == {1: 20, 2: 380, 3: 30, 4: 100, 5: 70, 6: 200, 7: 100, 8: 100}
    assert [(name, ns // MS) for name, ns in TRAINING.critical_path(2)] == [
        *[("training_iteration", 20), ("backward", 50), ("matmul", 200), ("backward", 20)],
        *[("forward", 100), ("training_iteration", 10)],
    ]
    overlapping = tree((1, None, "a", 0, 10), (2, 1, "b", 1, 6), (3, 1, "c", 4, 12), (4, 1, "d", 5, 6))
    assert (overlapping.self_ns // MS).tolist() == [1, 5, 8, 1]
    assert [(name, ns // MS) for name, ns in overlapping.critical_path(0)] == [("c", 6), ("b", 3), ("a", 1)]
    circle = tree((1, 2, "a", 0, 10), (2, 1, "b", 0, 10), (3, 3, "c", 0, 5))
    assert sum(ns for _, ns in circle.critical_path(0)) == 10 * MS
    assert circle.beneath(np.array([True, False, False])).tolist() == [True, True, False]


def test_critical_path() -> None:
    """The longest matching span, what it is made of, and which one it is; run and epochs only by name."""
    result = judge(
        BudgetFacts(TRAINING), type="critical_path", max_duration_ms=200, trace_name_pattern="^training_"
    )
    assert (result.outcome, result.value, result.usage) == (Outcome.VIOLATED, 400.0, 2.0)
    assert result.message == (
        "training_iteration took 400 ms, the limit is 200 ms: "
        "matmul 200 ms, forward 100 ms, backward 70 ms, others 30 ms"
    )
    assert result.where == "training_iteration (3)"
    violation = result.violation
    assert violation is not None
    assert (violation.usage, violation.unit, violation.fail_on_violation) == (2.0, "ms", True)
    assert judge(BudgetFacts(TRAINING), type="critical_path", max_duration_ms=400).outcome is Outcome.PASSED
    one_epoch = judge(
        BudgetFacts(TRAINING), type="critical_path", max_duration_ms=400, trace_name_pattern="training.epoch"
    )
    assert one_epoch.value == 980.0
    nothing = judge(
        BudgetFacts(TRAINING), type="critical_path", max_duration_ms=1, trace_name_pattern="validate"
    )
    assert (nothing.outcome, nothing.message) == (Outcome.NOT_MEASURED, "no span matched 'validate'")
    assert nothing.violation is None
    for facts in (BudgetFacts(), BudgetFacts(tree()), BudgetFacts(tree((1, None, "training.run", 0, 1)))):
        assert (
            judge(facts, type="critical_path", max_duration_ms=1).message
            == "no span of a step, or of the program's own, was recorded"
        )


def test_span_count() -> None:
    """At the limit it passes, above it does not; none at all passes and says so."""
    limits = {9: Outcome.PASSED, 8: Outcome.PASSED, 7: Outcome.VIOLATED, 0: Outcome.VIOLATED}
    for limit, outcome in limits.items():
        result = judge(BudgetFacts(TRAINING), type="span_count", max_spans=limit)
        assert (result.outcome, result.value) == (outcome, 8)
        assert result.message == f"8 spans, the limit is {limit}"
    assert result.usage == float("inf")
    none = judge(BudgetFacts(TRAINING), type="span_count", max_spans=0, span_name_pattern="x$")
    assert (none.outcome, none.usage, none.message) == (Outcome.PASSED, 0.0, "no span matched 'x$'")
    one = judge(BudgetFacts(TRAINING), type="span_count", max_spans=0, span_name_pattern="^forw")
    assert one.message == "1 span matching '^forw', the limit is 0"
    assert judge(BudgetFacts(), type="span_count", max_spans=0).outcome is Outcome.NOT_MEASURED


def test_memory_usage() -> None:
    facts = BudgetFacts(peak_rss_bytes=3 << 30)
    rss = judge(facts, type="memory_usage", max_bytes=2 << 30, fail_on_violation=False)
    assert (rss.outcome, rss.usage, rss.fail_on_violation) == (Outcome.VIOLATED, 1.5, False)
    assert rss.message == "resident memory was 3.00 GiB at its peak, the limit is 2.00 GiB"
    allocated = judge(facts, type="memory_usage", max_bytes=10, tracking_mode="allocations")
    assert (allocated.outcome, allocated.limit) == (Outcome.NOT_MEASURED, 10)
    assert allocated.message == "memory allocated by Python was not recorded"
    fine = judge(
        BudgetFacts(peak_allocated_bytes=9), type="memory_usage", max_bytes=10, tracking_mode="allocations"
    )
    assert (fine.outcome, fine.unit) == (Outcome.PASSED, "By")


def test_what_the_loop_told_itself() -> None:
    """The longest of spans and told times, the largest of the process and told sizes."""
    path = {"type": "critical_path", "max_duration_ms": 1000}
    facts = BudgetFacts(TRAINING, seconds={"forward": 0.5, "optimizer": 2.0, "training.epoch": 90.0})
    longest = judge(facts, **path)  # an epoch is no step, unless it is asked for
    assert (longest.value, longest.where) == (2000, "optimizer")
    assert longest.message == "optimizer took 2 s, the limit is 1 s"
    assert judge(facts, **path, trace_name_pattern="epoch$").value == 90_000
    assert judge(facts, **path, trace_name_pattern="^forward$").value == 500
    assert (
        judge(BudgetFacts(TRAINING, seconds={"forward": 1e-6}), **path, trace_name_pattern="^forw").value
        == 100
    )
    only = judge(BudgetFacts(seconds={"step": 0.0}), **path)
    assert (only.outcome, only.value) == (Outcome.PASSED, 0.0)
    memory = {"type": "memory_usage", "max_bytes": 1000}
    sizes = {"weights": 1500.0, "gpu": 9000.0}
    assert judge(BudgetFacts(peak_rss_bytes=2000, bytes={"weights": 1500}), **memory).value == 2000
    told = judge(BudgetFacts(peak_rss_bytes=1200, bytes={"weights": 1500}), **memory)
    assert (told.value, told.where) == (1500, "weights")
    assert told.message == "weights was 1,500 B at its peak, the limit is 1,000 B"
    config = parse_config({"assertion": [memory | {"name": "ram"}, memory | {"name": "gpu"}]})
    ram, gpu = evaluate(config.assertion, BudgetFacts(bytes=sizes))
    assert (ram.value, gpu.value) == (1500, 9000)  # a size with the name of a budget is that one's only


def test_what_is_said() -> None:
    """Each part in its unit, itself and others; sizes at a glance; which budget it was."""
    parts = tree(
        (1, None, "step", 0, 1000),
        *((i + 2, 1, name, i * 200, i * 200 + 150 - i) for i, name in enumerate("abcde")),
    )
    result = judge(BudgetFacts(parts), type="critical_path", max_duration_ms=1, name="slow")
    assert result.message == (
        "step took 1 s, the limit is 1 ms: itself 260 ms, a 150 ms, b 149 ms, others 441 ms"
    )
    assert [shown("memory_usage", size) for size in (0, 10_239, 10_240, 10 << 20, 1 << 30)] == [
        "0 B", "10,239 B", "10.00 KiB", "10.00 MiB", "1.00 GiB",
    ]  # fmt: skip
    assert shown("memory_usage", (10 << 20) - 1) == "10,240.00 KiB"
    allocated = {"type": "memory_usage", "max_bytes": 10, "tracking_mode": "allocations"}
    assert judge(BudgetFacts(peak_allocated_bytes=11), **allocated).message == (
        "memory allocated by Python was 11 B at its peak, the limit is 10 B"
    )
    for off in (judge(BudgetFacts(), **allocated), judge(BudgetFacts(), **allocated, enabled=False)):
        assert (off.budget, off.value, off.limit, off.usage) == ("b0", None, 10, None)
    assert off.message == "enabled = false"


def share(spans: SpanTimes, pattern: str, threshold: float = 0.5, **more: Any) -> Result:
    table = {"type": "anti_pattern", "pattern": pattern, "threshold": threshold, **more}
    return judge(BudgetFacts(spans), **table)


def test_god_process() -> None:
    """The name with most self-time, of all of it; the loop's own spans are in the whole, and never it."""
    found = share(TRAINING, "GodProcess", 0.19)
    assert (found.outcome, found.value, found.where) == (Outcome.VIOLATED, 0.2, "matmul")
    assert found.message == "matmul takes 20 % of the time by itself, the limit is 19 %"
    assert share(TRAINING, "GodProcess", 0.2).outcome is Outcome.PASSED
    assert share(TRAINING, "GodProcess", process_name_pattern="ward").where == "forward"
    nothing = share(TRAINING, "GodProcess", process_name_pattern="gpu")
    assert nothing.message == "no span matched 'gpu'"
    loop = tree((1, None, "training.run", 0, 10), (2, 1, "training.step", 0, 9))
    quiet = share(loop, "GodProcess", 0)
    assert (quiet.outcome, quiet.value) == (Outcome.PASSED, 0.0)
    assert quiet.message == "no sign of GodProcess, the limit is 0 %"


def test_tight_loop() -> None:
    """Only many short spans of one name, one right behind the other, under one parent."""

    def loop(n: int, took: float, gap: float, names: str = "a", nested: bool = False) -> SpanTimes:
        rows: list[tuple[int, int | None, str, float, float]] = [(0, None, "run", 0, 100)]
        for i in range(n):
            start = i * (took + gap)
            rows.append((i + 1, 0, names[i % len(names)], start, start + took))
            if nested:
                rows.append((10_000 + i, i + 1, "inner", start, start + took))
        return tree(*rows)

    found = share(loop(100, 0.8, 0.1), "TightLoop")
    assert (found.outcome, found.value, found.where) == (Outcome.VIOLATED, pytest.approx(0.8), "a")
    assert found.message.startswith("80 % of the time is spent in a, a short span repeated back to back")
    assert share(loop(100, 0.8, 0.1, nested=True), "TightLoop").value == pytest.approx(0.8)
    assert share(loop(20, 1, 0), "TightLoop").value == pytest.approx(0.2)
    assert share(loop(19, 1, 0), "TightLoop").value == 0.0
    assert share(loop(50, 1.1, 0), "TightLoop").value == 0.0
    assert share(loop(50, 0.3, 0.5), "TightLoop").value == 0.0
    assert share(loop(100, 0.8, 0.1, "ab"), "TightLoop").value == 0.0
    assert share(loop(100, 0.8, 0.1), "TightLoop", process_name_pattern="run").value == 0.0


def test_pcie_bottleneck() -> None:
    """Transfers within steps and waits between them, of the time of both; else of the summaries."""
    found = share(TRAINING, "PcieBottleneck", 0.1)
    assert (found.value, found.where) == (pytest.approx(100 / 600), "data_wait")
    steps = tree(
        (1, None, "training.step", 0, 100),
        (2, 1, "h2d", 0, 30),
        (3, 2, "memcpy", 10, 30),
        (4, 1, "forward", 30, 90),
    )
    assert share(steps, "PcieBottleneck").value == pytest.approx(0.3)
    assert share(steps, "PcieBottleneck", process_name_pattern="forw").value == pytest.approx(0.6)
    assert share(tree((1, None, "x", 0, 10), (2, 1, "copy", 0, 4)), "PcieBottleneck").value == 0.4
    plain = tree((1, None, "training.step", 0, 100))
    unknown = share(plain, "PcieBottleneck")
    assert unknown.message == "no transfer span was recorded, nor data_wait and step_duration"
    sums = {"data_wait": 3.0, "step_duration": 4.0}
    table = {"type": "anti_pattern", "pattern": "PcieBottleneck", "threshold": 0.5}
    waited = judge(BudgetFacts(plain, lookup=lambda function, metric, tags: sums.get(metric)), **table)
    assert (waited.outcome, waited.value, waited.where) == (Outcome.VIOLATED, 0.75, "data_wait")


def test_custom_and_off() -> None:
    """The numbers behind a custom verdict are in its message; what is off is not judged."""
    facts = BudgetFacts(lookup=lambda function, metric, tags: 2.31 if metric == "step" else None)
    bad = judge(facts, type="custom", expression="p99(step)\n < 2.0")
    assert (bad.outcome, bad.usage) == (Outcome.VIOLATED, None)
    assert bad.message == "p99(step) = 2.31, expected p99(step) < 2.0"
    assert judge(facts, type="custom", expression="p99(step) < 3").outcome is Outcome.PASSED
    unknown = judge(facts, type="custom", expression="p99(step) < 3 and max(loss) < 1")
    assert unknown.outcome is Outcome.NOT_MEASURED
    assert unknown.message == "p99(step) = 2.31, max(loss) was not measured"
    assert judge(facts, type="custom", expression="p99(step) < 2", enabled=False).outcome is Outcome.OFF


@st.composite
def trees(draw: st.DrawFn) -> SpanTimes:
    """Any spans: children may overlap, and leave their parents."""
    n = draw(st.integers(1, 12))
    rows: list[tuple[int, int | None, str, float, float]] = []
    for i in range(n):
        parent = draw(st.none() | st.integers(0, i - 1)) if i else None
        start = draw(st.integers(0, 30))
        rows.append((i, parent, draw(st.sampled_from("abc")), start, start + draw(st.integers(0, 30))))
    order = draw(st.permutations(rows))
    return tree(*order)


@settings(max_examples=200)
@given(trees())
def test_self_time_is_what_no_child_covers(spans: SpanTimes) -> None:
    """Counted millisecond by millisecond; critical paths sum up to the durations."""
    for i in range(len(spans)):
        own = set(range(spans.start_ns[i] // MS, spans.end_ns[i] // MS))
        for child in np.flatnonzero(spans.parent == i):
            own -= set(range(spans.start_ns[child] // MS, spans.end_ns[child] // MS))
        assert spans.self_ns[i] == len(own) * MS
        path = spans.critical_path(i)
        assert sum(ns for _, ns in path) == spans.duration_ns[i]
        assert {name for name, _ in path} <= set(spans.names)


@settings(max_examples=100)
@given(st.data())
def test_in_one_thread_self_times_sum_up_to_the_root(data: st.DataObject) -> None:
    rows: list[tuple[int, int | None, str, float, float]] = []

    def grow(parent: int | None, start: int, end: int, depth: int) -> None:
        me = len(rows)
        rows.append((me, parent, data.draw(st.sampled_from("abc")), start, end))
        at = start
        while depth and at < end and data.draw(st.booleans()):
            begin = data.draw(st.integers(at, end))
            at = data.draw(st.integers(begin, end))
            grow(me, begin, at, depth - 1)

    grow(None, 0, 50, 3)
    spans = tree(*rows)
    assert spans.self_ns.sum() == spans.duration_ns[0]
    for name in ("GodProcess", "TightLoop", "PcieBottleneck"):
        value = share(spans, name).value
        assert value is None or 0 <= value <= 1


def test_100_000_spans_take_well_under_a_second() -> None:
    n = 100_000
    start = np.arange(n) * 1000
    spans = SpanTimes(
        ("run", "step", "copy"),
        np.where(np.arange(n) == 0, 0, np.where(np.arange(n) % 2, 1, 2)),
        np.where(np.arange(n) == 0, -1, np.where(np.arange(n) % 2, 0, np.arange(n) - 1)),
        np.where(np.arange(n) % 2, start, start - 500),
        np.where(np.arange(n) == 0, n * 1000, start + 900),
    )
    names = ("GodProcess", "TightLoop", "PcieBottleneck")
    budgets = assertions(
        {"type": "critical_path", "max_duration_ms": 1, "trace_name_pattern": "run"},
        {"type": "span_count", "max_spans": 1},
        *({"type": "anti_pattern", "pattern": name, "threshold": 0.5} for name in names),
    )
    results = evaluate(budgets, BudgetFacts(spans))
    assert [one.outcome for one in results][1] is Outcome.VIOLATED
