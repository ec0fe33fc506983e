"""Scrapes: who asks the page how often, so that the end of a run can wait for one more."""

from __future__ import annotations

import threading
from time import monotonic

#: Scrapers that are told apart; of more, the first ones.
_MAX_CLIENTS = 100
#: A scraper that was not seen for so many of its intervals is gone.
_GONE = 3


class Scrapes:
    """The scrapes of a page that were answered.

    >>> scrapes = Scrapes()
    >>> scrapes.answered("10.0.0.1", 100.0)
    >>> scrapes.answered("10.0.0.1", 115.0)
    >>> scrapes.next_within(120.0), scrapes.next_within(200.0)
    (30.0, 0.0)
    """

    def __init__(self) -> None:
        self._times: dict[str, tuple[float, float]] = {}  # a client's last two
        self._since: float | None = None
        self._until = 0.0
        self._over = threading.Event()

    def answered(self, client: str, begun: float) -> None:
        """A scrape that began then has its answer."""
        if client in self._times or len(self._times) < _MAX_CLIENTS:
            self._times[client] = (self._times.get(client, (begun, begun))[1], begun)
        if self._since is not None and begun >= self._since:
            self._over.set()

    def next_within(self, now: float) -> float:
        """In how many seconds one should be there, twice a scraper's interval; 0: none is expected."""
        intervals = [(last - before, now - last) for before, last in self._times.copy().values()]
        return max((2 * every for every, ago in intervals if ago <= _GONE * every), default=0.0)

    def await_one(self, seconds: float) -> None:
        """One that begins from here on is awaited, for so long."""
        self._since = monotonic()
        self._until = self._since + seconds

    @property
    def is_awaited(self) -> bool:
        """Whether the end of the page waits for one, or has."""
        return self._since is not None

    @property
    def is_over(self) -> bool:
        """Whether the awaited one was answered, or does not come any more."""
        return self._since is not None and (self._over.is_set() or monotonic() >= self._until)

    @property
    def left_seconds(self) -> float:
        """How long it is still waited for."""
        return 0.0 if self._over.is_set() else max(0.0, self._until - monotonic())

    def wait(self) -> None:
        """Wait for it."""
        self._over.wait(self.left_seconds)
