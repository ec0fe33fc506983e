"""Handler: whoever is told of an alert. Each has a thread and a bounded queue of its own."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from entrenar_processors.alert import Alert, Level

from entrenar_otel.errors import ConfigError, DeliveryError, guard
from entrenar_otel.handlers.shown import without_secrets
from entrenar_otel.worker import Worker, stop_all

logger = logging.getLogger("entrenar_otel")

#: What may wait for one handler before something is dropped.
MAX_WAITING = 1000


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Whose alert it is. `host` is the machine's name where none is given."""

    run_id: str
    attempt: int = 1
    rank: int = 0
    world_size: int = 1
    model_id: str | None = None
    lake: str | None = None
    host: str = field(default_factory=socket.gethostname)

    def labels(self) -> dict[str, str]:
        """What tells the series of one process from those of another.

        >>> RunInfo("r1", rank=2, model_id="digits").labels()
        {'run_id': 'r1', 'rank': '2', 'model_id': 'digits'}
        """
        found = {"run_id": self.run_id, "rank": str(self.rank), "model_id": self.model_id or ""}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert on its way out: it began, or is over. `incident` is the folder or URL of what was kept."""

    alert: Alert
    run: RunInfo
    incident: str | None = None


@runtime_checkable
class Handler(Protocol):
    """Takes notices, one after another, on a thread that is its own: it may raise and may hang.

    It may have a `name`, a `min_level` (default WARNING), `close()`, and `repeat()`, which is called every
    `tick_seconds`.
    """

    def handle(self, notice: Notice) -> None:
        """Deliver it, or raise."""


class _Function:
    """A plain function that takes the alert."""

    def __init__(self, function: Callable[[Alert], object]) -> None:
        self.name = getattr(function, "__name__", type(function).__name__)
        self.min_level = getattr(function, "min_level", Level.WARNING)
        self._function = function

    def handle(self, notice: Notice) -> None:
        self._function(notice.alert)


def as_handler(given: Handler | Callable[[Alert], object]) -> Handler:
    """A handler as it is, a function of an alert as one. Raises ConfigError."""
    if isinstance(given, type):
        raise ConfigError(f"expected a handler, got the class {given.__name__}: write {given.__name__}(…)")
    handler: Any = given
    if not isinstance(given, Handler):
        if not callable(given):
            raise ConfigError(
                "expected a handler: a function that takes an Alert, or an object with "
                f"handle(notice), got {type(given).__name__}"
            )
        handler = _Function(given)
    checked_level(getattr(handler, "min_level", Level.WARNING))
    return handler  # type: ignore[no-any-return]


def checked_level(given: Level | str) -> Level:
    """A level by its name. Raises ConfigError.

    >>> checked_level("error")
    <Level.ERROR: 'ERROR'>
    """
    try:
        return Level(str(given).upper())
    except ValueError:
        raise ConfigError(f"min_level: expected one of {', '.join(Level)}, got {given!r}") from None


class Deliveries:
    """Hands every notice to every handler whose level it reaches; none hinders another, or the caller.

    `failures` counts by the handler's name what it did not deliver, `dropped` what had to make room:
    first what fired and has fired again or is over, then what fired.
    """

    def __init__(
        self,
        handlers: Iterable[Handler | Callable[[Alert], object]],
        *,
        max_waiting: int = MAX_WAITING,
        failures: Counter[str] | None = None,
    ) -> None:
        self.failures = Counter() if failures is None else failures
        self.dropped: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._channels = [_Channel(as_handler(one), self._count, max_waiting) for one in handlers]

    def send(self, notice: Notice) -> None:
        """Queue it. Never blocks, never raises; in a forked child, where no thread is, it does nothing."""
        for channel in self._channels:
            with guard(channel.worker.name):
                channel.put(notice)

    def flush(self, timeout_seconds: float = 2.0) -> bool:
        """Wait until what was sent is handled; False where it is not in time."""
        deadline = time.monotonic() + timeout_seconds
        rounds = [(one.worker, one.worker.wake()) for one in self._channels]
        return all([one.wait(n, max(0.0, deadline - time.monotonic())) for one, n in rounds])  # noqa: C419 - all

    def close(self, timeout_seconds: float = 2.0) -> list[str]:
        """Deliver what waits, then nothing more; returns the names of handlers that hang."""
        if any(one.worker.is_forked for one in self._channels):
            return []
        hanging = stop_all([one.worker for one in self._channels], timeout_seconds)
        return [name.removeprefix(_PREFIX) for name in hanging]

    def _count(self, counter: str, name: str) -> None:
        with self._lock:
            getattr(self, counter)[name] += 1


_PREFIX = "handler "


class _Channel:
    """One handler with its queue and thread."""

    def __init__(self, handler: Handler, count: Callable[[str, str], None], max_waiting: int) -> None:
        self.name = str(getattr(handler, "name", type(handler).__name__))
        self._handler: Any = handler
        self._least = checked_level(getattr(handler, "min_level", Level.WARNING)).rank
        self._count = count
        self._max = max_waiting
        self._told_of_failure = self._told_of_drop = False
        self._lock = threading.Lock()
        self._number = 0
        # By number, oldest first: what waits; of that, what fires; of that, what is no news any more.
        self._waiting: OrderedDict[int, Notice] = OrderedDict()
        self._firing: OrderedDict[int, object] = OrderedDict()
        self._stale: OrderedDict[int, None] = OrderedDict()
        self._newest: dict[object, int] = {}
        self.worker = Worker(
            _PREFIX + self.name,
            self._work,
            interval_seconds=getattr(handler, "tick_seconds", None),
            finish=lambda: self._call(getattr(handler, "close", lambda: None)),
        )

    def put(self, notice: Notice) -> None:
        if self.worker.is_forked or notice.alert.level.rank < self._least:
            return
        is_first_drop = False
        with self._lock:
            key = (notice.alert.name, notice.alert.source, notice.alert.series)
            if key in self._newest:
                self._stale[self._newest.pop(key)] = None
            if len(self._waiting) >= self._max:
                self._take(next(iter(self._stale or self._firing or self._waiting)))
                self._count("dropped", self.name)
                is_first_drop, self._told_of_drop = not self._told_of_drop, True
            self._number += 1
            self._waiting[self._number] = notice
            if not notice.alert.is_over:
                self._firing[self._number] = key
                self._newest[key] = self._number
        if is_first_drop:
            logger.warning(
                "the alert handler %s is too slow: of the alerts that wait for it, repeated and old ones "
                "are dropped, and counted",
                self.name,
            )
        self.worker.wake()

    def _take(self, number: int) -> Notice:
        key = self._firing.pop(number, None)
        self._stale.pop(number, None)
        if self._newest.get(key) == number:
            del self._newest[key]
        return self._waiting.pop(number)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    break
                notice = self._take(next(iter(self._waiting)))
            self._call(self._handler.handle, notice)
        if repeat := getattr(self._handler, "repeat", None):
            self._call(repeat)

    def _call(self, function: Callable[..., object], *arguments: Notice) -> None:
        try:
            function(*arguments)
        except BaseException as error:  # also SystemExit: the thread is ours, and goes on
            self._count("failures", self.name)
            if not self._told_of_failure:
                self._told_of_failure = True
                logger.warning(
                    "the alert handler %s failed (%s); training goes on, its further failures are only "
                    "counted",
                    self.name,
                    _text(error),
                )


def _text(error: BaseException) -> str:
    try:
        text = without_secrets(str(error))[:500]
    except Exception:  # a stranger's __str__
        text = "…"
    return text if isinstance(error, DeliveryError) else f"{type(error).__name__}: {text}"
