"""Callbacks: what `monitor.on` registered, by occasion, and when it is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from entrenar_otel.console import logger
from entrenar_otel.errors import AndonStop, ConfigError
from entrenar_otel.interruption import from_outside

#: What `monitor.on` takes: `alert` is any alert that begins, the others are what Andon does.
OCCASIONS = ("alert", "reduce_lr", "pause", "resume", "stop")

Callback = Callable[..., object]
Outcome = Literal["done", "failed", "not called"]


@dataclass(frozen=True)
class _Registered:
    call: Callback
    is_local: bool


class Callbacks:
    """Calls what is registered, on the thread that asks for it.

    Where several ranks train together, a callback that is not `local` may wait for the other ranks. It is
    called only if all of them call it: on a stop that they agreed on, as long as no such callback before it
    failed on this rank.
    """

    def __init__(self, *, world_size: int, agrees: bool) -> None:
        self._registered: dict[str, list[_Registered]] = {name: [] for name in OCCASIONS}
        self._has_ranks, self._agrees = world_size > 1, agrees
        self._warned_of: set[str] = set()
        #: Whether the other ranks meet this one in the callbacks of an agreed stop.
        self.in_step = True
        #: Callbacks that raised, by occasion.
        self.failures: Counter[str] = Counter()

    def on(self, occasion: str, call: Callback, *, local: bool = False) -> None:
        """Register a callback. Raises ConfigError."""
        check_callback(occasion, call)
        self._registered[occasion].append(_Registered(call, local))

    def has(self, occasion: str) -> bool:
        """Whether anything is registered."""
        return bool(self._registered[occasion])

    def call(self, occasion: str, *arguments: object, agreed: bool = False) -> Outcome:
        """Call what is registered; one that raises is logged and counted, and the others are called.

        Returns `failed` where any raised. AndonStop passes.
        """
        outcome: Outcome = "not called"
        for callback in self._registered[occasion]:
            meets_ranks = self._has_ranks and not callback.is_local
            if meets_ranks and not (agreed and self.in_step):
                self._warn_not_called(occasion, agreed=agreed)
                continue
            if outcome == "not called":
                outcome = "done"
            try:
                callback.call(*arguments)
            except AndonStop:
                raise
            except Exception as error:
                if from_outside(error):
                    raise
                outcome = "failed"
                self.failures[occasion] += 1
                # The others may wait for this rank within that call: one more would meet them there.
                self.in_step = self.in_step and not meets_ranks
                name = getattr(callback.call, "__qualname__", repr(callback.call))
                kind = type(error).__name__
                logger.warning("the callback %s on %s failed: %s: %s", name, occasion, kind, error)
        return outcome

    def _warn_not_called(self, occasion: str, *, agreed: bool) -> None:
        if agreed:
            logger.warning("a callback on %s is not called: one before it failed on this rank", occasion)
        elif occasion not in self._warned_of:
            self._warned_of.add(occasion)
            logger.warning(
                "a callback on %s is not called: it may wait for other ranks, which have not agreed. "
                "Register it with local=True if it does not%s",
                occasion,
                ", or give AndonConfig(agree=…)" if occasion == "stop" and not self._agrees else "",
            )


def check_callback(occasion: str, call: Callback) -> None:
    """Raise ConfigError where this is no occasion, or no function."""
    if occasion not in OCCASIONS:
        raise ConfigError(f"expected one of {', '.join(OCCASIONS)}, got {occasion!r}")
    if not callable(call):
        raise ConfigError(f"expected a function to call on {occasion}, got {call!r}")
