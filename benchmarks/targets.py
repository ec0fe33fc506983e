"""Targets: what the project set itself for its cost, beside what it was before that and what it is now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from benchmarks.harness import Row


class Target(NamedTuple):
    """What a row was before the work on it, what it must be at least, and what it is to be."""

    row: str
    before: str
    at_least: float
    aim: float


_WHOLE = "whole cost of {} to a digits loop, CPU of all threads"
TARGETS = (
    Target(_WHOLE.format("`bind`"), "1.1 %", 0.5, 0.3),
    Target(_WHOLE.format("`log`"), "1.6 %", 0.7, 0.3),
    Target(_WHOLE.format("`steps()` and `log`"), "2.0 %", 0.8, 0.4),
    Target(_WHOLE.format("everything on"), "5.1 %", 1.0, 0.8),
    Target("judging 20,000 waiting steps of three watched series", "30 ms", 6, 3),
    Target("tick with 100,000 waiting samples to durable Parquet", "46.6 ms", 30, 20),
    Target("a heartbeat with 2,000 series, set one by one", "72 ms", 30, 15),
    Target("grouping, one full live segment more", "104 ms", 50, 30),
    Target("loss curve, one full live segment more", "115 ms", 50, 30),
    Target("10,000 metrics in one `log`, the first call of these names", "40 ms", 10, 4),
    Target("10,000 metrics in one `log`", "", 10, 4),
    Target("`show wide-a`, with start-up, 10,000 metrics", "17 s", 1, 0.5),
    Target("worst stall of a 0.6 ms step meanwhile", "4.6 ms", 2, 1),
)

HEADING = """\
## What it cost before, what it is to cost, and what it costs now

The cost of a training whose steps take a millisecond, and of the largest pieces of work."""


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of the table; a row that was not measured is left out.

    >>> print(*table([Row("`show wide-a`, with start-up, 10,000 metrics", 1.0, 0.7, "s")]), sep="\\n")
    | what | before | at least | aim | now | |
    | --- | ---: | ---: | ---: | ---: | --- |
    | `show wide-a`, with start-up, 10,000 metrics | 17 s | 1 s | 0.5 s | 0.7 s | at least |
    """
    yield "| what | before | at least | aim | now | |"
    yield "| --- | ---: | ---: | ---: | ---: | --- |"
    by_name = {row.what: row for row in rows if row.measured is not None}
    for target in TARGETS:
        if (row := by_name.get(target.row)) is not None:
            least, aim = (f"{limit:g} {row.unit}" for limit in (target.at_least, target.aim))
            cells = (row.what, target.before, least, aim, row.measured_text, _reached(target, row))
            yield f"| {' | '.join(cells)} |"


def _reached(target: Target, row: Row) -> str:
    assert row.measured is not None
    if row.measured <= target.aim:
        return "aim"
    return "at least" if row.measured <= target.at_least else "**short**"
