"""The end of a run on the page: whoever scrapes is told how it ended, and nobody waits for nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.prometheus.page import MetricsPage, wait_for_scrapes

SECONDS = 60.0  # that a test waits at most for what comes at once
Serving = Callable[..., AbstractContextManager[MetricsPage]]
Ask = Callable[..., Any]

PROGRAM = """
import os, sys
from entrenar_otel import Monitor

monitor = Monitor("r", lake=sys.argv[1], live=sys.argv[2], quiet=True)
monitor.start()
monitor.log(loss=1.0)
sys.stdin.read()
{end}
"""


def scraped_regularly(page: MetricsPage, every: float = 30.0) -> None:
    """As by a scraper with that interval."""
    now = time.monotonic()
    for ago in (every, 0.0):
        page._scrapes.answered("192.0.2.1", now - ago)


def test_one_more_scrape(serving: Serving, ask: Ask, until: Any) -> None:
    """The page stays until somebody has had what is true from then on."""
    with serving() as page:
        scraped_regularly(page)
        page.linger(300.0)
        assert page.is_lingering
        assert ask(page, method="HEAD").status == 200  # looks, and takes nothing
        assert ask(page, "/").status == 200
        assert page.is_lingering
        assert ask(page).status == 200
        until(lambda: not page.is_lingering)
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset
            ask(page)


def test_one_more_scrape_at_exit(serving: Serving, ask: Ask, capfd: pytest.CaptureFixture[str]) -> None:
    """None comes: it is waited for so long, and said."""
    with serving() as page:
        scraped_regularly(page)
        page.linger(0.5)
        assert page.is_lingering
        wait_for_scrapes()
        assert not page.is_lingering
        with pytest.raises(OSError):  # noqa: PT011 - refused or reset
            ask(page)
    assert (
        "for one last scrape (Ctrl-C ends it, ENTRENAR_METRICS_LINGER=0 does without)"
        in capfd.readouterr().err
    )


def test_nobody_scrapes(serving: Serving, ask: Ask, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is waited for; nor where somebody looked once, or it is switched off."""
    with serving() as page:
        page.linger(15.0)
        assert not page.is_lingering
        assert ask(page).status == 200
        page.linger(15.0)
        assert not page.is_lingering
        scraped_regularly(page)
        page.linger(0.0)
        assert not page.is_lingering
        wait_for_scrapes()
    assert capfd.readouterr().err == ""


def test_without_new_threads(
    serving: Serving, ask: Ask, monkeypatch: pytest.MonkeyPatch, loss: bytes
) -> None:
    """From Python 3.12 on none can be started at exit; the scrape is answered all the same."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with serving() as page:
        scraped_regularly(page)
        page.linger(300.0)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert ask(page).body.endswith(loss)


def test_the_next_run_takes_over(serving: Serving, ask: Ask) -> None:
    """A page that lingers gives way to the next one."""
    with serving() as page:
        scraped_regularly(page)
        page.linger(15.0)
        with serving() as second:
            assert not page.is_lingering
            assert ask(second).status == 200


@contextmanager
def training(tmp_path: Path, end: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process whose page has been found, and what its URL is."""
    environ = os.environ | {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    command = [sys.executable, "-c", PROGRAM.format(end=end), str(tmp_path / "lake"), str(tmp_path / "live")]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            folder, end_at = tmp_path / "live" / "targets", time.monotonic() + SECONDS
            while not (found := list(folder.glob("*.json"))):
                assert time.monotonic() < end_at
                time.sleep(0.05)
            (entry,) = json.loads(found[0].read_text())
            yield process, f"http://{entry['targets'][0]}/metrics"
        finally:
            process.kill()


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        text: str = answer.read().decode()
        return text


def state_of(text: str) -> float:
    (line,) = (line for line in text.splitlines() if line.startswith("training_run_state{"))
    return float(line.split()[-1])


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ("monitor.close()", 4),
        ("raise SystemError('bad')", 5),
        ("monitor.close('stopped')", 3),
    ],
)
def test_a_scraper_sees_how_a_run_ended(tmp_path: Path, end: str, state: int) -> None:
    """Found by the file, scraped at a steady pace; afterwards the file is gone."""
    with training(tmp_path, end) as (process, url):
        for _ in range(2):
            assert state_of(scrape(url)) == 1
            time.sleep(3.0)
        assert process.stdin is not None
        process.stdin.close()
        seen = 1.0
        while seen == 1:
            seen = state_of(scrape(url))
            time.sleep(3.0)  # a scraper comes when it comes; it is waited for twice as long
        assert seen == state
        assert process.wait(SECONDS) == (state == 5)
    assert not list((tmp_path / "live" / "targets").iterdir())


def test_a_run_that_nobody_scrapes_ends_at_once(tmp_path: Path) -> None:
    """It says nothing of scrapes."""
    with training(tmp_path, "monitor.close()") as (process, url):
        scrape(url)
        _, told = process.communicate("", timeout=SECONDS)
    assert process.returncode == 0
    assert "scrape" not in told
