"""The doctor's report as people see it, at any width, without colours, in any encoding."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from entrenar_otel.cli.doctor import TITLES, print_report, progress, summary
from entrenar_otel.cli.output import Console
from entrenar_otel.doctor.check import Check, note, problem
from entrenar_otel.doctor.report import COST, PARTS, Report

REPORT = Report(
    {
        "installed": [
            Check("Python", "CPython 3.11.7 (/usr/bin/python)"),
            note("[gpu]", "would give readings of NVIDIA's GPUs", "pip install 'entrenar-otel[gpu]'"),
        ],
        "ports": [
            problem(
                "OTLP",
                "traces, metrics and logs to http://localhost:4317 cannot be reached: Connection refused",
                "start the Collector there, or correct OTEL_EXPORTER_OTLP_ENDPOINT",
            )
        ],
        "cost": [Check("log", "3.0 µs: five metrics", facts={"share": 0.3})],
    }
)


def printed(report: Report, width: int) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=width, highlight=False))
    return out.getvalue()


def test_every_part_has_a_heading() -> None:
    assert set(TITLES) == {*PARTS, COST}
    assert progress("live") == "looking at the live folder …"


def test_what_a_person_sees() -> None:
    assert (
        printed(REPORT, 80)
        == """\
What is installed
✓ Python         CPython 3.11.7 (/usr/bin/python)
! [gpu]          would give readings of NVIDIA's GPUs
                 → pip install 'entrenar-otel[gpu]'

What listens, and what is sent to
✗ OTLP           traces, metrics and logs to http://localhost:4317 cannot be
                 reached: Connection refused
                 → start the Collector there, or correct
                   OTEL_EXPORTER_OTLP_ENDPOINT

What it costs here
✓ log            ━━━━━─────────── 3.0 µs: five metrics

1 problem, 1 note, 2 checks well
"""
    )


def test_where_there_is_little_room_the_text_stands_below() -> None:
    assert (
        printed(Report({"installed": REPORT.parts["installed"][:1]}), 38)
        == """\
What is installed
✓ Python
    CPython 3.11.7 (/usr/bin/python)

no problem, 0 notes, 1 check well
"""
    )


@given(st.integers(20, 200), st.lists(st.text(max_size=60), min_size=3, max_size=3))
def test_no_line_is_too_long(width: int, texts: list[str]) -> None:
    """But for a name that is."""
    name, text, advice = texts
    check = problem(name[:12], text, advice).fit_to_show()
    for line in printed(Report({"lake": [check]}), width).splitlines():
        assert cell_len(line) <= max(width, 33)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "no problem, 0 notes, 0 checks well"),
        ({"lake": [problem("a", "b", "c")] * 2}, "2 problems, 0 notes, 0 checks well"),
    ],
)
def test_the_last_line(parts: dict[str, list[Check]], told: str) -> None:
    assert summary(Report(parts)).plain == told


def test_colours_are_not_needed() -> None:
    assert not re.search("\x1b", printed(REPORT, 80))
