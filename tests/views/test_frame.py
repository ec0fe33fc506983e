"""Frames: what is where, at every size, with every kind of data; the pictures are in tests/views/frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors.budgets.verdicts import Outcome, Result
from entrenar_processors.samples import Series
from rich.cells import cell_len

from entrenar_otel.views.chart import Chart, Window
from entrenar_otel.views.data_wait import DataWait
from entrenar_otel.views.frame import Choice, frame
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import Axis, Panel, RunView

from .conftest import column, view_of

FRAMES = Path(__file__).with_name("frames")
Shown = Callable[..., str]


@pytest.mark.parametrize(
    ("name", "size", "look", "choice"),
    [
        ("signs", (80, 24), Look(), Choice()),
        ("ascii", (80, 24), Look(ascii_only=True), Choice()),
        ("epoch", (60, 14), Look(), Choice(axis=Axis.EPOCH, panel=0)),
        ("page", (80, None), Look(), Choice(axis=Axis.TIME)),
    ],
)
def test_a_frame_is_as_it_was(
    name: str, size: tuple[int, int | None], look: Look, choice: Choice, digits: RunView, shown: Shown
) -> None:
    """Byte for byte: whoever changes it looks at it, and writes it anew by deleting the file."""
    text = (
        "\n".join(line.rstrip() for line in shown(digits, *size, look=look, choice=choice).splitlines())
        + "\n"
    )
    path = FRAMES / f"{name}.txt"
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path} was not there: look at it, and run this again")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [8, 20, 40, 75, 76, 80, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 10, 24, 60, None])
@pytest.mark.parametrize("is_ascii", [False, True])
def test_no_line_is_too_long_at_any_size(
    width: int, height: int | None, is_ascii: bool, digits: RunView
) -> None:
    """20 × 5 and smaller too."""
    lines = frame(digits, width, height, look=Look(ascii_only=is_ascii))
    assert max(cell_len(line.plain) for line in lines) <= width
    assert height is None or len(lines) <= height
    assert not is_ascii or "\n".join(line.plain for line in lines).isascii()


HUGE = 1.7e308


@pytest.mark.parametrize(
    "values",
    [
        [0.5],
        [math.nan],
        [math.inf, -math.inf],
        [1.0, math.nan, 2.0],
        [HUGE, -HUGE, HUGE],
        [5e-324, 0.0],
        [0.0] * 7,
        [1e-12, 2e-12],
        [1e15, 1e15 + 1],
    ],
)
@pytest.mark.parametrize("axis", list(Axis))
def test_odd_values_make_a_frame(values: list[float], axis: Axis, shown: Shown) -> None:
    """One sample, NaN, Inf, the greatest and the least numbers: marked, never a traceback."""
    view = view_of({Series("loss"): column(values)})
    text = shown(view, 80, 24, choice=Choice(axis=axis))
    assert "loss" in text
    assert ("× NaN/Inf" in text) == (not all(map(math.isfinite, values)))


def test_five_hundred_metrics_fit(shown: Shown) -> None:
    """As many as there is room for; the rest is counted."""
    view = view_of({Series(f"layer.{at}"): column([1.0, 2.0]) for at in range(500)})
    assert "layer.0" in shown(view, 80, 24)
    assert "482 more: entrenar-otel show" in shown(view, 80)
    many = view_of({Series.of("loss", {"layer": at}): column([1.0, 2.0]) for at in range(500)})
    assert "+492 more" in "\n".join(line.plain for line in Chart(Panel("loss"), many).draw(200, 12))


def test_long_numbers_do_not_touch(shown: Shown) -> None:
    """A column is as wide as its longest number, and its neighbours leave for it."""
    view = view_of({Series("tokens"): column([-164_065_280.0, 164_054_016.0, -1.2345e-300])})
    lines = shown(view, 80).splitlines()
    (row,) = [line.split() for line in lines if line.startswith("tokens") and "━" not in line]
    (head,) = [line.split() for line in lines if line.startswith("metric")]
    assert dict(zip(head[1:], row[1:], strict=True)).items() >= {
        "last": "-1.234e-300", "min": "-164,065,280", "max": "164,054,016"}.items()  # fmt: skip


def test_what_comes_from_outside_steers_nothing(shown: Shown) -> None:
    """Names, tags, reasons: neither escapes nor markup of Rich's get through."""
    odd = "\x1b[31m[bold red]x[/]\u202e"
    view = view_of(
        {Series.of(odd, {odd: odd}): column([1.0])}, run_id=odd, model=odd, reason=odd, state="stopped"
    )
    for size in ((80, 24), (80, None), (20, 5)):
        for line in frame(view, *size):
            assert "\x1b" not in line.plain
            assert "\u202e" not in line.plain
    assert "[bold red]x[/]" in shown(view, 80)


def test_a_run_without_samples_says_so(shown: Shown) -> None:
    assert "no sample yet" in shown(view_of({}), 80, 24)
    assert "no samples were recorded" in shown(view_of({}, state="crashed"), 80)


def test_old_data_of_another_host_are_told(shown: Shown) -> None:
    view = view_of({Series("loss"): column([1.0])}, age_seconds=95.0, is_live=False, host="gpu-7")
    assert "data from gpu-7 1m 35s old" in shown(view, 80, 24)


def test_the_data_wait_is_told_where_there_is_a_line_for_it(digits: RunView, shown: Shown) -> None:
    """Dim where it is small, and not on a screen of a few lines."""
    little = replace(digits, data_wait=DataWait(0.004, 120))
    for height in (24, None):
        (line,) = [line for line in frame(little, 80, height) if line.plain.startswith("data wait")]
        assert (line.plain, line.style) == ("data wait 0% of step time in the last 120 steps", "dim")
    assert "data wait" not in shown(little, 80, 13)
    much = replace(digits, data_wait=DataWait(0.1, 200, 0.38))
    (line,) = [line for line in frame(much, 80, 24) if line.plain.startswith("data wait")]
    assert (line.plain, line.style) == (
        "data wait 10% of step time in the last 200 steps, 38% in the last whole epoch",
        "bold yellow",
    )


def test_a_spike_is_drawn_also_where_a_column_has_ten_thousand_values() -> None:
    values = np.zeros(1_000_000)
    values[777_777] = 1.0
    chart = Chart(Panel("loss"), view_of({Series("loss"): column(values)}))
    rows = [line.plain for line in chart.draw(80, 12)]
    top = next(row for row in rows if row.lstrip().startswith("1.0"))
    assert len(top.partition("┤")[2].strip()) == 1


def test_zoom_shows_the_end_and_moves() -> None:
    """What is newest stays in sight; a part of a part is where it should be."""
    assert Window().zoomed(0.5) == Window(0.5, 1.0)
    assert Window(0.5, 1.0).moved(-0.5) == Window(0.25, 0.75)
    assert Window(0.25, 0.75).zoomed(0.5) == Window(0.375, 0.625)
    assert Window(0.5, 1.0).zoomed(2).is_whole
    view: Any = view_of({Series("loss"): column(np.arange(100.0))})
    chart = Chart(Panel("loss"), view, window=Window(0.5, 1.0))
    assert chart.low == 49.5
    assert chart.y_span()[0] == pytest.approx(49, abs=2)


def test_a_condition_that_does_not_hold_says_what_was_found(digits: RunView, shown: Shown) -> None:
    """It has no one value and no one limit, as the other budgets have."""
    told = "p99(step_duration) = 0.0565, expected p99(step_duration) < 0.04"
    budgets = [
        Result("tail", "custom", Outcome.VIOLATED, told),
        Result("ram", "memory_usage", Outcome.VIOLATED, "…", 3 * 2**30, 2 * 2**30),
    ]
    text = shown(replace(digits, budgets=budgets), 140, 40)
    assert f"✗ tail: {told}  ✗ ram 3.00 GiB of 2.00 GiB" in text
    assert "–" not in text


@pytest.mark.parametrize(("height", "told"), [(40, "3 more findings"), (10, "6 findings")])
def test_findings_that_have_no_line_are_counted(
    height: int, told: str, digits: RunView, shown: Shown
) -> None:
    """Those that are more than what is shown, or all where none is."""
    lines = shown(replace(digits, findings=[*digits.findings] * 6), 80, height).splitlines()
    assert f"{told}: entrenar-otel alerts" in lines
    assert sum(line.startswith("▲") for line in lines) == 6 - int(told[0])
