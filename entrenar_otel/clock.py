"""Clock: where times come from. Tests put one in place that stands still until it is moved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Two functions of the `time` module."""

    @property
    def monotonic_ns(self) -> Callable[[], int]:
        """Nanoseconds that never go back."""

    @property
    def time_ns(self) -> Callable[[], int]:
        """Nanoseconds since 1970, UTC."""


@dataclass(frozen=True)
class SystemClock:
    """The machine's clocks, without a call in between."""

    monotonic_ns: Callable[[], int] = time.monotonic_ns
    time_ns: Callable[[], int] = time.time_ns


SYSTEM_CLOCK = SystemClock()
