"""Values that are computed when a test says so: what the recorder knows of a `jax.Array`."""

from __future__ import annotations

from typing import Any

import numpy as np


class Array:
    """A number that is there once it is `done`, or was looked at so often."""

    ndim = 0
    size = 1
    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, value: float, *, looks: float = float("inf"), error: Exception | None = None) -> None:
        self.value, self.looks, self.error = float(value), looks, error
        self.is_done = self.is_copied = False
        self.waited = 0

    def done(self) -> Array:
        self.is_done = True
        return self

    def copy_to_host_async(self) -> None:
        self.is_copied = True

    def is_ready(self) -> bool:
        self.looks -= 1
        return self.is_done or self.looks < 0

    def __float__(self) -> float:
        if not self.is_ready():
            self.waited += 1
        if self.error is not None:
            raise self.error
        return self.value
