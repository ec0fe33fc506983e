"""Step boundary: where a step begins and ends, in a loop of ours or of somebody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import isnan, nan
from types import TracebackType
from typing import Any, Self

from entrenar_otel.monitor.loop_parts import LoopParts
from entrenar_otel.monitor.progress import Counts
from entrenar_otel.monitor.step_state import BLOCK, LOOP, NOBODY
from entrenar_otel.recording.layout import ABSENT_32
from entrenar_otel.recording.native_path import step_calls


class StepBoundary:
    """Where the training steps of a run begin and end, those of `steps()` too.

    A step waits for its data from the end of the last one on, or from the beginning of the epoch or of
    `steps()`. Where that is unknown, before the first step of a loop without `epochs()`, no wait is measured.

    Callbacks call `begin` and `end`, a `with` block `begin_block` and `end_block`, `steps()` calls `enter`,
    `leave`. Where the native core is, they are its, and the methods below are their reference: what is usual
    it does in one call, and all else it gives to them as it came.
    """

    def __init__(self, parts: LoopParts) -> None:
        self._recorder, self._progress, self._threads = parts.recorder, parts.progress, parts.threads
        self._spans, self._step_spans = parts.spans, parts.step_spans
        self._seconds, self._pause = parts.seconds, parts.pause
        self._state = parts.threads.state
        self._skipped = 0  # numbers of steps that were never run here: those before a step that was given
        self._epoch: int | None = None  # the last one that was given with a step
        self._is_prepared = False  # False: other loops ran since, or none ever did
        self._is_first = True  # the next batch is the first of its epoch, or loop
        self._paused = 0.0  # of all pauses, what is no longer in the state's times
        self._is_bound = False
        self._timed: Callable[..., None]
        self._counted: Callable[..., None]
        hot = parts.recorder.hot
        self.begin, self.end = step_calls(hot, self._begin, self._end, NOBODY)
        self.begin_block, self.end_block = step_calls(hot, self._begin_block, self._end, BLOCK)
        self.enter, self.leave = step_calls(hot, self._enter, self._record, LOOP)

    def wait(self) -> None:
        """The wait for the next batch begins now: what was since the last step was something else."""
        if isnan(self._state.arrived):
            self._paused = self._pause().total_seconds
            self._state.ready = self._seconds()

    @property
    def is_in_use(self) -> bool:
        """Whether the latest steps are marked by it, so that nobody knows when they are over."""
        return self._is_prepared

    @property
    def steps(self) -> int:
        """How many training steps were measured."""
        return self._state.number - self._skipped

    def counts(self) -> Counts:
        """How far the loop is."""
        state = self._state
        return Counts(state.begun, state.number - self._skipped, is_in_step=state.thread != 0)

    def restart(self, epoch: int | None = None) -> None:
        """Batches count from 0 again: an epoch begins, or another loop took over."""
        self._is_first, self._epoch = True, epoch
        self._is_prepared = False
        self._state.is_usual = False
        self.wait()

    # -- a loop's steps ---------------------------------------------------------------------------

    def begin_loop(self) -> None:
        """This thread runs the training steps from now on, as `steps()` does; the first one waits already."""
        state = self._state
        self._paused = self._pause().total_seconds
        self._bind()
        state.begun, self._is_first = 0, False
        state.thread, state.holder = threading.get_ident(), LOOP
        state.ready = state.arrived = self._seconds()
        state.is_usual = self._is_usual()

    def end_loop(self) -> None:
        """It is over, however it was left."""
        self._close()
        self._recorder.set_coordinates(batch=ABSENT_32)
        self.restart()

    def _enter(self) -> None:
        """The batch of a loop's step is there."""
        arrived = self._seconds()
        self._move()
        self._state.arrived = arrived

    # -- one step ---------------------------------------------------------------------------------

    def _begin(
        self,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
        *,
        holder: StepBlock | None = None,
    ) -> None:
        """See `Monitor.begin_step`."""
        state, arrived = self._state, self._seconds()
        whose = NOBODY if holder is None else id(holder)
        if (not self._is_prepared or state.thread) and not self._prepare(epoch, batch, step, whose):
            return
        if not (epoch is None is batch is step):
            self._place(epoch, batch, step)
        state.thread, state.holder = threading.get_ident(), whose
        self._move()
        state.arrived = arrived

    def _begin_block(self, block: StepBlock) -> None:
        self._begin(holder=block)

    def _end(self, size: Any = None, holder: StepBlock | None = None) -> None:
        """See `Monitor.end_step`."""
        if self._is_open(NOBODY if holder is None else id(holder)):
            try:
                self._record(size)
            finally:
                self._close()

    def drop(self, holder: StepBlock) -> None:
        """The open step ends, and is not measured: something was raised within."""
        if self._is_open(id(holder)):
            self._drop()

    def _drop(self) -> None:
        self._close()
        self.wait()
        self._recorder.set_coordinates(batch=ABSENT_32)

    def _is_open(self, whose: int) -> bool:
        """Whether a step is open, of this thread and this holder."""
        state = self._state
        return not isnan(state.arrived) and state.holder == whose and state.thread == threading.get_ident()

    def _close(self) -> None:
        state = self._state
        state.arrived, state.holder, state.thread = nan, NOBODY, 0
        if self._step_spans and (spans := self._spans()) is not None:
            spans.end_step()

    # -- of both ----------------------------------------------------------------------------------

    def _move(self) -> None:
        """What is recorded from now on is of the next step."""
        state, recorder = self._state, self._recorder
        state.is_usual = True  # first: whoever comes in meanwhile says that it is not
        if not self._is_usual():
            state.is_usual = False
        if lost := self._lost_seconds():  # since the last step: no wait for data
            state.ready += lost
        recorder.move_to(state.begun, state.number)
        state.begun += 1
        if self._step_spans and (spans := self._spans()) is not None:
            spans.begin_step(*recorder.coordinates())

    def _is_usual(self) -> bool:
        """Whether the next step is nothing but its place and its times."""
        return not self._step_spans and not self._threads.are_several and self._recorder.late is None

    def _record(self, size: Any) -> None:
        """The times of the open step; the next one waits for its data from now on."""
        done, state = self._seconds(), self._state
        if lost := self._lost_seconds():  # a pause is no part of the step
            state.arrived, state.ready = state.arrived + lost, state.ready + lost
        start = state.ready
        try:
            if isnan(start):
                self._record_first(done - state.arrived, size)
            elif size is None:
                self._timed(done - start, state.arrived - start)
                state.timed_head = getattr(self._timed, "head", 0)
            else:
                self._counted(done - start, state.arrived - start, size)
                state.counted_head = getattr(self._counted, "head", 0)
            state.number += 1
        finally:
            state.ready = done

    def _lost_seconds(self) -> float:
        """How long the loop was paused since this was asked last."""
        before, self._paused = self._paused, self._pause().total_seconds
        return self._paused - before

    def _record_first(self, seconds: float, size: Any) -> None:
        """A step of which nobody knows how long it waited for its data."""
        if size is None:
            self._recorder.bind(("step_duration",), None)(seconds)
        else:
            self._recorder.bind(("step_duration", "samples"), None)(seconds, size)

    def _bind(self) -> None:
        """Make what records a step's times, once, without and with its number of samples."""
        if not self._is_bound:
            times = ("step_duration", "data_wait")
            bind = self._recorder.bind
            self._timed, self._counted = bind(times, None), bind((*times, "samples"), None)
            self._recorder.step_functions = [self.end, self.end_block, self.leave]
            self._is_bound = True

    def _prepare(self, epoch: int | None, batch: int | None, step: int | None, whose: int) -> bool:
        """What is not to be asked at every step; False where the step is none of the run's."""
        threads, state = self._threads, self._state
        if threads.begins_second_steps():
            self._is_prepared = False  # from now on, each thread is asked
            self._begin_aside(epoch, batch, step)
            return False
        if not isnan(state.arrived):
            if state.holder not in (NOBODY, whose):
                return False  # within a `with monitor.step()`, or within `steps()`, which measures: one step
            self._drop()  # it was left by an exception
        elif state.thread:
            return False
        if not self._is_prepared:
            self._spans()  # a run that has not begun begins outside of its first step
            self._progress.batches = None
            self._progress.begin()
            self._bind()
            if self._is_first:
                state.begun, self._is_first = 0, False
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
        coordinate, state = self._recorder.coordinate, self._state
        if epoch is not None and (epoch := coordinate("epoch", epoch)) not in (None, self._epoch):
            if self._epoch is not None:  # what was since then, a validation say, was no wait for data
                state.begun, state.ready = 0, nan
            self._epoch = epoch
            self._recorder.set_coordinates(epoch=epoch)
        if batch is not None and (batch := coordinate("batch", batch)) is not None:
            state.begun = batch
        if step is not None and (step := coordinate("step", step)) is not None:
            self._skipped += step - state.number
            state.number = step


class StepBlock:
    """What `with monitor.step() as block:` gives; `block.size` is its number of samples."""

    __slots__ = ("_boundary", "place", "size")

    def __init__(
        self,
        boundary: StepBoundary,
        size: Any = None,
        *,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
    ) -> None:
        self._boundary = boundary
        #: Epoch, batch and step, where one is given.
        self.place = None if epoch is batch is step is None else (epoch, batch, step)
        self.size = size

    def __enter__(self) -> Self:
        if self.place is None:
            self._boundary.begin_block(self)
        else:
            self._boundary.begin(*self.place, holder=self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._boundary.end_block(self.size, self)
        else:
            self._boundary.drop(self)
