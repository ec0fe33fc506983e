"""Clock: where times come from. A run has one for all that it notes, whatever becomes of the machine's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

#: By how much the machine's clock may be off a run's before the run follows it. What NTP does by and by moves
#: both alike; it steps from 0.128 s (ntpd) or 0.4 s (timesyncd) on.
BOUND_NS = 100_000_000
#: A clock that is set to and fro (two services that disagree) is not followed more often than this.
_REST_NS = 1_000_000_000
_MOST_ERAS = 100
#: Two clocks cannot be read at one moment: what was not read within this time says nothing.
_READING_NS = 10_000_000


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


class Era(NamedTuple):
    """From a monotonic time on, a run's time of day is the monotonic time plus `anchor_ns`."""

    since_ns: int
    anchor_ns: int


class RunClock:
    """The time of day of one run: monotonic time plus an anchor, so that it never steps by itself.

    Samples, events, spans, alerts and incidents all take it. Where the machine's clock is set, or the machine
    slept (monotonic time stands still then), the two disagree. Whoever asks for the time next finds that, and
    a new era begins: from the last moment on in which they agreed, times follow the machine. Times before it
    stay as they are; `seq` gives the order. `on_era` is called with a new era by whoever finds it.

    >>> clock = RunClock()
    >>> abs(clock.time_ns() - time.time_ns()) < BOUND_NS
    True
    """

    def __init__(
        self, clock: Clock = SYSTEM_CLOCK, on_era: Callable[[Era], object] = lambda _era: None
    ) -> None:
        self._clock = clock
        self._on_era = on_era
        #: The very function of the machine's clock: the hot path calls it.
        self.monotonic_ns = clock.monotonic_ns
        self.eras: tuple[Era, ...] = ()
        self._agreed_ns = 0  # monotonic time
        self.restart()

    def restart(self) -> None:
        """The run begins now: what was read before it is forgotten."""
        monotonic, wall, _ = min((self._read() for _ in range(3)), key=lambda reading: reading[2])
        self._agreed_ns = monotonic
        self.eras = (Era(monotonic, wall - monotonic),)

    def _read(self) -> tuple[int, int, int]:
        """Monotonic time, time of day, and how long reading both took."""
        before = self.monotonic_ns()
        wall = self._clock.time_ns()
        took = self.monotonic_ns() - before
        return before + took // 2, wall, took

    @property
    def anchor_ns(self) -> int:
        """What turns a monotonic time of now into the time of day."""
        return self.eras[-1].anchor_ns

    @property
    def was_set(self) -> bool:
        """Whether the machine's clock was set since the run began."""
        return len(self.eras) > 1

    def time_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        before = self.monotonic_ns()  # as `_read`, without a call: every span and event comes here
        wall = self._clock.time_ns()
        took = self.monotonic_ns() - before
        monotonic = before + took // 2
        eras = self.eras
        if abs(wall - monotonic - eras[-1].anchor_ns) <= BOUND_NS:
            self._agreed_ns = monotonic
        elif took <= _READING_NS and (len(eras) == 1 or monotonic - eras[-1].since_ns >= _REST_NS):
            # Two threads may come here at once: each takes what it has read, and both are right.
            era = Era(max(self._agreed_ns, eras[-1].since_ns) + 1, wall - monotonic)
            self.eras = (*eras[-_MOST_ERAS:], era)
            self._agreed_ns = monotonic
            self._on_era(era)
        return monotonic + self.eras[-1].anchor_ns

    def monotonic_of(self, time_ns: int) -> int:
        """The monotonic time of a recent time of day. One that comes twice is the latest one's."""
        now = self.monotonic_ns()
        eras = self.eras
        untils = (*(era.since_ns for era in eras[1:]), now)
        pairs = [(time_ns - era.anchor_ns, era, until) for era, until in zip(eras, untils, strict=True)]
        within = [at for at, era, until in pairs if era.since_ns <= at <= until]
        return within[-1] if within else min((at for at, _, _ in pairs), key=lambda at: abs(now - at))

    def ranges(self, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """A stretch of monotonic time as times of day: one range, and one more for each step within it.

        Each reaches a bound further at a step: other processes of the run notice it at other moments.
        """
        ranges = []
        for number, era in enumerate(self.eras):
            first, last = start_ns, end_ns
            if number:
                first = max(first, era.since_ns - BOUND_NS)
            if number + 1 < len(self.eras):
                last = min(last, self.eras[number + 1].since_ns + BOUND_NS)
            if first < last:
                ranges.append((first + era.anchor_ns, last + era.anchor_ns))
        return ranges
