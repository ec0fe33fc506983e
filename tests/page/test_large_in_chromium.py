"""The page with much to show, in a real browser: 400 runs, a run of 10 million samples, several ranks."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest

from entrenar_otel.lake import Lake
from tests.page.chromium import Browser
from tests.page.conftest import Cli, Serve
from tests.page.long_run import values_of, write_long_run

DRAWN = "document.querySelectorAll('.panel:not(.empty) canvas').length"
ROWS = "document.querySelectorAll('.runs .name').length"
_SHOWN = "document.querySelector('.tip b')?.textContent"
LABEL = "document.querySelector('[data-metric=loss] .plot').getAttribute('aria-label')"


def test_four_hundred_runs(browser: Browser, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed, filtered, sorted and scrolled through; a hundred of them drawn side by side."""
    # 2,400 waits for the disk were a third of the test, and tell nothing of the page
    monkeypatch.setattr("os.fsync", lambda _fd: None)
    lake = Lake("lake")
    for at in range(400):
        values = values_of(30) * (1 + at)
        if at == 123:
            values[20:] = math.inf
        write_long_run(lake, f"sweep-{at:03d}", values, settings={"lr": at / 1000, "seed": at % 7})
    page = serve(lake)
    browser.open(f"{page.url}/")
    browser.until(f"{ROWS} === 400")
    browser.until("[...document.querySelectorAll('.runs tbody tr')].every((r) => r.cells[3].textContent)")
    name = "document.querySelector('.runs .name').textContent"
    for _ in range(2):  # the least loss first, then the greatest
        browser.click(".runs th:nth-child(4) button")
    browser.until(f"{name} === 'sweep-123'")
    browser.click(".runs th:nth-child(2) button")
    browser.until(f"{name} === 'sweep-000'")
    # the last one is scrolled to by the wheel, and chosen
    x, y = browser.middle(".scroll")
    browser.wheel(x, y, 100_000)
    last = "[...document.querySelectorAll('.runs tbody tr')].at(-1).getBoundingClientRect()"
    browser.until(f"{last}.bottom <= innerHeight + 1 && {last}.top > 0")
    browser.click(".runs tbody tr:last-child .name")
    browser.until("document.title.startsWith('sweep-399')")
    browser.key("/")
    browser.type("seed=3 lr<0.2")
    wanted = [f"sweep-{at:03d}" for at in range(200) if at % 7 == 3]
    browser.until(f"{ROWS} === {len(wanted)}")
    assert browser.texts(".runs .name") == wanted
    browser.js("document.querySelector('[aria-label=\"Filter runs\"]').select()")
    browser.type("sweep-0")
    browser.until(f"{ROWS} === 100")
    browser.click(".runs thead input")
    browser.until("document.querySelectorAll('tr[aria-selected=true]').length === 100")
    browser.until(f"{LABEL} === 'loss: 100 curves of 3000 values'")
    assert browser.js(f"location.hash.split('run=').length - 1 === 100 && {DRAWN} === 1")
    # what was asked for to see them: a few first, all others at once
    asked = [url.count("run=") for url in browser.asked if "/api/facts" in url]
    assert (asked[-2], max(asked[:-2])) == (4, 1)
    assert asked[-1] in (95, 96)  # one may be known from the beginning
    assert browser.said == []


def test_ten_million_samples(browser: Browser, serve: Serve) -> None:
    """From the whole, where a spike of one step is seen, down to single samples as the lake has them."""
    count, spike = 10_000_000, 6_543_210
    values = values_of(count)
    values[spike] = 7.25
    write_long_run(Lake("lake"), "long", values)
    page = serve()
    browser.open(f"{page.url}/#run=long")
    browser.until(f"{LABEL} === 'loss: 1 curves of {count} values'")
    # the address of a few samples around it, as somebody would send it
    asked = urlencode({"run": "long", "from": spike - 10.5, "to": spike + 9.5})
    browser.open(f"{page.url}/#{asked}")
    browser.until(f"{DRAWN} === 1")
    shown: dict[int, float] = {}
    for step in range(spike - 5, spike + 6):
        left, width, _, y = browser.box("[data-metric=loss] .u-over")
        browser.point(left + width * (step - (spike - 10.5)) / 20, y)
        tip = "document.querySelector('.tip')"
        browser.until(f"{tip}.textContent.includes('step {step:,}') && {tip}.querySelector('b')")
        shown[step] = float(browser.js(f"{tip}.querySelector('b').textContent"))
    np.testing.assert_allclose([shown[step] for step in shown], values[[*shown]], rtol=1e-3)
    assert shown[spike] == 7.25
    # further: there is nothing between two samples
    browser.key("ArrowRight")
    browser.until("Number(/from=([\\d.]+)/.exec(location.hash)[1]) > 6543204")
    browser.key("r")
    browser.until("!location.hash.includes('from')")
    assert browser.said == []


def test_a_rank_is_chosen(browser: Browser, serve: Serve) -> None:
    """By the box above the curves; which it is is said, and is in the address."""
    for rank in (0, 1, 2):
        write_long_run(Lake("lake"), "ranks", np.full(50, 10.0 * rank), rank=rank)
    page = serve()
    browser.open(f"{page.url}/")
    browser.until(
        f"{DRAWN} === 1 && document.querySelector('.shown').textContent.includes('rank 0 of 3 ranks')"
    )
    assert browser.texts("select option") == ["rank 0", "rank 1", "rank 2"]
    browser.js(
        "const s = document.querySelector('select'); s.value = '2'; s.dispatchEvent(new Event('change'))"
    )
    browser.until("document.querySelector('.shown').textContent.includes('rank 2 of 3 ranks')")
    browser.point(*browser.middle("[data-metric=loss] .u-over"))
    link = browser.until("location.hash.includes('rank=2') && location.href")
    browser.until(f"{_SHOWN} === '20'")
    browser.js("history.back()")
    browser.until("document.querySelector('.shown').textContent.includes('rank 0 of 3 ranks')")
    browser.open(link)
    browser.until(f"{DRAWN} === 1 && document.querySelector('select').value === '2'")
    browser.point(*browser.middle("[data-metric=loss] .u-over"))
    browser.until(f"{_SHOWN} === '20'")
    assert browser.said == []


def test_a_rank_is_chosen_in_a_file(browser: Browser, cli: Cli, tmp_path: Path) -> None:
    """Offline as well, with what the file does not have in words."""
    for rank in (0, 1, 2):
        write_long_run(Lake("lake"), "ranks", np.full(50, 10.0 * rank), rank=rank)
    assert cli("plot", "ranks", "-o", "ranks.html").code == 0
    browser.open((tmp_path / "ranks.html").as_uri())
    browser.until(f"{DRAWN} === 1")
    assert browser.texts("select option") == ["rank 0", "rank 1", "rank 2"]
    assert browser.texts(".left-out") == ["A file. Of its 3 curves it has every value."]
    browser.js(
        "const s = document.querySelector('select'); s.value = '2'; s.dispatchEvent(new Event('change'))"
    )
    browser.until("document.querySelector('.shown').textContent.includes('rank 2 of 3 ranks')")
    browser.point(*browser.middle("[data-metric=loss] .u-over"))
    browser.until(f"{_SHOWN} === '20'")
    assert "rank=2" in browser.js("location.hash")
    assert browser.said == []
