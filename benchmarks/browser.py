"""Browser: what the page costs in a real Chromium, headless and without a graphics card.

A run of 1,000,000 samples of one series is in a lake, and a page serves it from this process. CPU times,
which a busy machine disturbs least, come from Chromium's own trace: of the page's main thread, task by task.
The first look is the CPU time of the server, which has shown another run before, and of the main thread, from
the address to the drawn curve. Pan and zoom: of 60 steps by the keyboard, 20 drags of twelve moves and 20
zooms by the mouse, each with its answers from the server drawn, what the most expensive task between two
frames took.

Plain TypeScript against the server, and against WebAssembly at its best, in which it would take no time at
all: 1,000,000 values thinned to 1,000 columns, and smoothed, by the page's own loops in Chromium, the least
of 20; and a fifth of the curve asked from the server, the least of 20 answers.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.harness import ROOT, Row, temporary
from entrenar_otel.lake import Lake
from entrenar_otel.page.answers import Answers
from entrenar_otel.page.server import PageServer
from entrenar_otel.page.settings import PageSettings
from entrenar_otel.web.address import Address
from tests.page.chromium import BINARY, Browser
from tests.page.long_run import values_of, write_long_run

COUNT, PANS, DRAGS, ZOOMS, REPEATS = 1_000_000, 60, 20, 20, 20
_DRAWN = "document.querySelectorAll('.panel:not(.empty) canvas').length"
_THIN = """
import { extremes, smoothed } from "./thin";
const y = Float64Array.from({ length: COUNT }, (_, at) => Math.sin(at * 1.7) + at / COUNT);
const least = (work) => {
  let best = Infinity;
  for (let at = 0; at < REPEATS; at++) {
    const start = performance.now();
    work();
    best = Math.min(best, performance.now() - start);
  }
  return best;
};
globalThis.measured = [least(() => extremes(y, 1000)), least(() => smoothed(y, 101))];
"""


class _Traced(Browser):
    """Keeps what Chromium's tracing tells."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._is_complete = False
        super().__init__()

    def _read(self, end: float) -> dict[str, Any]:
        told = super()._read(end)
        if told.get("method") == "Tracing.dataCollected":
            self.events += told["params"]["value"]
        self._is_complete |= told.get("method") == "Tracing.tracingComplete"
        return told

    def start(self) -> None:
        """Trace from now on."""
        self.events, self._is_complete = [], False
        categories = ["toplevel"]
        self.call(
            "Tracing.start", traceConfig={"includedCategories": categories}, transferMode="ReportEvents"
        )

    def tasks_ms(self) -> list[float]:
        """End it: the CPU time of each task of the page's main thread."""
        self.call("Tracing.end")
        while not self._is_complete:
            self._read(time.monotonic() + 90)
        names = {
            (event["pid"], event["tid"]): event["args"]["name"]
            for event in self.events
            if event["name"] == "thread_name"
        }
        busiest: dict[tuple[int, int], list[float]] = {}
        done: dict[tuple[int, int], float] = {}
        for event in sorted(self.events, key=lambda event: -event.get("ts", 0)):
            thread = event["pid"], event["tid"]
            if (
                event["name"].endswith("RunTask")
                and names.get(thread) == "CrRendererMain"
                and "tdur" in event
            ):
                # one that holds another is the browser's, which reads what we tell it
                if event["ts"] + event["dur"] <= done.get(thread, np.inf):
                    busiest.setdefault(thread, []).append(event["tdur"] / 1e3)
                done[thread] = event["ts"]
        return max(busiest.values(), key=sum)


def measure() -> Iterator[Row]:
    if BINARY is None:
        yield Row("the page in a browser", None, None, "", "there is no chromium")
        return
    with temporary() as folder:
        lake = Lake(folder / "lake", live=folder / "live")
        write_long_run(lake, "long", values_of(COUNT))
        write_long_run(lake, "short", values_of(1000))
        server = PageServer(Answers(lake), PageSettings(Address("127.0.0.1", 0)))
        server.start()
        browser = _Traced()
        try:
            yield from _looks(browser, server)
            yield from _loops(browser, server)
        finally:
            browser.close()
            server.answers.runs.wait()
            server.stop()


def _looks(browser: _Traced, server: PageServer) -> Iterator[Row]:
    browser.open(f"http://{server.address}/#run=short")  # what a server does once
    browser.until(f"{_DRAWN} === 1")
    server.answers.runs.wait()
    browser.start()
    cpu, wall = time.process_time(), time.perf_counter()
    browser.open(f"http://{server.address}/#run=long")
    browser.until(f"{_DRAWN} === 1 && document.title.startsWith('long')")
    wall = time.perf_counter() - wall
    browser_s, server_s = sum(browser.tasks_ms()) / 1e3, time.process_time() - cpu
    yield Row(f"{COUNT:,} values, from the address to the drawn curve, CPU", 1.0, browser_s + server_s, "s",
              f"server {server_s:.2g} s, browser {browser_s:.2g} s; by the clock {wall:.2g} s")  # fmt: skip
    browser.js("location.hash = '#run=long&from=100000&to=110000'")
    browser.until("!document.querySelector('button[title^=\"The whole\"]').hidden")
    yield _steps("pan by a key", PANS, browser, lambda: browser.key("ArrowRight"))

    def drag() -> None:
        browser.drag("[data-metric=loss] .u-over", 0.7, 0.3, shift=True, moves=12)

    yield _steps("pan by the mouse", DRAGS, browser, drag)
    browser.key("r")
    browser.until("!location.hash.includes('from=')")

    def zoom() -> None:
        browser.drag("[data-metric=loss] .u-over", 0.1, 0.9)

    yield _steps("zoom", ZOOMS, browser, zoom)


def _steps(what: str, count: int, browser: _Traced, step: Any) -> Row:
    worst: list[float] = []
    for _ in range(count):
        browser.start()
        before = browser.js("location.hash")
        asked = len(browser.asked)
        step()
        browser.until(f"location.hash !== {json.dumps(before)}")
        end = time.monotonic() + 90
        while len(browser.asked) == asked and time.monotonic() < end:
            browser.js("1")
        # its answer drawn, and what is drawn shown
        browser.js(
            "new Promise((done) => setTimeout(() => requestAnimationFrame(() => setTimeout(done, 0)), 100))"
        )
        worst.append(max(browser.tasks_ms()))
    p50, p99 = np.percentile(worst, [50, 99])
    return Row(f"{what}: the longest task of a step, p99 of {count}, CPU", 16.0, float(p99), "ms",
               f"p50 {p50:.2g} ms, worst {max(worst):.2g} ms")  # fmt: skip


def _loops(browser: _Traced, server: PageServer) -> Iterator[Row]:
    source = _THIN.replace("COUNT", str(COUNT)).replace("REPEATS", str(REPEATS))
    esbuild = ROOT / "page" / "node_modules" / ".bin" / "esbuild"
    if not esbuild.exists():
        yield Row("a loop in TypeScript", None, None, "", "run `npm ci` in page/")
        return
    script = subprocess.run(
        [esbuild, "--bundle", "--minify", "--loader=ts"],
        input=source, cwd=ROOT / "page" / "src", check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    browser.call("Page.navigate", url="about:blank")
    browser.until("location.href === 'about:blank'")
    browser.js(script)
    thin_ms, smooth_ms = browser.js("measured")
    asked = {"run": ["long"], "metric": ["loss"], "columns": ["1000"]}
    part = {"from": ["400000"], "to": ["600000"]}
    answers, times = server.answers, {}
    for name, query in (("", part), (" smoothed", part | {"window": ["101"]})):
        answers.answer("/api/curves", asked | query, "")
        times[name] = min(_cpu_ms(answers, asked | query) for _ in range(REPEATS))
    yield Row(f"a loop in TypeScript thins {COUNT:,} values to 1,000 columns", None, thin_ms, "ms")
    yield Row("… smooths them over 101", None, smooth_ms, "ms")
    size = len(answers.answer("/api/curves", asked | part, "").body or b"")
    yield Row("the server answers a zoom, CPU", None, times[""], "ms", f"{size / 1e3:,.0f} kB")
    yield Row("… smoothed over 101", None, times[" smoothed"], "ms")


def _cpu_ms(answers: Answers, query: dict[str, list[str]]) -> float:
    before = time.process_time()
    answers.answer("/api/curves", query, "")
    return 1e3 * (time.process_time() - before)
