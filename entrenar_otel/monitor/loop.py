"""Loop: how a training loop moves through a run: epochs, steps, spans and events."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
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
        self._counted: tuple[type, type] | None = None  # of the last batches whose first item has their size
        self.boundary = boundary = StepBoundary(parts)
        parts.progress.counts = boundary.counts
        #: See `Monitor.step`, `begin_step` and `end_step`.
        self.step = partial(StepBlock, boundary)
        self.begin_step, self.end_step = boundary.begin, boundary.end

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
        progress = self._progress
        progress.loops += 1
        try:
            for epoch in range(start, count):
                self._recorder.set_coordinates(epoch=epoch, batch=ABSENT_32)
                progress.begin_epoch(epoch, count)
                first = self.boundary.steps
                if (spans := self._spans()) is not None:
                    spans.begin_epoch(epoch, count)
                self.boundary.restart(epoch)
                try:
                    yield epoch
                    self._recorder.catch_up()
                finally:
                    if spans is not None:
                        spans.end_epoch(steps=self.boundary.steps - first)
        finally:
            progress.loops -= 1
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

    def _steps(self, batches: Iterable[T], epoch: int | None, split: str | None) -> Iterator[T]:
        is_training = split in (None, "train")
        if self._threads.begins_second_steps():
            yield from self._aside(batches, epoch, split, counts=is_training)
            return
        if self._threads.state.thread or not is_training:
            yield from self._aside(batches, epoch, split)
            return
        # From here on, what is done at each step is little: a loop's own work has it out of the caches.
        size_of: Callable[[Any], int] | None = None
        key: Any = None  # of the item of a batch that has its size, where it is one's
        without_size: type | None = None  # of the batches that have none: to find that out is not cheap
        size: int | None
        # And few functions before the first step and behind the last: it may be a loop of a few.
        enter, leave, progress = self.boundary.enter, self.boundary.leave, self._progress
        progress.loops += 1
        try:
            self._begin_training(batches, epoch)
            try:
                for batch in batches:
                    enter()
                    yield batch
                    try:
                        if type(batch) is without_size:
                            size = None
                        elif key is not None:
                            size = len(batch[key])  # type: ignore[index]
                        else:
                            counts = size_of or self._size_function(batch)
                            size = counts(batch)
                            size_of, key = counts, getattr(counts, "key", None)
                    except Exception as error:  # nothing with a length, or an array without dimensions
                        if from_outside(error):
                            raise
                        if size_of is None:  # else an empty one, perhaps, among others
                            without_size = type(batch)
                        size = size_of = key = None
                    leave(size)  # outside of the except: an AndonStop from here is not its consequence
            finally:
                self._has_ended = True
                self.boundary.end_loop()
        finally:
            progress.loops -= 1

    def _begin_training(self, batches: Iterable[Any], epoch: int | None) -> None:
        """From here on, this thread runs the training's steps."""
        progress = self._progress
        if epoch is not None:
            self._recorder.set_coordinates(epoch=epoch)
        progress.batches = count_of(batches)
        spans = self._spans()  # a run that has not begun begins outside of its first step
        if progress.batches is not None and spans is not None:
            spans.expect_batches(progress.batches)
        progress.begin()
        self.boundary.begin_loop()

    def _size_function(self, batch: Any) -> Callable[[Any], int]:
        """See `size_function`, which asks much; a batch like the last one is counted like it."""
        kind = (type(batch), type(batch[0])) if type(batch) in (tuple, list) and batch else None
        if kind is not None and kind == self._counted:
            return SizeOfItem(0)
        counts = size_function(batch)
        self._counted = kind if getattr(counts, "key", None) == 0 else None
        return counts

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


class SizeOfItem:
    """Counts the samples of a batch by those of one of its items."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __call__(self, batch: Any) -> int:
        return len(batch[self.key])


def size_function(batch: Any) -> Callable[[Any], int]:
    """A function that counts the samples of a batch like this one; it raises where it cannot."""
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Mapping):
        inner = size_function(batch[0])
        return lambda other: inner(other[0])
    if isinstance(batch, tuple | list) and batch and hasattr(batch[0], "__len__"):
        return len if isinstance(batch[0], str | bytes) else SizeOfItem(0)
    if isinstance(batch, Mapping) and batch:
        return SizeOfItem(next(iter(batch)))
    if isinstance(batch, str | bytes):
        raise TypeError("the length of a text is not a number of samples")
    return len
