"""Ids of spans and traces, from randomness of their own.

OpenTelemetry's generator takes them from Python's global `random`. So each span would change what a
training draws after `random.seed(…)`: monitored it would not be the training it is without; and two runs
with one seed would have one trace id.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_random = random.Random()  # noqa: S311 (ids are no secrets)
os.register_at_fork(after_in_child=_random.seed)


_given = threading.local()


@contextlib.contextmanager
def given(span_id: int) -> Iterator[None]:
    """Within it, the spans that this thread begins have this id."""
    _given.span_id = span_id
    try:
        yield
    finally:
        _given.span_id = None


def new_span_id() -> int:
    """The id of a span that begins."""
    return _random.getrandbits(64) or new_span_id()


class OwnIds(RandomIdGenerator):
    """Ids that leave the global `random` alone.

    >>> import random
    >>> state = random.getstate()
    >>> OwnIds().generate_trace_id() != OwnIds().generate_trace_id(), random.getstate() == state
    (True, True)
    """

    def generate_span_id(self) -> int:
        return getattr(_given, "span_id", None) or new_span_id()

    def generate_trace_id(self) -> int:
        return _random.getrandbits(128) or self.generate_trace_id()
