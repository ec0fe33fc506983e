"""The application: its keys, a lake that is away, and that it leaves a real terminal as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.errors import QueryError
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import Axis, RunView
from entrenar_otel.views.terminal import WatchApp


class Source:
    """A run whose view the test gives."""

    def __init__(self, view: RunView, run_id: str = "r") -> None:
        self.run_id, self.shown = run_id, view
        self.error: Exception | None = None
        self.looks = 0

    def view(self) -> RunView:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.shown


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


@pytest.mark.parametrize("leave", ["q", "\x03", "signal"])
def test_it_leaves_the_terminal_as_it_was(leave: str, start: Callable[..., Monitor]) -> None:
    """On a real pseudo-terminal: the other screen is left, the cursor shown, the line's mode is as before."""
    monitor = start()
    for step in range(50):
        monitor.log(loss=1 / (1 + step), step=step)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-m", "entrenar_otel.cli.main", "watch", "--lake", "lake"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    seen = b""
    try:
        end = time.monotonic() + 120
        while b"loss" not in seen and time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
        assert b"\x1b[?1049h" in seen
        if leave == "signal":
            os.kill(process.pid, signal.SIGINT)
        else:
            os.write(master, leave.encode())
        while process.poll() is None and time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
        while select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
        assert process.poll() is not None
        assert b"Traceback" not in seen
        assert seen.rfind(b"\x1b[?1049l") > seen.rfind(b"\x1b[?1049h")
        assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")
        assert termios.tcgetattr(slave)[:4] == before[:4]
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)
        monitor.close()
