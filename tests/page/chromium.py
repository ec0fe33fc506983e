"""A real browser for the tests: Chromium, spoken to over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BINARY = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-pipe",
)
#: Of the protocol's modifiers.
CTRL, SHIFT = 2, 8
#: A loaded machine needs many times what a quiet one does.
SECONDS = 90.0


def _pipe(*, inherited: int) -> tuple[int, int]:
    """A pipe; the end for the browser has a number that is none of 3 and 4, which the browser knows."""
    ends = [*os.pipe()]
    own = ends[inherited]
    ends[inherited] = fcntl.fcntl(own, fcntl.F_DUPFD, 100)
    os.close(own)
    return ends[0], ends[1]


class Browser:
    """One page in a Chromium of its own; ends with `close`."""

    def __init__(self, width: int = 1400, height: int = 900) -> None:
        assert BINARY is not None
        self.folder = tempfile.mkdtemp(prefix="chromium-")
        read_by_it, self._to = _pipe(inherited=0)
        self._from, written_by_it = _pipe(inherited=1)
        at_3_and_4 = f'exec "$@" 3<&{read_by_it} 4>&{written_by_it}'
        flags = (*_FLAGS, f"--user-data-dir={self.folder}", f"--window-size={width},{height}")
        self._process = subprocess.Popen(
            ["bash", "-c", at_3_and_4, "chromium", BINARY, *flags, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(read_by_it, written_by_it),
        )
        os.close(read_by_it)
        os.close(written_by_it)
        self._waiting = b""
        self._number = 0
        self._session: str | None = None
        #: What the page said to its console, and what its policy refused.
        self.said: list[str] = []
        #: Every address it asked for.
        self.asked: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Give a command, return what it came to."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            answer = self._read(end)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
        raise TimeoutError(method)

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("the browser is gone")
            self._waiting += part
        first, _, self._waiting = self._waiting.partition(b"\0")
        told: dict[str, Any] = json.loads(first)
        match told.get("method"):
            case "Log.entryAdded":
                self.said.append(told["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.said.append(str([one.get("value") for one in told["params"]["args"]]))
            case "Runtime.exceptionThrown":
                self.said.append(str(told["params"]["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
        return told

    def open(self, url: str) -> None:
        """Go there, and wait until the page has drawn."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.until("document.documentElement.dataset.ready !== undefined")

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = SECONDS) -> Any:
        """Wait until an expression is true; return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if (value := self.js(condition)) not in (None, False, "", 0):  # an element is {}
                    return value
            except RuntimeError:  # between two documents
                pass
            time.sleep(0.05)
        raise AssertionError(f"never true: {condition}; said: {self.said[-5:]}")

    def key(self, key: str) -> None:
        """Press a key, as a person does."""
        named = {"Enter": 13, " ": 32, "Escape": 27, "ArrowRight": 39}
        code = named.get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Type a text where the cursor is."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click into the middle of an element."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def drag(
        self, selector: str, start: float, end: float, *,
        button: str = "left", shift: bool = False, moves: int = 2,
    ) -> None:  # fmt: skip
        """Drag from one place of an element's width to another, as shares."""
        left, width, _, y = self.box(selector)
        at = [left + width * (start + (end - start) * move / moves) for move in range(moves + 1)]
        held: dict[str, Any] = {"modifiers": SHIFT if shift else 0, "y": y}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], **held)
        pressed = {"button": button, "clickCount": 1, **held}
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=at[0], **pressed)
        buttons = {"left": 1, "middle": 4}[button]
        for x in at[1:]:
            self.call(
                "Input.dispatchMouseEvent", type="mouseMoved", x=x, button=button, buttons=buttons, **held
            )
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=at[-1], **pressed)

    def wheel(self, x: float, y: float, down: float, *, across: float = 0, modifiers: int = 0) -> None:
        """Turn the wheel there."""
        turned = {"x": x, "y": y, "deltaX": across, "deltaY": down, "modifiers": modifiers}
        self.call("Input.dispatchMouseEvent", type="mouseWheel", **turned)

    def point(self, x: float, y: float) -> None:
        """Move the pointer there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, width, right and the middle's height of an element, scrolled into sight."""
        found = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'}); const r = e.getBoundingClientRect();"
            "return [r.left, r.width, r.right, r.top + r.height / 2]; })()"
        )
        return found[0], found[1], found[2], found[3]

    def middle(self, selector: str) -> tuple[float, float]:
        left, width, _, y = self.box(selector)
        return left + width / 2, y

    def texts(self, selector: str) -> list[str]:
        """The texts of all that a selector finds."""
        value: list[str] = self.js(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)"
        )
        return value

    def dark(self, *, is_dark: bool = True) -> None:
        """As for a person who prefers it so."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def resize(self, width: int, height: int) -> None:
        """A window of another size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def screenshot(self, path: Path | str) -> None:
        """What is in the window, as a PNG file."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End it, and remove what it wrote."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self.folder, ignore_errors=True)


Open = Callable[..., Browser]
