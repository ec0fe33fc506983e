"""Stacks: where every thread of this process is, in Python, as a text for a person.

Nothing here touches a disk: a source file may lie on the very file system that hangs. So lines have numbers
and no text.
"""

from __future__ import annotations

import itertools
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

from entrenar_otel.redact import printable_line

#: Frames of one thread, and threads, beyond which a text says how many there are more.
_MAX_FRAMES, _MAX_THREADS = 100, 200
#: Innermost frames that a summary names.
_SHOWN = 3
_OURS, _OUR_THREADS = "entrenar_otel", "entrenar-"
#: Modules in whose frames a person looks at the loop: it stands still on purpose.
_DEBUGGERS = ("bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy")
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class Frame(NamedTuple):
    """One frame: its function, file, line and module."""

    function: str
    file: str
    line: int
    module: str

    def __str__(self) -> str:
        return f"{self.function} ({os.path.basename(self.file)}:{self.line})"

    @property
    def is_of_program(self) -> bool:
        """Whether it is the program's own, and of no library."""
        return not self.file.startswith((*_INSTALLED, "<frozen")) and not self.is_in(_OURS)

    def is_in(self, *packages: str) -> bool:
        """Whether its module is in one of these packages."""
        return self.module.partition(".")[0] in packages


class Stacks:
    """The frames of all threads at one moment; `loop` is the thread of the loop, by default the main one.

    >>> Stacks().where.startswith("MainThread is in ")
    True
    """

    def __init__(self, loop: int | None = None) -> None:
        chosen = threading.main_thread().ident if loop is None else loop
        frames = sys._current_frames()
        self._names = {thread.ident: thread.name for thread in threading.enumerate()}
        self.loop = chosen
        self._stacks = {ident: tuple(_frames(frame)) for ident, frame in frames.items()}

    @property
    def of_loop(self) -> tuple[Frame, ...]:
        """The frames of the loop's thread, innermost first; none where it runs no Python."""
        return self._stacks.get(self.loop or 0, ())

    @property
    def is_at_rest(self) -> bool:
        """Whether a person has the word: in a debugger, or at a prompt or a notebook that runs nothing."""
        frames = self.of_loop
        if not frames or any(frame.is_in(*_DEBUGGERS) for frame in frames):
            return True
        of_notebook = any(frame.is_in("ipykernel", "IPython") for frame in frames)
        return of_notebook and not any(frame.function.endswith("run_code") for frame in frames)

    @property
    def where(self) -> str:
        """Where the loop's thread is: its innermost frames, and where in the program that is.

        Locks and monitoring itself are left out: what waits in them is what matters.
        """
        frames = [frame for frame in self.of_loop if not frame.is_in(_OURS, "threading")]
        frames = frames or [*self.of_loop]
        if not frames:
            return f"{self._name(self.loop)} runs no Python"
        parts = frames[:_SHOWN]
        mine = next((frame for frame in frames if frame.is_of_program), None)
        calls = ", called by ".join(map(str, parts))
        if mine is not None and mine not in parts:
            calls += f", from {mine}"
        return printable_line(f"{self._name(self.loop)} is in {calls}")

    def text(self, heading: str) -> str:
        """All threads, the loop's first and those of monitoring last, innermost frames first."""
        order = sorted(self._stacks, key=lambda ident: (ident != self.loop, self._is_ours(ident), ident))
        parts = [
            f"{printable_line(heading)}\nProcess {os.getpid()}; innermost frames first. A thread that is in "
            "C code is at the Python line that called it:\n`py-spy dump --native --pid PID` shows more.\n"
        ]
        for ident in order[:_MAX_THREADS]:
            mark = ", the loop's" if ident == self.loop else ""
            parts.append(f"\nThread {self._name(ident)} ({ident:#x}{mark}):\n")
            parts += [_line(frame) for frame in self._stacks[ident][:_MAX_FRAMES]]
            if (more := len(self._stacks[ident]) - _MAX_FRAMES) > 0:
                parts.append(f"  and {more} more frames\n")
        if (more := len(order) - _MAX_THREADS) > 0:
            parts.append(f"\nand {more} more threads\n")
        return "".join(parts)

    def _name(self, ident: int | None) -> str:
        return printable_line(self._names.get(ident, "(not of Python's threading)"))

    def _is_ours(self, ident: int) -> bool:
        return self._names.get(ident, "").startswith(_OUR_THREADS)


def _line(frame: Frame) -> str:
    return printable_line(f'File "{frame.file}", line {frame.line}, in {frame.function}').join(("  ", "\n"))


def _frames(innermost: FrameType) -> Iterator[Frame]:
    frame: FrameType | None = innermost
    for _ in itertools.count():
        if frame is None:
            return
        code = frame.f_code
        module = frame.f_globals.get("__name__")
        yield Frame(
            code.co_qualname.rpartition("<locals>.")[2], code.co_filename, frame.f_lineno or 0, str(module)
        )
        frame = frame.f_back
