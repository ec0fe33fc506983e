"""Step boundary: where a step begins and ends that no loop of ours runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from entrenar_otel.monitor.loop_parts import LoopParts
from entrenar_otel.recording.layout import ABSENT_32


class StepBoundary:
    """Where the training steps of a run begin and end; `steps()` counts with the same counter.

    A step waits for its data from the end of the last one on, or from the beginning of the epoch. Where that
    is unknown, before the first step of a loop without `epochs()`, no wait is measured.
    """

    def __init__(self, parts: LoopParts) -> None:
        self._recorder, self._progress, self._threads = parts.recorder, parts.progress, parts.threads
        self._spans, self._step_spans = parts.spans, parts.step_spans
        self._seconds, self._pause = parts.seconds, parts.pause
        #: The number of the next training step, or of the one that goes on.
        self.number = 0
        self._batch = 0  # the next one's within its epoch
        self._epoch: int | None = None  # the last one that was given with a step
        self._is_prepared = False  # False: other loops ran since, or none ever did
        self._ready_since: float | None = None
        self._arrived: float | None = None  # when the step began that is open now
        self._paused = 0.0  # of all pauses, what is no longer in the times above
        self._holder: StepBlock | None = None  # the `with` that the open step is of
        self._writers: tuple[Callable[..., None], Callable[..., None]] | None = None

    def wait(self) -> None:
        """The wait for the next batch begins now: what was since the last step was something else."""
        if self._arrived is None:
            self._paused = self._pause().total_seconds
            self._ready_since = self._seconds()

    @property
    def is_in_use(self) -> bool:
        """Whether the latest steps are marked by it, so that nobody knows when they are over."""
        return self._is_prepared

    def restart(self, epoch: int | None = None) -> None:
        """Batches count from 0 again: an epoch begins, or another loop took over."""
        self._batch, self._epoch = 0, epoch
        self._is_prepared = False
        self.wait()

    def begin(
        self,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
        holder: StepBlock | None = None,
    ) -> None:
        """See `Monitor.begin_step`."""
        arrived = self._seconds()
        if (not self._is_prepared or self._threads.in_steps is not None) and not self._prepare(
            epoch, batch, step, holder
        ):
            return
        if not (epoch is None is batch is step):
            self._place(epoch, batch, step)
        if self._paused != (pause := self._pause()).total_seconds:  # since the last step: no wait for data
            paused, lost = pause.total_seconds, pause.total_seconds - self._paused
            self._paused = paused
            if self._ready_since is not None:
                self._ready_since += lost
        self._threads.in_steps = threading.get_ident()
        self._recorder.move_to(self._batch, self.number)
        progress = self._progress
        self._batch = progress.batch = self._batch + 1
        progress.enter()
        if self._step_spans and (spans := self._spans()) is not None:
            spans.begin_step(*self._recorder.coordinates())
        self._holder = holder
        self._arrived = arrived

    def end(self, size: Any = None, holder: StepBlock | None = None) -> None:
        """See `Monitor.end_step`."""
        arrived = self._arrived
        if (
            arrived is None
            or holder is not self._holder
            or self._threads.in_steps != threading.get_ident()  # of another thread
        ):
            return
        done = self._seconds()
        start = self._ready_since
        if self._paused != (pause := self._pause()).total_seconds:  # a pause is no part of the step
            paused, lost = pause.total_seconds, pause.total_seconds - self._paused
            self._paused, arrived = paused, arrived + lost
            start = None if start is None else start + lost
        try:
            if start is None:
                self._record_first(done - arrived, size)
            elif size is None:
                self.writers()[0](done - start, arrived - start)
            else:
                self.writers()[1](done - start, arrived - start, size)
            self.number += 1
            self._progress.steps += 1
        finally:
            self._ready_since = done
            self._leave()

    def drop(self, holder: StepBlock | None) -> None:
        """The open step ends, and is not measured: something was raised within."""
        is_open = self._arrived is not None and holder is self._holder
        if is_open and self._threads.in_steps == threading.get_ident():
            self._leave()
            self.wait()
            self._recorder.set_coordinates(batch=ABSENT_32)

    def writers(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """What records a step's times, without and with its number of samples; made once."""
        if self._writers is None:
            times = ("step_duration", "data_wait")
            bind = self._recorder.bind
            self._writers = bind(times, None), bind((*times, "samples"), None)
        return self._writers

    def _leave(self) -> None:
        self._arrived = self._holder = self._threads.in_steps = None
        self._progress.leave()
        if self._step_spans and (spans := self._spans()) is not None:
            spans.end_step()

    def _record_first(self, seconds: float, size: Any) -> None:
        """A step of which nobody knows how long it waited for its data."""
        if size is None:
            self._recorder.bind(("step_duration",), None)(seconds)
        else:
            self._recorder.bind(("step_duration", "samples"), None)(seconds, size)

    def _prepare(
        self, epoch: int | None, batch: int | None, step: int | None, holder: StepBlock | None
    ) -> bool:
        """What is not to be asked at every step; False where the step is none of the run's."""
        threads = self._threads
        if threads.begins_second_steps():
            self._is_prepared = False  # from now on, each thread is asked
            self._begin_aside(epoch, batch, step)
            return False
        if self._arrived is not None:
            if self._holder is not None and holder is not self._holder:
                return False  # within a `with monitor.step()`: one step
            self.drop(self._holder)  # it was left by an exception
        elif threads.in_steps is not None:
            return False  # within `steps()`, which measures
        if not self._is_prepared:
            self._spans()  # a run that has not begun begins outside of its first step
            self._progress.batches = None
            self._progress.begin()
            self.writers()
            self._is_prepared = not threads.are_several
        return True

    def _begin_aside(self, epoch: int | None, batch: int | None, step: int | None) -> None:
        """A step of a second thread: its own coordinates, and no times."""
        second, recorder = self._threads.second, self._recorder
        if not second.is_stepping:
            given = (
                recorder.coordinate(*one) for one in (("epoch", epoch), ("batch", batch), ("step", step))
            )
            epoch, batch, step = given
            batch = next(second.batches) if batch is None else batch
            recorder.set_coordinates(epoch, batch, next(second.steps) if step is None else step)

    def _place(self, epoch: Any, batch: Any, step: Any) -> None:
        """Go on from the coordinates that were given. Raises BadInput where the monitor is to."""
        coordinate = self._recorder.coordinate
        if epoch is not None and (epoch := coordinate("epoch", epoch)) not in (None, self._epoch):
            if self._epoch is not None:  # what was since then, a validation say, was no wait for data
                self._batch, self._ready_since = 0, None
            self._epoch = epoch
            self._recorder.set_coordinates(epoch=epoch)
        if batch is not None and (batch := coordinate("batch", batch)) is not None:
            self._batch = batch
        if step is not None and (step := coordinate("step", step)) is not None:
            self.number = step


class StepBlock:
    """What `with monitor.step() as block:` gives; `block.size` is its number of samples."""

    __slots__ = ("_boundary", "_place", "size")

    def __init__(
        self, boundary: StepBoundary, size: Any, epoch: int | None, batch: int | None, step: int | None
    ) -> None:
        self._boundary = boundary
        self._place = epoch, batch, step
        self.size = size

    def __enter__(self) -> Self:
        self._boundary.begin(*self._place, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._boundary.end(self.size, self)
        else:
            self._boundary.drop(self)
