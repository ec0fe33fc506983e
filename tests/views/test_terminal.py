"""The application: its keys, ranks, a lake that is away, and what it sends to the terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from entrenar_processors.budgets.verdicts import Outcome, Result

from entrenar_otel.errors import QueryError
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import Axis, RunView
from entrenar_otel.views.terminal import WatchApp

#: What may become of a run that has ended.
NEWS: list[dict[str, Any]] = [
    {"reason": "recovered"},
    {"is_pruned": True},
    {"attempts": 2},
    {"budgets": [Result("tail", "custom", Outcome.VIOLATED, "p99(loss) = 3")]},
]


class Source:
    """A run whose view the test gives."""

    def __init__(self, view: RunView, run_id: str = "r") -> None:
        self.run_id, self.shown = run_id, view
        self.error: Exception | None = None
        self.looks = 0
        self.ranks: list[int] = []

    def view(self) -> RunView:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.shown

    def choose_rank(self, rank: int) -> None:
        self.ranks.append(rank)
        self.shown = replace(self.shown, rank=rank)


def _drive(app: WatchApp, steps: Callable[[Any], Any], size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await _until(pilot, lambda: app.frame_widget.shown is not None)
            await steps(pilot)

    asyncio.run(run())


async def _until(pilot: Any, true: Callable[[], Any]) -> None:
    end = time.monotonic() + 100
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        await pilot.pause(0.01)


def test_keys_choose_what_is_shown(digits: RunView) -> None:
    """Metric, axis, zoom, hold; another run begins anew."""
    first, second = Source(digits), Source(digits, "other")
    app = WatchApp([first, second], Look(), refresh_seconds=0)

    async def steps(pilot: Any) -> None:
        widget = app.frame_widget
        await pilot.press("m", "m")
        assert widget.choice.panel == 1
        await pilot.press("M", "x", "plus")
        assert (widget.choice.panel, widget.choice.axis, widget.choice.window.low) == (0, Axis.EPOCH, 0.5)
        await pilot.press("left", "a", "0", "p")
        assert (widget.choice.panel, widget.choice.window.is_whole, widget.choice.is_held) == (
            None,
            True,
            True,
        )
        looks = first.looks
        app.look()
        assert first.looks == looks
        await pilot.press("r")
        await _until(pilot, lambda: second.looks == 1)
        assert widget.choice.is_held is False

    _drive(app, steps)


def test_a_lake_that_is_away_leaves_the_last_view(digits: RunView) -> None:
    """It is said in one line, and over when the lake answers again; so is a resize to nearly nothing."""
    source = Source(digits)
    app = WatchApp([source], Look(), refresh_seconds=0)

    async def steps(pilot: Any) -> None:
        source.error = QueryError("the lake \x1b[31m is away")
        app.look()
        await _until(pilot, lambda: app.frame_widget.note)
        assert app.frame_widget.shown is digits
        assert "is away" in app.export_screenshot().replace("&#160;", " ")
        await pilot.resize_terminal(20, 5)
        await pilot.pause()
        source.error = None
        app.look()
        await _until(pilot, lambda: not app.frame_widget.note)

    _drive(app, steps)


def test_a_key_shows_the_next_rank(digits: RunView) -> None:
    """Of a run with one there is no such key."""
    source = Source(replace(digits, ranks=3, known_ranks=[0, 2, 5]))
    app = WatchApp([source], Look(), refresh_seconds=0)

    async def steps(pilot: Any) -> None:
        for rank in (2, 5, 0):
            await pilot.press("k")
            await _until(pilot, lambda: app.frame_widget.shown == source.shown and not app.frame_widget.note)
            assert source.ranks[-1] == rank
        assert app.check_action("rank", (1,))
        source.shown = digits
        app.look()
        await _until(pilot, lambda: app.frame_widget.shown is digits)
        assert not app.check_action("rank", (1,))

    _drive(app, steps)


def test_lines_that_did_not_change_are_not_drawn_again(digits: RunView) -> None:
    """Of a frame whose age alone has changed, one line."""
    source = Source(digits)
    app = WatchApp([source], Look(), refresh_seconds=0)

    async def steps(pilot: Any) -> None:
        drawn: list[int] = []
        widget: Any = app.frame_widget
        render = widget.render_line

        def render_line(y: int) -> Any:
            drawn.append(y)
            return render(y)

        widget.render_line = render_line
        await pilot.pause()
        drawn.clear()
        source.shown = replace(digits, age_seconds=7.0)
        app.look()
        await _until(pilot, lambda: app.frame_widget.shown is source.shown)
        await _until(pilot, lambda: drawn)
        await pilot.pause()
        assert set(drawn) == {0}
        assert "7 s old" in app.export_screenshot().replace("&#160;", " ")

    _drive(app, steps)


def test_a_run_that_has_ended_is_drawn_where_something_is_new(digits: RunView) -> None:
    """It was recovered, pruned, judged; else nothing is drawn, look after look."""
    ended = replace(digits, state="crashed", age_seconds=None, reason="the process is gone")
    source = Source(ended)
    app = WatchApp([source], Look(), refresh_seconds=0)

    async def steps(pilot: Any) -> None:
        widget: Any = app.frame_widget
        draws: list[RunView] = []
        widget.redraw = lambda: draws.append(widget.shown)

        async def look_at(view: RunView) -> int:
            draws.clear()
            source.shown = view
            app.look()
            await _until(pilot, lambda: widget.shown is view)
            return len(draws)

        for change in NEWS:
            assert await look_at(replace(source.shown)) == 0
            assert await look_at(replace(source.shown, **change)) == 1

    _drive(app, steps)
