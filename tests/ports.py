"""Ports on which nobody listens, until the test has somebody listen there."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator


def _own_ports() -> Iterator[int]:
    """Those of this worker of pytest, each once, below those that the system gives to clients.

    Another worker's could be taken between the moment they are found free and their use. TESTS_BESIDE is
    set for a second pytest at the same time, of which a worker has the same name.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 6
    worker += 6 if os.environ.get("TESTS_BESIDE") else 0
    yield from itertools.cycle(random.SystemRandom().sample(range(20_000 + worker, 32_000, 12), 1_000))


_PORTS = _own_ports()


def free_port() -> int:
    """One that stays free while nobody listens to it, which one that the system gave does not."""
    while True:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
