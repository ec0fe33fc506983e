"""Batches: how many there are, and how many samples one of them has, as far as it can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def size_function(batch: Any) -> Callable[[Any], int]:
    """How to tell the number of samples of a batch like this one; it raises where that cannot be told."""
    if isinstance(batch, tuple | list) and batch and isinstance(batch[0], Mapping):
        inner = size_function(batch[0])
        return lambda one: inner(one[0])
    if isinstance(batch, tuple | list) and batch and hasattr(batch[0], "__len__"):
        return len if isinstance(batch[0], str | bytes) else lambda one: len(one[0])
    if isinstance(batch, Mapping) and batch:
        key = next(iter(batch))
        return lambda one: len(one[key])
    if isinstance(batch, str | bytes):
        raise TypeError("the length of a text is no number of samples")
    return len


def count_of(batches: Any) -> int | None:
    """How many batches there are; None where that is not known."""
    try:
        return len(batches)
    except Exception:  # a loader of an endless data set has a `__len__` that raises
        return None
