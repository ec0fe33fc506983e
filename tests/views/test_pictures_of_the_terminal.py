"""Pictures of the application, as SVG in tests/views/frames; their signs and colours are as they were.

Another version of Textual or Rich has another frame around them, so what is compared is each text with its
place and style. Whoever changes a picture looks at it, and makes it anew by deleting the file.
"""

from __future__ import annotations

import asyncio
import html
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import textual
from entrenar_processors.budgets.verdicts import Outcome, Result

from entrenar_otel.views.data_wait import DataWait
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import RunView
from entrenar_otel.views.terminal import WatchApp

FRAMES = Path(__file__).with_name("frames")
OLDER = int(textual.__version__.split(".")[0]) < 8


_TEXT = r'<text class="terminal-(r\d+)" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>'


class Shown:
    """A run with a view that stays."""

    def __init__(self, view: RunView) -> None:
        self.run_id, self._view = view.run_id, view

    def view(self) -> RunView:
        return self._view

    def choose_rank(self, rank: int) -> None:
        raise AssertionError(rank)


def _finished(digits: RunView) -> RunView:
    """The same run, stopped by what was found of it."""
    (spike,) = digits.findings
    nan = replace(spike, name="nonfinite", level="CRITICAL", summary="loss is NaN", state="firing", step=500)
    budgets = [
        Result("step time", "critical_path", Outcome.VIOLATED, "too long", 600.0, 300.0),
        Result("memory", "memory_usage", Outcome.PASSED, "fine", 1e9, 2e9),
    ]
    return replace(
        digits, state="stopped", reason="NaN in loss at epoch 5, batch 0", age_seconds=None, is_live=False,
        findings=[nan, spike], budgets=budgets,
        progress=replace(digits.progress, left_seconds=None, steps_per_second=None),
    )  # fmt: skip


def _ranks(digits: RunView) -> RunView:
    return replace(digits, run_id="digits-8", rank=1, ranks=4, known_ranks=range(4), attempts=2)


def _waits(digits: RunView) -> RunView:
    return replace(digits, data_wait=DataWait(0.43, 200, 0.38))


CASES: dict[str, tuple[Callable[[RunView], list[RunView]], tuple[int, int], str, dict[str, str]]] = {
    "running": (lambda digits: [digits], (100, 36), "", {}),
    "finished": (lambda digits: [_finished(digits)], (100, 36), "", {}),
    "waits": (lambda digits: [_waits(digits)], (100, 24), "", {}),
    "several": (lambda digits: [digits, _ranks(digits)], (100, 24), "r", {}),
    "small": (lambda digits: [digits], (40, 12), "", {}),
    "tiny": (lambda digits: [digits], (20, 5), "", {}),
    "zoomed": (lambda digits: [digits], (80, 20), "mx+", {}),
    "colourless": (lambda digits: [digits], (100, 24), "", {"NO_COLOR": "1"}),
    "plain": (lambda digits: [digits], (80, 24), "", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_picture_is_as_it_was(name: str, digits: RunView, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its signs, and colours or none."""
    views, size, keys, environ = CASES[name]
    monkeypatch.delenv("NO_COLOR", raising=False)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    runs = [Shown(view) for view in views(digits)]
    app = WatchApp(runs, Look(ascii_only=name == "plain"), refresh_seconds=0)
    picture = asyncio.run(_picture(app, size, keys, runs[-1]._view if "r" in keys else runs[0]._view))
    path = FRAMES / f"{name}.svg"
    if not path.exists():
        path.write_text(picture, encoding="utf-8")
        pytest.fail(f"{path} was not there: look at it, and run this again")
    assert _signs(picture) == _signs(path.read_text(encoding="utf-8"))
    if name == "colourless":
        colours = {style.partition(";")[0] for _, _, style, _ in _signs(picture) if style}
        assert len(colours) == 2  # of the terminal, and dim


async def _picture(app: WatchApp, size: tuple[int, int], keys: str, view: RunView) -> str:
    names = {"+": "plus"}
    async with app.run_test(size=size) as pilot:
        for key in ("", *keys):
            if key:
                await pilot.press(names.get(key, key))
            end = time.monotonic() + 100
            while app.frame_widget.shown is None or app.frame_widget.note:
                assert time.monotonic() < end, "did not happen in time"
                await pilot.pause(0.01)
        assert app.frame_widget.shown is view
        before, picture = "", app.export_screenshot()
        while picture != before or (">quit" in picture.replace("&#160;", "")) != (size[1] >= 10):
            assert time.monotonic() < end, "the line of keys was not drawn in time"
            await pilot.pause(0.05)
            before, picture = picture, app.export_screenshot()
        return re.sub(r"terminal-\d+", "terminal", picture)


def _signs(picture: str) -> list[tuple[float, float, str, str]]:
    """Each sign's line, column, colour and text, whatever pieces they came in; spaces are none.

    The last line is that of the keys, whose colour is Textual's: another one before version 8.
    """
    styles = dict(re.findall(r"\.terminal-(r\d+) \{ ([^}]*) \}", picture))
    texts = re.findall(
        r'<text class="terminal-(r\d+)" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', picture
    )
    assert texts
    last = max(float(y) for _, _, y, _ in texts)
    found = []
    for style, x, y, text in texts:
        for at, sign in enumerate(html.unescape(text).replace("\xa0", " ")):
            if sign != " ":
                colour = "" if float(y) == last and OLDER else styles[style]
                found.append((float(y), round(float(x) / 12.2 + at), colour, sign))
    return sorted(found)
