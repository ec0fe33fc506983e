"""Handler: whoever is told of an alert. Each has a thread and a bounded queue of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from entrenar_processors.alert import Alert, Level

from entrenar_otel.errors import ConfigError


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
