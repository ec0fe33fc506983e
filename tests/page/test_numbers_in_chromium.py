"""Any numbers on the page's axes, in a real browser: a run that diverges comes to all of them."""

from __future__ import annotations

import math

from entrenar_otel import Monitor
from tests.page.chromium import Browser
from tests.page.conftest import Serve

GREATEST, LEAST = 1.7976931348623157e308, 5e-324
VALUES = {
    "diverged": [10.0**power for power in range(-3, 40)],
    "to-the-end": [1.0, 1e30, 1e150, 1e300, GREATEST, math.inf],
    "both-ends": [-GREATEST, 0.0, GREATEST],
    "vanished": [10.0**-power for power in range(0, 320, 7)] + [LEAST, 0.0],
    "the-least": [LEAST, LEAST],
    "one": [0.5],
    "zero": [0.0] * 5,
    "close": [1e16, 1e16 + 2, 1e16 + 4],
    "negative": [-1.0, -2.0, -1e-30],
    "ordinary": [2.0, 1.5, 1.2, 1.1],
}
_INK = """(() => {
    const c = document.querySelector('[data-metric=value] canvas');
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n;
})()"""


def test_any_numbers_are_drawn(browser: Browser, serve: Serve) -> None:
    """Alone and together, on both kinds of y-axis; nothing fails, and an axis has no endless lines."""
    for name, values in VALUES.items():
        with Monitor(name, lake="lake", quiet=True, processors=[]) as monitor:
            for step, value in enumerate(values):
                monitor.log({"value": value}, step=step)
    page = serve()
    names = "&".join(f"run={name}" for name in VALUES)
    for chosen in (*(f"run={name}" for name in VALUES), names):
        for log in ("", "&log="):
            browser.open(f"{page.url}/#{chosen}{log}")
            browser.until("document.querySelectorAll('.panel:not(.empty) canvas').length")
            browser.until(f"{_INK} > 100")
            assert browser.js("document.querySelector('.problem').hidden"), (chosen, log)
            assert browser.said == [], (chosen, log)
