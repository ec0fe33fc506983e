"""QuantileSketch: percentiles of a whole run in bounded memory, with a known error."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Up to this many values a quantile is exact.
EXACT_VALUES = 1024
#: With more it is off by at most this share of its own value …
RELATIVE_ERROR = 0.001
#: … until the values span more buckets than this: then neighbours are merged, which doubles the error.
MAX_BUCKETS = 8192


def _interpolated(ordered: NDArray[np.float64], q: float) -> float:
    """`np.quantile` of sorted values to the last bit, without its care for arrays of all kinds."""
    place = (len(ordered) - 1) * q
    at = min(math.floor(place), len(ordered) - 1)
    low, high = float(ordered[at]), float(ordered[min(at + 1, len(ordered) - 1)])
    exact = _between(low, high, place - at)
    # From -1e308 to 1e308 the distance overflows; between their halves it does not.
    return exact if math.isfinite(exact) else 2 * _between(low / 2, high / 2, place - at)


def _between(low: float, high: float, share: float) -> float:
    distance = high - low
    return high - distance * (1 - share) if share >= 0.5 else low + distance * share


class QuantileSketch:
    """Mergeable percentiles: exact for short series, then logarithmic buckets.

    Method: DDSketch (Masson, Rim and Lee, VLDB 2019) with the uniform collapse of UDDSketch
    (Epicoco et al., 2020): bucket `i` holds the values in `(g**(i-1), g**i]` with
    `g = (1 + e) / (1 - e)`, with one store per sign and a count of zeros: at most twice 8,192
    buckets, 128 kB. `relative_error` is the present error. Non-finite values are not accepted.

    >>> sketch = QuantileSketch()
    >>> sketch.add(np.arange(1.0, 101.0))
    >>> sketch.quantile(0.5)
    50.5
    """

    def __init__(self) -> None:
        self.count = 0
        self.relative_error = RELATIVE_ERROR
        self._exact: NDArray[np.float64] | None = np.empty(0)
        self._ordered: NDArray[np.float64] | None = None  # the same, as soon as somebody asks
        self._zeros = 0
        self._stores = {+1: _Store(), -1: _Store()}

    def add(self, values: NDArray[np.float64]) -> None:
        """Add finite values, shape `(n,)`."""
        self.count += len(values)
        if self._exact is not None:
            self._exact = np.concatenate([self._exact, values])
            if self.count <= EXACT_VALUES:
                return
            values, self._exact, self._ordered = self._exact, None, None
        self._add_to_buckets(values)

    def _add_to_buckets(self, values: NDArray[np.float64]) -> None:
        for sign, store in self._stores.items():
            magnitudes = values[values > 0] if sign > 0 else -values[values < 0]
            if len(magnitudes):
                store.add(np.ceil(np.log(magnitudes) / self._log_gamma).astype(np.int64))
        self._zeros += int(np.count_nonzero(values == 0))
        while max(len(store.counts) for store in self._stores.values()) > MAX_BUCKETS:
            self._collapse()

    @property
    def _log_gamma(self) -> float:
        return math.log((1 + self.relative_error) / (1 - self.relative_error))

    def _collapse(self) -> None:
        for store in self._stores.values():
            store.collapse()
        self.relative_error = 2 * self.relative_error / (1 + self.relative_error**2)

    def quantile(self, q: float) -> float:
        """The value at `q` in [0, 1]; NaN if nothing was added. Exact quantiles interpolate linearly."""
        if self.count == 0:
            return math.nan
        if self._exact is not None:
            if self._ordered is None or len(self._ordered) != self.count:
                self._ordered = np.sort(self._exact)
            return _interpolated(self._ordered, q)
        rank = q * (self.count - 1)
        negative, positive = self._stores[-1], self._stores[+1]
        if rank < negative.total:
            return -self._value(negative.index_at(negative.total - 1 - rank))
        if rank < negative.total + self._zeros:
            return 0.0
        return self._value(positive.index_at(rank - negative.total - self._zeros))

    def _value(self, index: int) -> float:
        # 2 g^i / (g + 1): the point of bucket i whose relative distance to both ends is the error.
        log_gamma = self._log_gamma
        exponent = index * log_gamma + math.log(2.0 / (math.exp(log_gamma) + 1.0))
        return math.exp(min(exponent, 709.78))

    def merge(self, other: QuantileSketch) -> None:
        """Add everything that `other` holds; `other` does not change."""
        if other._exact is not None:
            self.add(other._exact)
            return
        if self._exact is not None:
            mine, self._exact, self._ordered = self._exact, None, None
            self._add_to_buckets(mine)
        while self.relative_error < other.relative_error * 0.999:
            self._collapse()
        for sign, store in other._stores.items():
            copy = store.copy()
            error = other.relative_error
            while error < self.relative_error * 0.999:
                copy.collapse()
                error = 2 * error / (1 + error**2)
            self._stores[sign].merge(copy)
        self._zeros += other._zeros
        self.count += other.count
        while max(len(store.counts) for store in self._stores.values()) > MAX_BUCKETS:
            self._collapse()


class _Store:
    """Counts of consecutive buckets: `counts[j]` belongs to bucket `first + j`."""

    def __init__(self) -> None:
        self.first = 0
        self.counts = np.zeros(0, np.int64)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def copy(self) -> _Store:
        twin = _Store()
        twin.first, twin.counts = self.first, self.counts.copy()
        return twin

    def _cover(self, low: int, high: int) -> None:
        if not len(self.counts):
            self.first, self.counts = low, np.zeros(high - low + 1, np.int64)
            return
        before = max(0, self.first - low)
        after = max(0, high - (self.first + len(self.counts) - 1))
        if before or after:
            self.counts = np.pad(self.counts, (before, after))
            self.first -= before

    def add(self, indices: NDArray[np.int64]) -> None:
        self._cover(int(indices.min()), int(indices.max()))
        self.counts += np.bincount(indices - self.first, minlength=len(self.counts))

    def merge(self, other: _Store) -> None:
        if len(other.counts):
            self._cover(other.first, other.first + len(other.counts) - 1)
            start = other.first - self.first
            self.counts[start : start + len(other.counts)] += other.counts

    def collapse(self) -> None:
        """Merge bucket pairs (2i-1, 2i) into i, which squares gamma."""
        if not len(self.counts):
            return
        indices = -(-(np.arange(len(self.counts)) + self.first) // 2)
        low = int(indices[0])
        self.counts = np.bincount(indices - low, weights=self.counts).astype(np.int64)
        self.first = low

    def index_at(self, rank: float) -> int:
        return self.first + int(np.searchsorted(np.cumsum(self.counts), rank, side="right"))
