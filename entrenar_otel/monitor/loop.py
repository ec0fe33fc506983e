"""Loop: how a training loop moves through a run: epochs, steps, spans and events."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from entrenar_otel.errors import guard
from entrenar_otel.monitor.progress import Progress
from entrenar_otel.recording.layout import ABSENT_32
from entrenar_otel.recording.recorder import Recorder

if TYPE_CHECKING:
    from entrenar_otel.otel.traces.run_spans import RunSpans
    from entrenar_otel.run.open_run import OpenRun

T = TypeVar("T")


class Loop:
    """The moving half of a Monitor."""

    bind: Callable[..., Callable[..., None]]
    enabled: bool
    start: Callable[[], Any]
    _measured: tuple[Callable[..., None], Callable[..., None]] | None
    _progress: Progress
    _recorder: Recorder
    _run: OpenRun | None
    _seconds: Callable[[], float]

    if TYPE_CHECKING:

        @property
        def _paused_seconds(self) -> float: ...

    _step: int
    _step_spans: bool

    def epochs(self, count: int, start: int = 0) -> Iterator[int]:
        """Count epochs from `start` up to `count`, each a `training.epoch` span.

        Whatever is logged meanwhile has this epoch.
        """
        for epoch in range(start, count):
            self._recorder.set_coordinates(epoch=epoch, batch=ABSENT_32)
            self._progress.begin_epoch(epoch, count)
            first = self._step
            if (tracing := self._live_tracing()) is not None:
                tracing.begin_epoch(epoch)
            try:
                yield epoch
            finally:
                if tracing is not None:
                    tracing.end_epoch(steps=self._step - first)
        self._recorder.clear_coordinates()

    def steps(self, batches: Iterable[T], *, epoch: int | None = None) -> Iterator[T]:
        """Hand out the batches, and measure `step_duration`, `data_wait` (s) and `samples` of each.

        A step lasts from the request for its batch to the request for the next one. `batch` counts
        from 0 in every call, `step` over all of them.
        """
        if not self.enabled:
            yield from batches
            return
        self._recorder.set_coordinates(epoch=epoch)
        progress, move_to = self._progress, self._recorder.move_to
        progress.batches = count_of(batches)
        progress.begin()
        size_of: Callable[[Any], int] | None = None
        timed, counted = self._step_writers()
        tracing = self._live_tracing() if self._step_spans else None
        clock = self._seconds
        begun, paused = clock(), self._paused_seconds
        try:
            for index, batch in enumerate(batches):
                arrived = clock()
                if paused != self._paused_seconds:  # by what was recorded of the last step, or by the loader
                    paused, lost = self._paused_seconds, self._paused_seconds - paused
                    begun += lost
                move_to(index, self._step)
                progress.batch = index + 1
                if tracing is not None:
                    tracing.begin_step(*self._recorder.coordinates())
                yield batch
                done = clock()
                if paused != self._paused_seconds:  # a pause is no part of the step
                    paused, lost = self._paused_seconds, self._paused_seconds - paused
                    begun, arrived = begun + lost, arrived + lost
                try:
                    size_of = size_of or size_function(batch)
                    size = size_of(batch)
                except Exception:  # nothing with a length, or an array without dimensions
                    size_of = size = None
                if size is None:  # outside of the except: an AndonStop from here is not its consequence
                    timed(done - begun, arrived - begun)
                else:
                    counted(done - begun, arrived - begun, size)
                begun = done
                self._step += 1
                progress.steps += 1
        finally:
            if tracing is not None:
                tracing.end_step()
            self._recorder.set_coordinates(batch=ABSENT_32)

    def _step_writers(self) -> tuple[Callable[..., None], Callable[..., None]]:
        """What records a step's times, without and with its number of samples; made once."""
        if self._measured is None:
            times = ("step_duration", "data_wait")
            self._measured = self.bind(*times), self.bind(*times, "samples")
        return self._measured

    @contextlib.contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Any]:
        """A span of this run around a block: `with monitor.span("evaluate", split="validation"): …`.

        It is in the lake's `spans` and goes to the trace exporters; what is raised within is recorded
        with it. Yields OpenTelemetry's span.
        """
        if (tracing := self._live_tracing()) is None:
            from opentelemetry.trace import INVALID_SPAN

            yield INVALID_SPAN
            return
        with tracing.span(name, **attributes) as span:
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
        """Something that happened: an event of the innermost span, and a row of the lake's `events`.

        `severity` is INFO, WARNING, ERROR or CRITICAL; `body` is text; other keywords are attributes.
        """
        with guard("event"):
            if (tracing := self._live_tracing()) is not None:
                tracing.event(name, {**(attributes or {}), **more}, severity=severity, body=body)

    @property
    def traceparent(self) -> str | None:
        """The innermost span in W3C form, for `TRACEPARENT` of a child process; None when disabled."""
        tracing = self._live_tracing()
        return tracing.traceparent if tracing is not None else None

    def _live_tracing(self) -> RunSpans | None:
        """The run's spans; a run that has not begun begins here."""
        if self.enabled and self._run is None:
            self.start()
        return self._run.tracing if self._run is not None and self.enabled else None


def size_function(batch: Any) -> Callable[[Any], int]:
    """How to tell the number of samples of a batch like this one; it raises where that cannot be told."""
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Mapping):
        inner = size_function(batch[0])
        return lambda one: inner(one[0])
    if isinstance(batch, tuple | list) and batch and hasattr(batch[0], "__len__"):
        return len if isinstance(batch[0], str | bytes) else lambda one: len(one[0])
    if isinstance(batch, Mapping) and batch:
        key = next(iter(batch))
        return lambda one: len(one[key])
    if isinstance(batch, str | bytes):
        raise TypeError("the length of a text is no number of samples")
    return len


def count_of(batches: Any) -> int | None:
    """How many batches there are; None where that is not known."""
    try:
        return len(batches)
    except Exception:  # a loader of an endless data set has a `__len__` that raises
        return None
