"""Loop parts: what a run's loop and its step boundary work with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from entrenar_otel.monitor.loop_threads import LoopThreads
from entrenar_otel.monitor.progress import Progress
from entrenar_otel.recording.recorder import Recorder

if TYPE_CHECKING:
    from entrenar_otel.otel.traces.run_spans import RunSpans


class Paused(Protocol):
    """How long a loop was paused in all."""

    @property
    def total_seconds(self) -> float: ...


class LoopParts(NamedTuple):
    """Of one run."""

    recorder: Recorder
    """Takes the coordinates and what is measured of each step."""
    progress: Progress
    """What a person sees."""
    threads: LoopThreads
    """Whose loop is the run's."""
    spans: Callable[[], RunSpans | None]
    """The run's spans; it starts a run that has not begun, and is None once there is none."""
    seconds: Callable[[], float]
    """The clock of step durations."""
    pause: Callable[[], Paused]
    """Of the run as it is now; how long the loop has been paused is no part of a step."""
    step_spans: bool
    """Whether each step is a `training.step` span."""
