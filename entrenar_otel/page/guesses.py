"""Guesses: how often an address may send a wrong token."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Wrong tokens in a row that are looked at, and seconds until there is one more.
BURST, SECONDS_EACH = 10, 2.0
#: Addresses that are remembered; of more, those that were quiet the longest are forgotten.
MAX_ADDRESSES = 10_000


class Guesses:
    """A few wrong tokens from each address, then one each `SECONDS_EACH`: more are not compared with ours.

    Others are never kept waiting: each address is counted for itself (of IPv6 each /64, which one machine may
    have all of), nothing is held while somebody waits, and whoever has logged in before is not asked again.

    >>> guesses = Guesses(lambda: 0.0)
    >>> for _ in range(BURST):
    ...     guesses.count("192.0.2.7")
    >>> guesses.wait_seconds("192.0.2.7"), guesses.wait_seconds("192.0.2.8")
    (2.0, 0.0)
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: By network: when its guesses would be forgotten.
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """How long until a token from there is looked at; 0 where it is now."""
        with self._lock:
            left = self._until.get(_network(address), 0.0) - self._now()
        return max(0.0, left - (BURST - 1) * SECONDS_EACH)

    def count(self, address: str) -> None:
        """One more wrong token came from there."""
        network = _network(address)
        with self._lock:
            now = self._now()
            self._until[network] = max(now, self._until.get(network, now)) + SECONDS_EACH
            self._until.move_to_end(network)
            while len(self._until) > MAX_ADDRESSES:
                self._until.popitem(last=False)


def _network(address: str) -> str:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
