"""Disabled run: the no-op twin that a Monitor holds where nothing is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from entrenar_otel.monitor.alerts import Agree, StandIn
from entrenar_otel.monitor.answers import Answers
from entrenar_otel.monitor.counted import Counted, count_of
from entrenar_otel.recording.segment_log import no_op

if TYPE_CHECKING:
    from entrenar_processors import Finding
    from entrenar_processors.alert import Alert, Rule

T = TypeVar("T")


class DisabledRun:
    """Has what a RecordedRun has, and does nothing: loops run on, questions about the lake are answered."""

    enabled = False
    is_closed = True
    is_global = False
    dropped = bad_values = 0
    metrics_url: str | None = None

    def __init__(
        self,
        answers: Answers,
        *,
        rank: int,
        world_size: int,
        agree: Agree | None = None,
        log: Callable[..., None] = no_op,
    ) -> None:
        self.answers = answers
        self.log = log
        self.loop = DisabledLoop()
        self.version = DisabledVersion()
        self.alerts = DisabledAlerts(rank, world_size, agree)
        self.providers: list[Any] = []

    def bind(self, metrics: Sequence[str], tags: Mapping[str, Any] | None) -> Callable[..., None]:
        return self.log

    def record_aside(self, metrics: Mapping[str, Any], tags: Mapping[str, Any] | None) -> None:
        """Nothing is kept."""

    def start(self) -> bool:
        return True

    def flush(self, timeout_seconds: float) -> bool:
        return True

    def close(self, state: str | None, reason: str | None, error: BaseException | None = None) -> bool:
        return False

    def raise_late_stop(self, error: BaseException | None) -> None:
        """Nothing is judged."""

    def abandon(self) -> None:
        """Nothing is held."""

    def save_sidecar(self, checkpoint: Any) -> None:
        """Nothing is recorded that a checkpoint could be of."""

    def adopt(self, provider: Any) -> None:
        """A meter provider stays with the run that it has."""


def _each(batches: Iterable[T]) -> Iterator[T]:
    yield from batches


class DisabledLoop:
    """Epochs and steps without measurements, spans that are no spans."""

    traceparent: str | None = None

    def epochs(self, count: int, start: int = 0) -> Counted[int]:
        return Counted(iter(range(start, count)), lambda: max(0, count - start))

    def steps(
        self, batches: Iterable[T], *, epoch: int | None = None, split: str | None = None
    ) -> Counted[T]:
        return Counted(_each(batches), lambda: count_of(batches))

    def step(
        self,
        size: Any = None,
        *,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
    ) -> DisabledStep:
        return DisabledStep(size)

    def begin_step(self, epoch: int | None = None, batch: int | None = None, step: int | None = None) -> None:
        """Nothing is measured."""

    def end_step(self, size: Any = None) -> None:
        """Nothing is measured."""

    def begin_wait(self) -> None:
        """Nothing is measured."""

    @contextlib.contextmanager
    def span(self, name: str, **attributes: Any) -> Iterator[Any]:
        from opentelemetry.trace import INVALID_SPAN

        yield INVALID_SPAN

    def event(
        self,
        name: str,
        attributes: Mapping[str, Any] | None = None,
        *,
        severity: str = "INFO",
        body: str | None = None,
        **more: Any,
    ) -> None:
        """Nobody hears it."""


class DisabledStep:
    """A step of which only the size is known, should somebody ask."""

    __slots__ = ("size",)

    def __init__(self, size: Any) -> None:
        self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        """Nothing is measured."""


class DisabledVersion:
    """No version of a model is made."""

    def add_parent(self, parent: Any, change: str | None = None) -> None:
        """Nobody hears it."""

    def describe(self, accuracy: Any = None, metrics: Mapping[str, Any] | None = None) -> None:
        """Nobody hears it."""


class DisabledAlerts(StandIn):
    """Nothing fires; the other ranks are answered where they stop together."""

    active: Sequence[Alert] = ()

    def check(self, method: str, name: str, value: float) -> None:
        """Nothing is judged."""

    def report_finding(self, finding: Finding, rule: Rule) -> None:
        """Nobody is told."""
