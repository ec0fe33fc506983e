"""Every error and warning of the package, and the one guard through which our own failures pass.

    Exception
    ├── EntrenarError
    │   ├── ConfigError   (also ValueError)   an invalid setting; raised at construction only
    │   ├── RunError      (also ValueError)   a run that is not there, is ambiguous, or may not be resumed
    │   ├── BadInput      (also ValueError)   a value, name or coordinate, when on_bad_value="raise"
    │   ├── QueryError    (also ValueError)   SQL that is refused or wrong
    │   ├── NotMeasured   (also KeyError)     a metric that was never reported
    │   ├── LineageError  (also ValueError)   a version that is unknown, twofold, or its own ancestor
    │   ├── DeliveryError                     an alert that a handler could not deliver; stays on its thread
    │   └── LakeError                         the lake cannot be read or written
    └── AndonStop                             the line is stopped: not an error of ours, and never swallowed

What goes wrong inside monitoring never reaches the training loop: it passes `guard`, is logged once
a kind and counted. What only passes through, raised by a signal handler that interrupted us (a time
limit, say), is not ours and goes on: `from_outside`.
"""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Any

from entrenar_otel.console import logger
from entrenar_otel.interruption import from_outside
from entrenar_otel.redact import printable_text


class EntrenarError(Exception):
    """Base of every error that this package raises on purpose. Its text steers no terminal."""

    def __str__(self) -> str:
        return printable_text(super().__str__())


class ConfigError(EntrenarError, ValueError):
    """An invalid setting: expected, found, what to do."""


class RunError(EntrenarError, ValueError):
    """A run that does not exist, is ambiguous, or may not be resumed."""


class BadInput(EntrenarError, ValueError):
    """A value, name or coordinate that cannot be recorded (`on_bad_value="raise"`)."""


class QueryError(EntrenarError, ValueError):
    """SQL that is refused, or that DuckDB could not run; the message is DuckDB's."""


class ProcessEnds(QueryError):
    """The process ends, and no query of another thread than the main one is answered any more."""


class NotMeasured(EntrenarError, KeyError):
    """A metric that was never reported. Nothing is inferred in its place."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return printable_text(str(self.args[0]))


class LineageError(EntrenarError, ValueError):
    """A version of a model that is unknown, recorded twice with two configurations, or its own ancestor."""


class DeliveryError(EntrenarError):
    """An alert that a handler could not deliver: to whom, why. Never with a URL's secrets."""


class LakeError(EntrenarError):
    """The lake cannot be read or written."""


class AndonStop(Exception):
    """The line is stopped. Save what you need, and let it leave the training loop.

    Attributes: `metric`, `value`, and where it happened: `epoch`, `batch`, `step` (None where
    not reported); `alert`, what was judged (`entrenar_processors.Alert`), and `incident`, the folder
    with everything that was known. The sample itself is recorded before this is raised.
    """

    def __init__(
        self,
        message: str,
        *,
        alert: Any = None,
        incident: str | None = None,
        metric: str | None = None,
        value: float | None = None,
        epoch: int | None = None,
        batch: int | None = None,
        step: int | None = None,
    ) -> None:
        super().__init__(printable_text(message))
        self.alert = alert
        self.incident = incident
        self.metric = metric
        self.value = value
        self.epoch = epoch
        self.batch = batch
        self.step = step


#: Failures of our own, by place. `entrenar_otel.testing.strict` makes them raise.
failures: Counter[str] = Counter()
_strict = False


def set_strict(strict: bool) -> bool:
    """Make `guard` re-raise (for tests); returns the former setting."""
    global _strict
    before, _strict = _strict, strict
    return before


class guard:  # noqa: N801 - it reads as `contextlib.suppress` does
    """Let no failure of ours reach the training loop: log it (once per place), count it, go on.

    What is cut short because the process ends has not failed. A class and not a generator: a heartbeat
    enters a dozen of them with cold caches.

    >>> with guard("an example"):
    ...     pass
    """

    __slots__ = ("_place", "_then")

    def __init__(
        self, place: str, then: str = "training goes on, further failures of this kind are only counted"
    ) -> None:
        self._place, self._then = place, then

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if isinstance(error, ProcessEnds):
            return True
        if not isinstance(error, Exception) or isinstance(error, AndonStop) or from_outside(error):
            return False
        failures[self._place] += 1
        if failures[self._place] == 1:
            logger.warning(
                "monitoring failed in %s (%s: %s); %s",
                self._place,
                type(error).__name__,
                error,
                self._then,
                trace=True,
            )
        return not _strict


def describe(value: Any, limit: int = 80) -> str:
    """A value for a message: its repr, cut, or its type where even repr fails."""
    try:
        text = repr(value)
    except Exception as error:
        if from_outside(error):
            raise
        return f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"
