"""AndonConfig: what a program says about alerts; thresholds are in renacer.toml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_otel.errors import ConfigError


@dataclass(frozen=True)
class AndonConfig:
    """Who is told, and how several ranks stop together.

    Args:
        handlers: objects with `handle(notice)` (see `entrenar_otel.handlers`), or functions of an
            Alert. They are told in addition to those that the environment names.
        agree: for world sizes above 1: `agree(mine) -> anyone`, a collective that tells every rank
            whether any of them wants to stop, such as an all-reduce of the maximum. With it a stop waits
            for `monitor.raise_if_stopped()`, which every rank must then call after every step, and all
            ranks stop together, so that callbacks on the stop may use collectives. Without it a stop raises
            on its own rank, and runs only callbacks that were registered as `local`. See docs/ranks.md.
        pause_timeout_seconds, after_pause: override `[monitor.andon]`.

    Raises ConfigError.
    """

    handlers: Sequence[Any] = ()
    agree: Callable[[bool], bool] | None = None
    pause_timeout_seconds: float | None = None
    after_pause: str | None = None

    def __post_init__(self) -> None:
        for handler in self.handlers:
            if not callable(getattr(handler, "handle", handler)):
                raise ConfigError(
                    f"expected a handler with handle(notice), or a function of an alert, got {handler!r}"
                )
        if self.agree is not None and not callable(self.agree):
            raise ConfigError(f"expected agree to be a function of a bool, got {self.agree!r}")
        if self.pause_timeout_seconds is not None and not self.pause_timeout_seconds > 0:
            raise ConfigError(f"expected pause_timeout_seconds above 0, got {self.pause_timeout_seconds!r}")
        if self.after_pause not in (None, "stop", "resume"):
            raise ConfigError(f"expected after_pause 'stop' or 'resume', got {self.after_pause!r}")
