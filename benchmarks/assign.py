"""A/B assignment: one call of `ab.assign`, for each kind of user id, against plain md5 in hexadecimal.

10,000 ids, each asked for once a round; the peer is what planout and most articles do: md5 of salt and
id, its hexadecimal text as a number, modulo 10,000. Both take turns; CPU time, of which the median over
the rounds counts. Then `ab.record`, which writes the outcome and who had it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from time import process_time, thread_time
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Row, describe_ns, median_ratio, started, temporary
from entrenar_otel.serving import ABTest

IDS, ROUNDS, RECORDS = 10_000, 101, 100_000
KINDS: dict[str, list[Any]] = {
    "text": [f"user-{number}" for number in range(IDS)],
    "whole numbers": list(range(10**6, 10**6 + IDS)),
    "bytes": [b"user-%d" % number for number in range(IDS)],
    "UUIDs": [UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128) for number in range(IDS)],
    "text beyond ASCII": [f"użytkownik-{number}" for number in range(IDS)],
}


def measure() -> Iterator[Row]:
    test = ABTest("m@1", "m@2", 0.1, "accuracy", check_seconds=None)
    for kind, ids in KINDS.items():
        times = _interleave({"ours": test.assign, "md5": _md5}, ids)
        ratio = median_ratio(times, "ours", "md5")
        note = f"{ratio:.2f} × md5, {describe_ns(times['ours'])} against {describe_ns(times['md5'])}"
        yield Row(f"`ab.assign`, {kind}", 1.0, 1e6 * float(np.median(times["ours"])), "µs", note)
    with temporary() as folder, started(folder) as monitor:
        recording = ABTest("m@1", "m@2", 0.1, "accuracy", check_seconds=None, monitor=monitor)
        recording.record("first", 1.0)
        began = process_time()
        for user in KINDS["text"] * (RECORDS // IDS):
            recording.record(user, 1.0)
        spent = (process_time() - began) / RECORDS
        yield Row(
            "`ab.record`, CPU time with the heartbeat's", None, 1e6 * spent, "µs", "two samples, one record"
        )


def _interleave(contenders: dict[str, Callable[[Any], str]], ids: list[Any]) -> dict[str, NDArray[Any]]:
    """CPU seconds per call in each round, `(rounds,)`; the first round warms up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS + 1):
        for name, assign in contenders.items():
            began = thread_time()
            for user in ids:
                assign(user)
            times[name].append((thread_time() - began) / len(ids))
    return {name: np.array(found[1:]) for name, found in times.items()}


def _md5(user: Any) -> str:
    number = int(hashlib.md5(f"m@1 vs m@2.{user}".encode()).hexdigest(), 16)
    return "B" if number % 10_000 < 1000 else "A"
