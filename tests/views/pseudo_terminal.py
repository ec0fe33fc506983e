"""A command on a pseudo-terminal: what it writes, and in which state it leaves the terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from typing import Any

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_COLOUR = re.compile(r"\x1b\[([\d;]*)m")
_WAIT_SECONDS = 120.0


class PseudoTerminal:
    """`entrenar-otel` with these arguments on a terminal of `rows` × `columns`."""

    def __init__(
        self, *arguments: str, rows: int = 24, columns: int = 80, environ: Mapping[str, str] | None = None
    ) -> None:
        self._master, self._slave = pty.openpty()
        termios.tcsetwinsize(self._slave, (rows, columns))
        self._before = termios.tcgetattr(self._slave)
        self._seen = b""
        surroundings = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
        for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
            surroundings.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "entrenar_otel.cli.main", *arguments],
            stdin=self._slave, stdout=self._slave, stderr=self._slave, start_new_session=True,
            env={**surroundings, **(environ or {})},
        )  # fmt: skip

    def __enter__(self) -> PseudoTerminal:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def raw(self) -> str:
        """All that was written."""
        return self._seen.decode(errors="replace")

    @property
    def text(self) -> str:
        """The same without what steers the terminal."""
        return _SEQUENCE.sub("", self.raw)

    def colours(self) -> set[str]:
        """The parameters that set a colour."""
        found = {part for whole in _COLOUR.findall(self.raw) for part in whole.split(";")}
        return {part for part in found if re.fullmatch(r"(?:3[0-8]|4[0-8]|9\d|10\d)", part)}

    def wait_for(self, true: str | Callable[[], Any]) -> None:
        """Read until a text has been written since the last call, or something is true."""
        start, end = len(self._seen), time.monotonic() + _WAIT_SECONDS
        while not (
            true()
            if callable(true)
            else true in _SEQUENCE.sub("", self._seen[start:].decode(errors="replace"))
        ):
            assert time.monotonic() < end, f"not seen in time: {true}\n{self.text[-2000:]}"
            assert self.process.poll() is None or self._read(0.2), f"it ended before: {true}\n{self.text}"
            self._read(0.1)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        self._seen += os.read(self._master, 65536)
        return True

    def press(self, keys: str) -> None:
        """As a person does."""
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """As a terminal does: the size, and the signal."""
        termios.tcsetwinsize(self._slave, (rows, columns))
        os.killpg(self.process.pid, signal.SIGWINCH)

    def end(self) -> int:
        """Read to the end, and return the exit status; nothing that no terminal should get was written."""
        end = time.monotonic() + _WAIT_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            self._read(0.1)
        while self._read(0.2):
            pass
        status = self.process.poll()
        assert status is not None, "it did not end"
        assert "Traceback" not in self.text
        assert self.raw.count("\x1b[?1049h") == self.raw.count("\x1b[?1049l")
        assert self.raw.rfind("\x1b[?1049l") >= self.raw.rfind("\x1b[?1049h")
        assert self.raw.rfind("\x1b[?25h") >= self.raw.rfind("\x1b[?25l")
        assert termios.tcgetattr(self._slave)[:4] == self._before[:4]
        return status
