"""Loop: how a training loop moves through a run: epochs, steps, spans and events."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from entrenar_otel.errors import guard
from entrenar_otel.interruption import from_outside
from entrenar_otel.monitor.counted import Counted, count_of
from entrenar_otel.monitor.loop_parts import LoopParts
from entrenar_otel.monitor.step import StepBlock, StepBoundary
from entrenar_otel.recording.layout import ABSENT_32

if TYPE_CHECKING:
    from entrenar_otel.andon.judging.stall_watch import LoopPlace

T = TypeVar("T")


class Loop:
    """Epochs, steps, spans and events of one run."""

    def __init__(self, parts: LoopParts) -> None:
        self._recorder, self._progress, self._threads = parts.recorder, parts.progress, parts.threads
        self._spans, self._step_spans = parts.spans, parts.step_spans
        self._seconds, self._pause = parts.seconds, parts.pause
        self._has_ended = False  # a loop of epochs or steps
        self.boundary = StepBoundary(parts)

    def where(self) -> LoopPlace:
        """What the loop is at, and on which thread, for who watches whether it goes on."""
        return self._threads.where(is_over=self._has_ended and not self.boundary.is_in_use)

    def epochs(self, count: int, start: int = 0) -> Counted[int]:
        """See `Monitor.epochs`."""
        return Counted(self._epochs(count, start), lambda: max(0, count - start))

    def _epochs(self, count: int, start: int) -> Iterator[int]:
        threads = self._threads
        if threads.begins_second_epochs():
            yield from self._epochs_aside(count, start)
            return
        around = self._recorder.place()  # of a loop that this one is within
        outer, threads.in_epochs = threads.in_epochs, threading.get_ident()
        try:
            with self._progress.looping():
                for epoch in range(start, count):
                    self._recorder.set_coordinates(epoch=epoch, batch=ABSENT_32)
                    self._progress.begin_epoch(epoch, count)
                    first = self._progress.steps
                    if (spans := self._spans()) is not None:
                        spans.begin_epoch(epoch, count)
                    self.boundary.restart(epoch)
                    try:
                        yield epoch
                        self._recorder.catch_up()
                    finally:
                        if spans is not None:
                            spans.end_epoch(steps=self._progress.steps - first)
        finally:
            threads.in_epochs = outer
            self._has_ended = True
        self._recorder.return_to(around)

    def _epochs_aside(self, count: int, start: int) -> Iterator[int]:
        """The epochs of a second thread: coordinates alone, the spans are the first one's."""
        around = self._recorder.place()
        for epoch in range(start, count):
            self._recorder.set_coordinates(epoch=epoch, batch=ABSENT_32)
            self._threads.second.batches = itertools.count()
            yield epoch
        self._recorder.return_to(around)

    def steps(
        self, batches: Iterable[T], *, epoch: int | None = None, split: str | None = None
    ) -> Counted[T]:
        """See `Monitor.steps`."""
        return Counted(self._steps(batches, epoch, split), lambda: count_of(batches))

    def _steps(self, batches: Iterable[T], epoch: int | None, split: str | None) -> Iterator[T]:
        is_training = split in (None, "train")
        if self._threads.begins_second_steps():
            yield from self._aside(batches, epoch, split, counts=is_training)
        elif self._threads.in_steps is not None or not is_training:
            yield from self._aside(batches, epoch, split)
        else:
            with self._progress.looping():
                yield from self._training_steps(batches, epoch)

    def _aside(
        self, batches: Iterable[T], epoch: int | None, split: str | None, *, counts: bool = False
    ) -> Iterator[T]:
        """Batches beside the run's training steps: an inner loop, another split, a second thread's.

        `step` stands still meanwhile, except for the steps of a second thread, which `counts` its own.
        """
        recorder, second = self._recorder, self._threads.second
        counts = counts and not second.is_stepping
        timed = None if split is None else recorder.bind(("step_duration", "data_wait"), {"split": split})
        around, clock = recorder.place(), self._seconds
        recorder.set_coordinates(epoch=epoch)
        second.is_stepping |= counts
        start = clock()
        try:
            for index, batch in enumerate(batches):
                arrived = clock()
                recorder.set_coordinates(batch=index, step=next(second.steps) if counts else None)
                yield batch
                done = clock()
                if timed is not None:
                    timed(done - start, arrived - start)
                start = done
        finally:
            if counts:
                second.is_stepping = False
                recorder.set_coordinates(batch=ABSENT_32)
            else:
                recorder.return_to(around)
                self.boundary.wait()

    def _training_steps(self, batches: Iterable[T], epoch: int | None) -> Iterator[T]:
        self._threads.in_steps = threading.get_ident()
        self._recorder.set_coordinates(epoch=epoch)
        progress, move_to = self._progress, self._recorder.move_to
        progress.batches = count_of(batches)
        known = self._spans()  # a run that has not begun begins outside of its first step
        if progress.batches is not None and known is not None:
            known.expect_batches(progress.batches)
        progress.begin()
        size_of: Callable[[Any], int] | None = None
        without_size: type | None = None  # of the batches that have none: to find that out is not cheap
        boundary = self.boundary
        timed, counted = boundary.writers()
        spans = known if self._step_spans else None
        clock, pause, recorder = self._seconds, self._pause(), self._recorder
        move = None if recorder.hot is None else recorder.hot.move  # it does what is usual of `move_to`
        start, paused = clock(), pause.total_seconds
        try:
            for index, batch in enumerate(batches):
                arrived = clock()
                if paused != pause.total_seconds:  # by the last step's records, or the loader
                    paused, lost = pause.total_seconds, pause.total_seconds - paused
                    start += lost
                if move is None or recorder.late is not None or not move(index, boundary.number):
                    move_to(index, boundary.number)
                progress.batch = index + 1
                if spans is not None:
                    spans.begin_step(*self._recorder.coordinates())
                yield batch
                done = clock()
                if paused != pause.total_seconds:  # a pause is no part of the step
                    paused, lost = pause.total_seconds, pause.total_seconds - paused
                    start, arrived = start + lost, arrived + lost
                size = None
                if batch.__class__ is not without_size:
                    before = size_of
                    try:
                        size_of = size_of or size_function(batch)
                        size = size_of(batch)
                    except Exception as error:  # nothing with a length, or an array without dimensions
                        if from_outside(error):
                            raise
                        size_of = None
                        if before is None:  # else an empty one, perhaps, among others
                            without_size = batch.__class__
                if size is None:  # outside of the except: an AndonStop from here is not its consequence
                    timed(done - start, arrived - start)
                else:
                    counted(done - start, arrived - start, size)
                start = done
                boundary.number += 1
                progress.steps += 1
        finally:
            self._threads.in_steps = None
            if spans is not None:
                spans.end_step()
            self._recorder.set_coordinates(batch=ABSENT_32)
            self._has_ended = True
            boundary.restart()

    def step(
        self, size: Any, *, epoch: int | None = None, batch: int | None = None, step: int | None = None
    ) -> StepBlock:
        """See `Monitor.step`."""
        return StepBlock(self.boundary, size, epoch, batch, step)

    def begin_step(self, epoch: int | None, batch: int | None, step: int | None) -> None:
        """See `Monitor.begin_step`."""
        self.boundary.begin(epoch, batch, step)

    def end_step(self, size: Any) -> None:
        """See `Monitor.end_step`."""
        self.boundary.end(size)

    def begin_wait(self) -> None:
        """See `Monitor.begin_wait`."""
        self.boundary.wait()

    @contextlib.contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Any]:
        """See `Monitor.span`."""
        if (spans := self._spans()) is None:
            from opentelemetry.trace import INVALID_SPAN

            yield INVALID_SPAN
            return
        with spans.span(name, **attributes) as span:
            yield span

    def event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        severity: str = "INFO",
        body: str | None = None,
        **more: Any,
    ) -> None:
        """See `Monitor.event`."""
        with guard("event"):
            if (spans := self._spans()) is not None:
                spans.event(name, {**(attributes or {}), **more}, severity=severity, body=body)

    @property
    def traceparent(self) -> str | None:
        """The innermost span in W3C form, for `TRACEPARENT` of a child process; None when disabled."""
        spans = self._spans()
        return spans.traceparent if spans is not None else None


def size_function(batch: Any) -> Callable[[Any], int]:
    """A function that counts the samples of a batch like this one; it raises where it cannot."""
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Mapping):
        inner = size_function(batch[0])
        return lambda other: inner(other[0])
    if isinstance(batch, tuple | list) and batch and hasattr(batch[0], "__len__"):
        return len if isinstance(batch[0], str | bytes) else lambda other: len(other[0])
    if isinstance(batch, Mapping) and batch:
        key = next(iter(batch))
        return lambda other: len(other[key])
    if isinstance(batch, str | bytes):
        raise TypeError("the length of a text is not a number of samples")
    return len
