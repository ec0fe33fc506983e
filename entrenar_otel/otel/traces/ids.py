"""Ids of spans and traces, from randomness of their own.

OpenTelemetry's generator takes them from Python's global `random`. So each span would change what a
training draws after `random.seed(…)`: monitored it would not be the training it is without; and two runs
with one seed would have one trace id.
"""

from __future__ import annotations

import os
import random

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

_random = random.Random()  # noqa: S311 (ids are no secrets)
os.register_at_fork(after_in_child=_random.seed)


class OwnIds(RandomIdGenerator):
    """Ids that leave the global `random` alone.

    >>> import random
    >>> state = random.getstate()
    >>> OwnIds().generate_trace_id() != OwnIds().generate_trace_id(), random.getstate() == state
    (True, True)
    """

    def generate_span_id(self) -> int:
        return _random.getrandbits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        return _random.getrandbits(128) or self.generate_trace_id()
