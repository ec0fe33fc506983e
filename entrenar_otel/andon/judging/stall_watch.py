"""Stall watch: a loop that went on and makes no step any more, and where its threads are.

It runs on the heartbeat's thread, which goes on where the loop hangs. Where C code holds the GIL, or the
process is suspended, nothing in it runs, this neither: from outside that is a run without heartbeats
(`TrainingLost` in Prometheus).
"""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from entrenar_processors import Block, Coordinates, Finding, Samples, Series, Severity
from entrenar_processors.config.build import STALLED
from entrenar_processors.durations import text_of
from entrenar_processors.metric_names import TRAIN, split_of, watched_in
from entrenar_processors.samples import ABSENT, Singles

from entrenar_otel.andon.judging.loader_wait import LoaderWait
from entrenar_otel.andon.judging.stacks import Stacks
from entrenar_otel.semconv import Metric, is_of_machine

if TYPE_CHECKING:
    from entrenar_processors.config.models import StalledSettings

#: What the loop is at: within `steps()`; within `epochs()` and between two `steps()`; at an end, after loops;
#: and what nobody knows, of a program that only logs.
Phase = Literal["steps", "epochs", "over", "unknown"]
#: The phase, and the thread of the loop where it is known.
LoopPlace = tuple[Phase, int | None]

_STEP_DURATION = frozenset({Metric.STEP_DURATION})
#: Steps without which nobody knows how long one takes.
_MIN_STEPS = 3
#: Of so many steps the median is taken; and rows of one tick that are looked at.
_MEDIAN_OF, _ROWS = 512, 64
#: A silence that ended by itself is no alarm when it comes again, nor one of twice its length; but what is
#: longer than this, is.
_LONGEST_NORMAL_SECONDS = 3600.0
#: Of a tick that comes late no more than so many intervals are counted: nobody looked meanwhile.
_INTERVALS_COUNTED = 2.0


class StallWatch:
    """Whether the loop goes on, by what it records and by where it is.

    Any sample is a sign of life (of whatever split, or of a validation that logs), but those about the
    machine, which are recorded on a thread beside the loop; and so is another epoch, batch or step, or that
    the loop is at something else. Only time that was watched counts: not that of a suspended process, nor of
    a pause.

    Args:
        settings: `[monitor.stalled]`.
        loop: what the loop is at, and on which thread.
        place: epoch, batch and step as they are now.
        interval_seconds: of the heartbeat.
    """

    def __init__(
        self,
        settings: StalledSettings,
        loop: Callable[[], LoopPlace],
        place: Callable[[], tuple[int | None, int | None, int | None]],
        interval_seconds: float = 1.0,
    ) -> None:
        self._settings, self._loop, self._where = settings, loop, place
        self._soonest = min(settings.min_seconds, settings.min_seconds_between, settings.min_seconds_first)
        self._most_counted = _INTERVALS_COUNTED * interval_seconds
        self._lock = threading.Lock()  # a `flush` ticks on a thread of its own
        self._durations: deque[float] = deque(maxlen=_MEDIAN_OF)
        self._rows: deque[tuple[Any, Any]] = deque(maxlen=_ROWS)  # times and steps, where none are timed
        self._steps = 0
        self._has_lived = False
        self._place: tuple[object, ...] = ()
        self._loader_wait = LoaderWait()
        self._ticked: float | None = None
        self._silent = 0.0
        self._has_stepped = False  # before this tick
        self._longest = 0.0
        self._is_stalled = False
        #: Where all threads were when it stalled last.
        self.stacks = ""

    def consume(self, samples: Samples) -> None:
        """The samples of a tick."""
        for part in samples.parts:
            if isinstance(part, Singles):
                others = [i for i, series in enumerate(part.series) if not is_of_machine(series.metric)]
                self._has_lived |= bool(others)
                if not any(part.series[i].metric == Metric.STEP_DURATION for i in others):
                    others = others[-_ROWS:]  # more are not kept
                for block in part.take(others).blocks() if others else ():
                    self._take(block)
            elif not all(is_of_machine(series.metric) for series in part.series):  # mostly the first is not
                self._has_lived = True
                self._take(part)

    def _take(self, block: Block) -> None:
        for number in watched_in(block.series, _STEP_DURATION):
            if split_of(block.series[number]) in (None, TRAIN):
                self._steps += len(block.values)
                self._durations.extend(block.values[-_MEDIAN_OF:, number].tolist())
                return
        if not self._durations:
            # copies: a view would keep the whole of its tick in memory
            self._rows.append((block.time_ns[-_ROWS:].copy(), block.step[-_ROWS:].copy()))

    def on_tick(self, seconds: float, time_ns: int, *, is_paused: bool) -> list[Finding]:
        """What is to be said now: that it stalled, that it goes on, or mostly nothing.

        `seconds` is a monotonic time, `time_ns` the run's time of day.
        """
        with self._lock:
            watched = 0.0 if self._ticked is None else min(seconds - self._ticked, self._most_counted)
            self._ticked = seconds
            phase, thread = self._loop()
            place = self._where()
            before, self._place = self._place, (phase, *place)
            lives = self._has_lived or self._place != before or is_paused or phase == "over"
            self._has_lived = False
            at = Coordinates.at(time_ns, *place)
            if lives:
                self._loader_wait.forget()
                # What came before the first steps, a compilation say, does not come again.
                found = self._go_on(at, is_normal=self._has_stepped and not is_paused)
                self._has_stepped = max(self._steps, len(self._rows)) >= _MIN_STEPS
                return found
            self._silent += watched
            return self._judge(phase, thread, at)

    def _go_on(self, at: Coordinates, *, is_normal: bool) -> list[Finding]:
        silent, self._silent = self._silent, 0.0
        if is_normal:
            self._longest = max(self._longest, silent)
        if not self._is_stalled:
            return []
        self._is_stalled = False
        return [self._finding(at, silent, 0.0, f"it went on after {text_of(silent)}", resolved=True)]

    def _judge(self, phase: Phase, thread: int | None, at: Coordinates) -> list[Finding]:
        settings = self._settings
        if self._is_stalled or 2 * self._silent < self._soonest:
            return []
        usual = self._usual_seconds()
        if usual is not None:
            normal = min(2 * self._longest, _LONGEST_NORMAL_SECONDS)
            limit = max(self._least(phase, thread), settings.times_median * usual, normal)
        elif phase == "unknown" and not self._steps:
            return []  # it prepares its data, or logs no steps: nobody knows that there will be any
        else:
            limit = settings.min_seconds_first
        if self._silent < limit:
            return []
        stacks = Stacks(thread)
        if stacks.is_at_rest:
            return []
        self._is_stalled = True
        self._loader_wait.forget()
        known = f"where one takes {text_of(usual)}" if usual is not None else _after(self._steps)
        said = f"no step for {text_of(self._silent)}, {known}"
        self.stacks = stacks.text(f"Training stalled: {said}")
        return [self._finding(at, self._silent, limit, f"{said}; {stacks.where}")]

    def _least(self, phase: Phase, thread: int | None) -> float:
        """How long a silence must last; between steps longer, unless the loop waits in its loader."""
        settings = self._settings
        if phase == "steps":
            return settings.min_seconds
        waited = self._loader_wait.seconds(thread, self._silent)
        return settings.min_seconds if 2 * waited >= settings.min_seconds else settings.min_seconds_between

    def _usual_seconds(self) -> float | None:
        """The median step; where none are timed, the median time from one to the next that is logged."""
        if self._durations:
            return statistics.median(self._durations) if self._steps >= _MIN_STEPS else None
        if not self._rows:
            return None
        times = np.concatenate([times for times, _ in self._rows])
        steps = np.concatenate([steps for _, steps in self._rows])
        order = np.argsort(times, kind="stable")
        times, steps = times[order], steps[order]
        if bool((steps != ABSENT).any()):  # several rows of one step are one
            times = times[np.flatnonzero(np.diff(steps, prepend=ABSENT - 1))]
        return None if len(times) <= _MIN_STEPS else float(np.median(np.diff(times))) / 1e9

    @staticmethod
    def _finding(
        at: Coordinates, silent: float, limit: float, text: str, *, resolved: bool = False
    ) -> Finding:
        ratio = silent / limit if limit else 0.0
        return Finding(
            STALLED,
            Series(Metric.STEP_DURATION),
            Severity.HIGH,
            at,
            silent,
            limit,
            ratio,
            resolved=resolved,
            count=0 if resolved else 1,
            text=text,
        )


def _after(steps: int) -> str:
    if not steps:
        return "and none before"
    return f"after the first {'one' if steps == 1 else steps}"
