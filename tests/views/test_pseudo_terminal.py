"""`watch` on a real pseudo-terminal: whatever terminal it is and whatever the run, and how it is left."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from entrenar_otel import Lake, Monitor

from .pseudo_terminal import PseudoTerminal

Start = Callable[..., Monitor]
ODD = "\x1b]0;owned\x07\x1b[31m\u202eodd"


@pytest.fixture
def recorded(start: Start) -> Iterator[Monitor]:
    """A run with a loss, which goes on."""
    monitor = start()
    for step in range(50):
        monitor.log(loss=1 / (1 + step), step=step)
    monitor.flush()
    yield monitor
    monitor.close()


@pytest.mark.parametrize("leave", ["q", "\x03", "signal"])
def test_it_leaves_the_terminal_as_it_was(leave: str, recorded: Monitor) -> None:
    """The other screen is left, the cursor shown, the mode of the line as before; no mouse was asked for."""
    with PseudoTerminal("watch", "--lake", "lake") as terminal:
        terminal.wait_for("loss")
        if leave == "signal":
            os.kill(terminal.process.pid, signal.SIGINT)
        else:
            terminal.press(leave)
        terminal.end()
        assert "\x1b[?1049h" in terminal.raw
        assert "\x1b[?1000h" not in terminal.raw  # text can be selected


def test_it_follows_the_size_of_the_terminal(recorded: Monitor) -> None:
    """From hardly any to a large one and back; on the small one there is a curve, too."""
    with PseudoTerminal("watch", "--lake", "lake", rows=5, columns=20) as terminal:
        terminal.wait_for("loss")
        terminal.resize(40, 120)
        terminal.wait_for("metric")  # there is room for the table of numbers
        terminal.resize(5, 20)
        terminal.wait_for("loss")
        terminal.resize(1, 1)
        terminal.resize(24, 80)
        terminal.wait_for("x-axis")
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("arguments", "environ", "is_coloured"),
    [((), {}, True), ((), {"NO_COLOR": "1"}, False), (("--ascii",), {}, False)],
)
def test_no_colour_is_no_colour(
    arguments: tuple[str, ...], environ: dict[str, str], is_coloured: bool, recorded: Monitor
) -> None:
    """https://no-color.org, where bold and dim are none; a plain terminal has no colours either."""
    for once in ((), ("--once",)):
        with PseudoTerminal("watch", "--lake", "lake", *arguments, *once, environ=environ) as terminal:
            terminal.wait_for("loss")
            terminal.press("q")
            terminal.end()
            assert bool(terminal.colours()) == is_coloured


@pytest.mark.parametrize("environ", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}])
def test_a_terminal_without_utf_8_gets_plain_signs(environ: dict[str, str], start: Start) -> None:
    """Also for names from outside, in the frame and in the line of keys."""
    with start("größer-ﷺ") as monitor:
        for step in range(20):
            monitor.log({"loss": 1.0 * step, "größe": 1.0}, step=step)
    for more in (["--once"], []):
        with PseudoTerminal("watch", *more, "--lake", "lake", environ=environ) as terminal:
            terminal.wait_for("loss")
            terminal.press("q")
            assert terminal.end() == 0
            assert terminal.raw.isascii()
            assert "\\x" not in terminal.raw
            assert "\\u" not in terminal.raw


def test_a_dumb_terminal_is_told_what_to_do(recorded: Monitor) -> None:
    """Nothing is drawn on it; one frame can be printed."""
    with PseudoTerminal("watch", "--lake", "lake", environ={"TERM": "dumb"}) as terminal:
        assert terminal.end() != 0
        assert "watch --once" in terminal.text
        assert "\x1b" not in terminal.raw
    with PseudoTerminal("watch", "--once", "--lake", "lake", environ={"TERM": "dumb"}) as terminal:
        assert terminal.end() == 0
        assert "loss" in terminal.text
        assert "\x1b" not in terminal.raw


def test_without_a_lake_or_a_run_it_says_so(recorded: Monitor) -> None:
    """In one line, and nothing is drawn."""
    for arguments, told in (
        (["--lake", "nowhere"], "nowhere"),
        (["--lake", "lake", "other"], "other"),
        (["--lake", "lake", "--rank", "3"], "run r has no rank 3; it has: 0"),
    ):
        with PseudoTerminal("watch", *arguments) as terminal:
            assert terminal.end() != 0
            assert told in terminal.text
            assert "\x1b[?1049h" not in terminal.raw


def test_a_run_that_is_pruned_while_it_is_watched_stays_in_sight(start: Start) -> None:
    """What was read is still shown, and keys answer."""
    with start() as monitor:
        for step in range(3000):
            monitor.log(loss=float(step), step=step)
    with PseudoTerminal("watch", "--lake", "lake") as terminal:
        terminal.wait_for("completed")
        assert Lake("lake").prune(timedelta(0))
        terminal.press("x")  # no epochs were logged, so there is no such axis
        terminal.wait_for("time")
        terminal.press("x")
        terminal.wait_for("step")
        terminal.press("q")
        assert terminal.end() == 0
        assert "2,999" in terminal.text


def test_odd_runs_are_shown_while_they_go_on(start: Start) -> None:
    """500 metrics, NaN and Inf, one sample, names that would steer the terminal; never a traceback."""
    monitor = start(ODD, model_id=ODD)
    values = [math.nan, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324]
    for at, value in enumerate(values):
        monitor.log({"accuracy": value}, step=at)
        monitor.log({ODD: value}, step=at, tags={ODD: ODD})
    monitor.log({f"layer.{at}": 1.0 for at in range(500)}, step=9)
    stopped = threading.Event()

    def go_on() -> None:
        for step in range(10, 10**9):
            monitor.log(loss=float(step), step=step)
            if stopped.wait(0.01):
                return

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        with PseudoTerminal("watch", "--lake", "lake", rows=30, columns=100) as terminal:
            terminal.wait_for("NaN/Inf")
            for key in ("m", "m", "x", "x", "+", "+", "\x1b[D", "0", "M", "p", "p", "a"):
                terminal.press(key)
                terminal.wait_for("step" if key in "xa" else lambda: terminal._read(0.5) or True)
            terminal.press("q")
            assert terminal.end() == 0
            assert "owned" in terminal.text  # as text
            assert "\x1b]0;" not in terminal.raw
            assert "\u202e" not in terminal.raw
    finally:
        stopped.set()
        thread.join()
        monitor.close()


@pytest.mark.parametrize("environ", [{}, {"LC_ALL": "C"}], ids=["utf-8", "ascii"])
def test_it_waits_for_the_first_run_of_a_lake(environ: dict[str, str], start: Start) -> None:
    """And says so; `--once`, and a run that is named, are told that there is none."""
    os.mkdir("lake")
    for arguments in (["--once"], ["other"]):
        with PseudoTerminal("watch", "--lake", "lake", *arguments) as terminal:
            assert terminal.end() == 1
            assert "no runs in" in terminal.text
            assert "\x1b[?1049h" not in terminal.raw
    with PseudoTerminal("watch", "--lake", "lake", columns=200, environ=environ) as terminal:
        terminal.wait_for(f"waiting for the first run in {os.path.abspath('lake')}")
        monitor = start("first")
        for step in range(50):
            monitor.log(loss=1 / (1 + step), step=step)
        monitor.flush()
        terminal.wait_for("first")
        terminal.wait_for(lambda: "loss" in terminal.text)
        monitor.close()
        terminal.press("q")
        assert terminal.end() == 0
