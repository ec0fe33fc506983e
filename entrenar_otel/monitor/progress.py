"""Progress: what a person sees while the loop runs, drawn by the heartbeat, never by the loop."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TextIO

from entrenar_processors.durations import text_of
from entrenar_processors.metric_names import name_in

from entrenar_otel.console import is_terminal, shown, write
from entrenar_otel.monitor.notebook import NotebookLine

if TYPE_CHECKING:
    from entrenar_processors import Series, Summary


#: Metrics whose last values are in the line, by whatever names they are logged.
SHOWN = ("loss", "accuracy")


class Counts(NamedTuple):
    """How far a loop is."""

    batch: int = 0
    """How many batches of its epoch have begun."""
    steps: int = 0
    """How many training steps are over."""
    is_in_step: bool = False
    """Whether one goes on."""


class Progress:
    """One line: epoch, batch, rate, time left, last values.

    On a terminal and in a notebook it is redrawn in place. Elsewhere (a log file) it is a plain line every
    `log_seconds`, so that logs stay short.
    """

    def __init__(
        self,
        summaries: Callable[[], dict[Series, Summary]],
        stream: TextIO | None = None,
        log_seconds: float = 60.0,
        *,
        counts: Callable[[], Counts] = Counts,
    ) -> None:
        self._summaries = summaries
        self.counts = counts
        self._stream = stream
        self._log_seconds = log_seconds
        self._last_line = time.monotonic()
        self._start_seconds: float | None = None
        self._drawn = False
        self._notebook = NotebookLine()
        self.epochs: int | None = None
        self.epoch = 0
        self.batches: int | None = None
        self.active = False
        #: Loops that run now, one within the other. Between loops a notebook's cell that only looks gets no
        #: line of progress.
        self.loops = 0

    def begin_epoch(self, epoch: int, epochs: int | None) -> None:
        self.epoch, self.epochs = epoch, epochs
        self.begin()

    def begin(self) -> None:
        """From now on there is something to show; the rate counts from the first time."""
        self.active = True
        if self._start_seconds is None:
            self._start_seconds = time.monotonic()

    def draw(self) -> None:
        """Called once per tick."""
        stream = self._stream or sys.stderr
        if not self.active:
            return
        if self._stream is None and NotebookLine.is_there():
            self._notebook.write(self.line(), may_begin=self.loops > 0 or self.counts().is_in_step)
        elif is_terminal(stream):
            if _has_other_bar():
                self._erase()
                return
            self._drawn = True
            write(stream, f"\r\x1b[2K{self.line()}\r")  # what comes next, a traceback say, begins the line
        elif time.monotonic() - self._last_line >= self._log_seconds:
            self._last_line = time.monotonic()
            write(stream, self.line() + "\n")

    def clear(self) -> None:
        """Leave the terminal's line empty for whoever writes next."""
        if self.active and self._notebook.is_drawn:
            self._notebook.write(self.line())  # how far it came, which stays
        self._erase()
        self.active = False

    def _erase(self) -> None:
        if self._drawn:
            write(self._stream or sys.stderr, "\r\x1b[2K")
            self._drawn = False

    def line(self, width: int | None = None) -> str:
        """The line, never wider than the terminal: one that wraps cannot be redrawn."""
        width = width or shutil.get_terminal_size((100, 24)).columns - 1
        parts = list(self._parts())
        while len(parts) > 2 and len(" · ".join(parts)) > width:
            parts.pop()
        return shown(" · ".join(parts))[:width]

    def _parts(self) -> Iterator[str]:
        now, (batch, steps, _) = time.monotonic(), self.counts()
        seconds = max(now - (self._start_seconds or now), 1e-9)
        yield f"epoch {self.epoch + 1}" + (f"/{self.epochs}" if self.epochs else "")
        yield f"batch {batch}" + (f"/{self.batches}" if self.batches else "")
        if steps:
            yield f"{steps / seconds:,.0f} steps/s"
        if self.epochs and self.batches and steps:
            left = (self.epochs - self.epoch) * self.batches - batch
            yield f"{text_of(round(left * seconds / steps))} left"  # in whole seconds: it is a guess
        for series, summary in self._summaries().items():
            if name_in(SHOWN, series):
                split = f" ({', '.join(v for _, v in series.tags)})" if series.tags else ""
                yield f"{series.metric}{split} {summary.last:.4g}"


def _has_other_bar() -> bool:
    """Whether a bar of tqdm's is open, which draws its line in the same place: the loop's own choice."""
    bars = getattr(getattr(sys.modules.get("tqdm.std"), "tqdm", None), "_instances", ())
    try:
        return any(not getattr(bar, "disable", True) for bar in tuple(bars))
    except RuntimeError:  # a bar is opened or closed just now
        return True
