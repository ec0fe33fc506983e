"""The page as a person has it, in a real browser: clicks, keys, links, live values, names that mean harm."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from tests.page.chromium import Browser
from tests.page.conftest import HOSTILE, Cli, Serve, record

DRAWN = "document.querySelectorAll('.panel:not(.empty) canvas').length"


def ink(browser: Browser, metric: str) -> int:
    """How many pixels of a panel's canvas are drawn."""
    found: int = browser.js(
        f"(() => {{ const c = document.querySelector('[data-metric={metric}] canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; })()"
    )
    return found


def test_a_diverged_run_is_found_and_sent(browser: Browser, serve: Serve) -> None:
    """Among many: sorted by loss, looked at alone, zoomed; the address shows the same to somebody else."""
    for at in range(12):
        record(f"sweep-{at:02d}", lr=at / 100, diverges=at == 7)
    page = serve()
    browser.open(f"{page.url}/")
    browser.until("document.querySelectorAll('.runs td.n').length > 0")
    assert browser.texts(".runs .name")[0] == "sweep-11"
    browser.until("[...document.querySelectorAll('.runs tbody tr')].every((r) => r.cells[3].textContent)")
    for _ in range(2):  # the least first, then the greatest; all of the cell is to be clicked on
        browser.drag(".runs th:nth-child(4)", 0.05, 0.06)
    browser.until("document.querySelector('.runs .name').textContent === 'sweep-07'")
    browser.click(".runs tbody tr .name")
    browser.until("location.hash.includes('run=sweep-07') && !location.hash.includes('sweep-11')")
    browser.until(f"{DRAWN} >= 2 && document.title.startsWith('sweep-07')")
    assert ink(browser, "loss") > 500
    # of all values, as SQL has them
    query = "SELECT last, min, max, mean FROM summaries WHERE metric = 'loss'"
    (row,) = Lake("lake").query(query, run_id="sweep-07").to_pylist()
    told = browser.texts("[data-metric=loss] .numbers")[0].split(" · ")
    shown = {name: float(text) for name, text in (part.split() for part in told)}
    assert shown == pytest.approx(row, rel=1e-3)
    browser.drag("[data-metric=loss] .u-over", 0.6, 0.9)
    browser.until("/from=3[4-7].*to=5[1-5]/.test(location.hash)")
    browser.key("l")
    link = browser.until("location.hash.includes('log') && location.href")
    other = Browser(900, 700)
    try:
        other.open(link)
        other.until(f"{DRAWN} >= 2")
        assert other.texts("tr[aria-selected=true] .name") == ["sweep-07"]
        assert (
            other.js("document.querySelector('button[title^=Logarithmic]').getAttribute('aria-pressed')")
            == "true"
        )
        assert other.js("location.href") == link
    finally:
        other.close()
    browser.js("history.back()")
    browser.until("!location.hash.includes('log')")
    browser.key("r")
    browser.until("!location.hash.includes('from')")
    assert browser.said == []
    assert {url for url in browser.asked if not url.startswith((page.url, "about:"))} == set()


def test_a_made_id_is_shown_by_its_end(browser: Browser, serve: Serve) -> None:
    """All begin with a date, which has a column; the filter, the address and a hint have the whole."""
    for name in ("20261130-091532-brisk-ef20e0", "20261130-091532-v2"):
        record(name)
    browser.open(f"{serve().url}/#run=20261130-091532-brisk-ef20e0")
    browser.until("document.querySelectorAll('.runs .name').length === 2")
    assert set(browser.texts(".runs .name")) == {"brisk-ef20e0", "20261130-091532-v2"}
    browser.key("/")
    browser.type("0-091532-bris")
    browser.until("document.querySelectorAll('.runs .name').length === 1")
    assert browser.js("document.querySelector('.runs .name').title") == "20261130-091532-brisk-ef20e0"
    assert "run=20261130-091532-brisk-ef20e0" in browser.js("location.hash")


def test_the_keyboard_is_enough(browser: Browser, serve: Serve, lake: Lake) -> None:
    page = serve(lake)
    browser.open(f"{page.url}/#run=first")
    browser.key("/")
    browser.type("lr>0.15 second")
    browser.until("document.querySelectorAll('.runs .name').length === 1")
    browser.key("Escape")
    browser.key("j")
    browser.key(" ")
    browser.until("location.hash.includes('run=first&run=second')")
    browser.until("document.querySelectorAll('tr[aria-selected=true]').length === 1")
    browser.key("x")
    browser.until("location.hash.includes('x=epoch')")
    browser.key("s")
    browser.until("location.hash.includes('window=3')")
    browser.key("t")
    browser.until("document.querySelector('.layout.wide')")
    browser.key("?")
    browser.until("document.querySelector('dialog').open")
    assert "filter the runs" in browser.texts("dialog dd")
    assert browser.said == []


def test_names_are_texts(browser: Browser, serve: Serve, lake: Lake) -> None:
    """Whatever a run, a metric, a setting or a finding is called, no markup comes of it."""
    with Monitor("r-" + HOSTILE, lake="lake", quiet=True, config={HOSTILE: HOSTILE}) as monitor:
        monitor.log(step=0, loss=1.0, **{HOSTILE: 1.0})
        monitor.log(step=1, loss=1.0, **{HOSTILE: float("nan")})
    page = serve(lake)
    asked = urlencode([("run", HOSTILE), ("run", "r-" + HOSTILE), ("filter", ""), ("metrics", "")])
    browser.open(f"{page.url}/#{asked}")
    browser.until(f"{DRAWN} >= 3 && document.querySelectorAll('.findings li').length")
    assert HOSTILE in browser.texts(".runs .name")
    assert any(HOSTILE.split("<")[1] in text for text in browser.texts(".panel h2"))
    x, y = browser.middle(".u-over")
    browser.point(x, y)
    browser.until("!document.querySelector('.tip').hidden")
    browser.js("document.querySelector('.menu summary').click()")
    browser.until("document.querySelectorAll('.choices label').length > 1")
    assert browser.js("document.querySelectorAll('img, #app script, iframe').length") == 0
    assert browser.js("document.title") != "owned"
    assert browser.said == []


def test_a_run_is_watched_while_it_goes_on(browser: Browser, serve: Serve) -> None:
    monitor = record("going", ends=False)
    page = serve()
    browser.open(f"{page.url}/")
    browser.until(f"{DRAWN} >= 2 && document.querySelector('.live.on')")
    for step in range(60, 90):
        monitor.log(epoch=6, batch=step % 10, step=step, loss=3.0, accuracy=0.1)
    browser.until("document.querySelector('.shown').textContent.includes('step 89')")
    browser.until(
        "document.querySelector('[data-metric=loss] .plot').getAttribute('aria-label').includes('90 values')"
    )
    monitor.close()
    record("next")
    browser.until("document.querySelectorAll('.runs .name').length === 2")
    browser.until("document.querySelector('.shown').textContent.includes('completed')")
    page.server.stop()
    browser.until("document.querySelector('.live.off') && !document.querySelector('.problem').hidden")


def test_log_in(browser: Browser, serve: Serve, lake: Lake) -> None:
    page = serve(lake, token="s3cret-of-the-team")
    browser.call("Page.navigate", url=f"{page.url}/")
    for token, then in (
        ("wrong", "location.hash === '#wrong'"),
        ("s3cret-of-the-team", "location.pathname === '/'"),
    ):
        browser.until("document.querySelector('#token')")
        # no keys: a browser drops those that come before a new document's first picture
        field = "document.querySelector('#token')"
        browser.js(f"{field}.value = '{token}'; {field}.form.requestSubmit()")
        browser.until(then)
        if token == "wrong":
            shown = "getComputedStyle(document.querySelector('#wrong')).display"
            browser.until(f"{shown} === 'block'")
    browser.until("document.querySelectorAll('.runs .name').length === 3")
    assert browser.js("document.cookie") == ""
    assert not any("s3cret" in url for url in browser.asked)
    browser.click("form[action='/logout'] button")
    browser.until("location.pathname === '/login' && document.querySelector('#token')")
    browser.js("location.assign('/')")
    browser.until("location.pathname === '/login' && document.readyState === 'complete'")


def test_a_link_survives_the_log_in(browser: Browser, serve: Serve, lake: Lake) -> None:
    """Also where it is followed from another site, by somebody who has logged in already."""
    page = serve(lake, token="s3cret-of-the-team")
    browser.call("Page.navigate", url=f"{page.url}/#run=second&x=epoch")
    browser.until("location.pathname === '/login' && document.readyState === 'complete'")
    field = "document.querySelector('#token')"
    browser.js(f"{field}.value = 's3cret-of-the-team'; {field}.form.requestSubmit()")
    browser.until(f"location.pathname === '/' && {DRAWN} >= 2")
    assert browser.js("location.hash") == "#run=second&x=epoch"
    link = f"<a href='{page.url}/#run=first'>look</a>"
    browser.call("Page.navigate", url=f"data:text/html,{quote(link)}")
    browser.until("document.querySelector('a')")
    browser.click("a")
    browser.until(f"document.title.startsWith('first') && {DRAWN} >= 2")
    assert browser.said == []


def test_many_runs_in_a_narrow_window(browser: Browser, serve: Serve) -> None:
    """All of them at once; nothing sticks out of a telephone's screen, and dark colours are others."""
    for at in range(30):
        record(f"run-{at:02d}", steps=20, at=at)
    page = serve()
    browser.resize(400, 800)
    browser.open(f"{page.url}/")
    browser.until("document.querySelectorAll('.runs .name').length === 30")
    browser.click(".runs thead input")
    browser.until("document.querySelectorAll('tr[aria-selected=true]').length === 30")
    browser.until(f"{DRAWN} >= 2")
    assert browser.js("document.documentElement.scrollWidth <= innerWidth")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = browser.js(ground)
    browser.dark()
    assert browser.js(ground) != light
    assert browser.said == []


def test_one_file_that_opens_offline(browser: Browser, lake: Lake, cli: Cli, tmp_path: Path) -> None:
    """With all that the page has, and no request."""
    answer = cli("plot", "first", HOSTILE, "-o", "runs.html", "--x", "epoch")
    assert (answer.code, answer.err) == (0, "")
    browser.call(
        "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
    )
    browser.open((tmp_path / "runs.html").as_uri())
    browser.until(f"{DRAWN} >= 2")
    assert set(browser.texts(".runs .name")) == {"first", HOSTILE}
    assert browser.js("document.querySelector('[data-axis=epoch]').getAttribute('aria-pressed')") == "true"
    assert ink(browser, "loss") > 500
    browser.drag("[data-metric=loss] .u-over", 0.2, 0.5)
    browser.until("location.hash.includes('from=')")
    browser.key("s")
    browser.until("location.hash.includes('window=3')")
    assert browser.js("document.querySelectorAll('img, iframe').length") == 0
    assert [url for url in browser.asked if not url.startswith(("file:", "about:", "data:"))] == []
    assert browser.said == []
