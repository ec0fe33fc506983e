"""Batch size: how many samples the batches of a training have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from entrenar_otel.interruption import from_outside
from entrenar_otel.monitor.loop import size_function


class BatchSize:
    """Counts the samples of batches; what to look at is found out once for batches of a kind.

    >>> size_of = BatchSize()
    >>> size_of([[1, 2, 3], [0, 0, 1]]), size_of({"x": "ab"}), size_of([{"x": "ab"}]), size_of(object())
    (3, 2, 2, None)
    """

    def __init__(self) -> None:
        self._kind: tuple[type, type | None] | None = None
        self._count: Callable[[Any], int] = len

    def __call__(self, batch: Any) -> int | None:
        """The number; None where the batch does not say."""
        kind = type(batch), type(batch[0]) if isinstance(batch, tuple | list) and batch else None
        try:
            if kind == self._kind:
                return self._count(batch)
        except Exception as error:  # of this kind, and yet another
            if from_outside(error):
                raise
        self._kind = None
        try:
            self._count = size_function(batch)
            size = self._count(batch)
        except Exception as error:  # a graph, an object of the user's
            if from_outside(error):
                raise
            return None
        self._kind = kind
        return size
