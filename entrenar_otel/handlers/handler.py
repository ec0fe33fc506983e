"""Handler: takes alerts to somebody. Each has its own thread and bounded queue."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from entrenar_processors.alert import Alert, Level

from entrenar_otel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The run and process that an alert is about. `host` defaults to the machine's name."""

    run_id: str
    attempt: int = 1
    rank: int = 0
    world_size: int = 1
    model_id: str | None = None
    lake: str | None = None
    host: str = field(default_factory=socket.gethostname)

    def labels(self) -> dict[str, str]:
        """The labels that tell one process's series from another's.

        >>> RunInfo("r1", rank=2, model_id="digits").labels()
        {'run_id': 'r1', 'rank': '2', 'model_id': 'digits'}
        """
        labels = {"run_id": self.run_id, "rank": str(self.rank), "model_id": self.model_id or ""}
        return {name: value for name, value in labels.items() if value}


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert that began or ended, on its way to handlers. `incident`: the folder or URL of its data."""

    alert: Alert
    run: RunInfo
    incident: str | None = None


@runtime_checkable
class Handler(Protocol):
    """Takes notices one after another on its own thread, where it may raise and may hang.

    It may have a `name`, a `min_level` (default WARNING), a `close()`, and a `repeat()` that is called
    every `tick_seconds`.
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
    """The handler itself, or one that calls the function. Raises ConfigError for anything else."""
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
    """The level of this name, in any case. Raises ConfigError.

    >>> checked_level("error")
    <Level.ERROR: 'ERROR'>
    """
    try:
        return Level(str(given).upper())
    except ValueError:
        raise ConfigError(f"min_level: expected one of {', '.join(Level)}, got {given!r}") from None
