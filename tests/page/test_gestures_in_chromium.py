"""Pan and zoom by mouse, wheel and trackpad, in a real browser; presses that outlast a drawing."""

from __future__ import annotations

import numpy as np
import pytest

from entrenar_otel.lake import Lake
from tests.page.chromium import CTRL, SHIFT, Browser
from tests.page.conftest import Serve, record
from tests.page.long_run import values_of, write_long_run

OVER = "[data-metric=loss] .u-over"
DRAWN = "document.querySelectorAll('.panel:not(.empty) canvas').length"
_FROM, _TO = (f"Number(/{name}=([-\\d.e]+)/.exec(location.hash)?.[1])" for name in ("from", "to"))
HINT = "document.querySelector('.hint').textContent"


@pytest.fixture
def zoomed(browser: Browser, serve: Serve) -> Browser:
    """A run of 2,000 steps, of which those from 1,000 to 1,200 are shown."""
    write_long_run(Lake("lake"), "long", values_of(2000))
    browser.open(f"{serve().url}/#run=long&from=1000&to=1200")
    browser.until(f"{DRAWN} === 1")
    return browser


@pytest.mark.parametrize(("button", "shift"), [("left", True), ("middle", False)])
def test_a_drag_pans(zoomed: Browser, button: str, shift: bool) -> None:
    """The curve follows the hand, as far as it was moved; the address comes when it rests."""
    zoomed.drag(OVER, 0.25, 0.75, button=button, shift=shift, moves=8)
    zoomed.until(f"Math.abs({_FROM} - 900) < 2 && Math.abs({_TO} - 1100) < 2")
    assert zoomed.js("document.querySelector('.panned')") is None
    # what was out of sight is drawn: a value under the pointer is that of its step
    zoomed.until("document.querySelector('[data-metric=loss] canvas')")
    zoomed.point(*zoomed.middle(OVER))
    zoomed.until("document.querySelector('.tip').textContent.includes('step 1,000')")
    zoomed.drag(OVER, 0.4, 0.6)  # without shift it chooses a part, as before
    zoomed.until(f"{_FROM} > 970")
    assert zoomed.said == []


def test_a_pan_stays_by_the_curve(browser: Browser, serve: Serve) -> None:
    """However far somebody drags, some of it is in sight; the whole is one step back."""
    write_long_run(Lake("lake"), "long", values_of(2000))
    browser.open(f"{serve().url}/#run=long")
    browser.until(f"{DRAWN} === 1 && {HINT} === 'drag to zoom'")
    browser.drag(OVER, 0.25, 0.75, shift=True)  # nothing to pan to
    browser.drag(OVER, 0.4, 0.5)
    browser.until(f"{_FROM} > 700 && {HINT}.includes('Shift+drag')")
    for _ in range(12):
        browser.drag(OVER, 0.0, 1.0, shift=True, moves=3)
    browser.until(f"{_FROM} < 0 && Math.abs({_TO} - 20) < 2")
    browser.js("history.back()")
    browser.until(f"!location.hash.includes('from') && {HINT} === 'drag to zoom'")
    assert browser.said == []


def test_the_wheel(zoomed: Browser) -> None:
    """With Ctrl, or pinched, it zooms at the pointer; sideways it pans; by itself it scrolls the page."""
    left, width, _, y = zoomed.box(OVER)
    x = left + 0.25 * width
    zoomed.wheel(x, y, 0, across=width / 2)
    zoomed.until(f"Math.abs({_FROM} - 1100) < 3")
    zoomed.wheel(x, y, -width / 2, modifiers=SHIFT)
    zoomed.until(f"Math.abs({_FROM} - 1000) < 3")
    zoomed.wheel(x, y, -100, modifiers=CTRL)
    zoomed.until(f"{_TO} - {_FROM} < 170")
    low, high = zoomed.js(_FROM), zoomed.js(_TO)
    assert low + 0.25 * (high - low) == pytest.approx(1050, abs=3)
    before = zoomed.js("location.hash")
    zoomed.wheel(x, y, 30)
    zoomed.js("new Promise((done) => setTimeout(done, 400))")  # as long as an address takes to settle, twice
    assert zoomed.js("location.hash") == before
    zoomed.key("r")
    zoomed.until("!location.hash.includes('from')")
    zoomed.wheel(x, y, -100, modifiers=CTRL)
    zoomed.until("location.hash.includes('from')")
    for _ in range(3):  # out again, until it is the whole
        zoomed.wheel(x, y, 100, modifiers=CTRL)
    zoomed.until("!location.hash.includes('from')")
    assert zoomed.said == []


def test_a_press_outlasts_a_drawing(browser: Browser, serve: Serve) -> None:
    """What is pressed when new values are drawn is what is clicked: a title, a box of the list."""
    for name in ("first", "second"):
        record(name)
    browser.open(f"{serve().url}/#run=first")
    browser.until("document.querySelectorAll('.runs .name').length === 2")
    browser.js(
        "globalThis.kept = [...document.querySelectorAll('.runs thead button, .runs input, .runs tbody td')]"
    )
    browser.click(".runs th:nth-child(4) button")
    browser.until("document.querySelector('.runs th:nth-child(4)').textContent.includes('↑')")
    browser.click(".runs tbody tr:last-child input")
    browser.until("document.querySelectorAll('tr[aria-selected=true]').length === 2")
    browser.key("l")
    assert browser.js("kept.every((one) => one.isConnected)")
    assert browser.said == []


def test_what_is_under_a_pointer_that_rests(browser: Browser, serve: Serve) -> None:
    """It is of what is drawn, also where the axes stay as they are and only the values are others."""
    for rank, middle in ((0, 0.0), (1, 1.0)):
        values = np.full(51, middle)
        values[[0, 50]] = 0.0, 1.0
        write_long_run(Lake("lake"), "ranks", values, rank=rank)
    browser.open(f"{serve().url}/#run=ranks")
    browser.until(f"{DRAWN} === 1 && document.querySelector('select').value === '0'")
    browser.point(*browser.middle(OVER))
    shown = "document.querySelector('.tip b')?.textContent"
    browser.until(f"{shown} === '0'")
    browser.js(
        "const s = document.querySelector('select'); s.value = '1'; s.dispatchEvent(new Event('change'))"
    )
    browser.until(f"{shown} === '1'")
    assert browser.said == []
