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
        self._kind: type | None = None
        self._inner: type | None = None  # of the first item of a tuple or list
        self._count: Callable[[Any], int] = len
        self._key: Any = None  # of the item that has the size, where it is one's
        #: Of that item, where it is a tensor: its `len` is a function in Python.
        self._tensor: type | None = None

    def __call__(self, batch: Any) -> int | None:
        """The number; None where the batch does not say."""
        kind = type(batch)
        try:
            if kind is self._kind and (self._inner is None or type(batch[0]) is self._inner):
                if self._key is None:
                    return self._count(batch)
                item: Any = batch[self._key]
                is_tensor = type(item) is self._tensor
                return int(item.shape[0]) if is_tensor else len(item)
        except Exception as error:  # of this kind, and yet another
            if from_outside(error):
                raise
        self._kind = None
        try:
            self._count = size_function(batch)
            self._key = getattr(self._count, "key", None)
            size = self._count(batch)
        except Exception as error:  # a graph, an object of the user's
            if from_outside(error):
                raise
            return None
        self._kind = kind
        self._inner = type(batch[0]) if isinstance(batch, tuple | list) and batch else None
        item_kind = None if self._key is None else type(batch[self._key])
        self._tensor = item_kind if getattr(item_kind, "__module__", None) == "torch" else None
        return size
