"""What every detector is to the rest of the project: a processor of samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, runtime_checkable

from numpy.typing import ArrayLike

from entrenar_processors.finding import Finding
from entrenar_processors.samples import Samples, Series


@runtime_checkable
class Processor(Protocol):
    """Judges samples as they come; the same object judges live ticks, Parquet history and a sink.

    What the contract suite (`tests/processors/test_contract_processors.py`) holds every one to:

    - any chunking of the same stream gives the same findings at the same samples;
    - each series is judged by itself, whenever it appears, in memory that does not grow with time;
    - non-finite values are counted in `nonfinite` and otherwise as if absent;
    - a constant series is a state of its own, never a division by zero or an infinite score;
    - `update` does not keep views of the values it is given: a segment may be unmapped after it.
    """

    @property
    def metrics(self) -> frozenset[str]:
        """The façade names it watches; samples of others are ignored."""
        ...

    @property
    def nonfinite(self) -> Mapping[Series, int]:
        """How many non-finite values each watched series had; series without any are left out."""
        ...

    def update(self, samples: Samples) -> list[Finding]:
        """Judge the samples, which follow all earlier ones; findings come in `Finding.order`."""
        ...

    def reset(self) -> None:
        """Forget everything: afterwards it is as newly made."""
        ...


class Counting:
    """What processors share that leave out non-finite values: the count of them, by series."""

    _nonfinite: dict[Series, int]

    def reset(self) -> None:
        self._nonfinite = {}

    @property
    def nonfinite(self) -> Mapping[Series, int]:
        return dict(self._nonfinite)

    def _left_out(self, series: Series, count: int) -> None:
        if count:
            self._nonfinite[series] = self._nonfinite.get(series, 0) + count


@runtime_checkable
class AnomalyDetector(Protocol):
    """Learns what is normal from data, then scores single samples without learning from them.

    A sample is a number for detectors of one series, a row `(k,)` for joint ones; `fit` takes `(n,)`
    or `(n, k)`. A score grows with abnormality.
    """

    def fit(self, data: ArrayLike) -> Self: ...

    def is_anomaly(self, sample: ArrayLike) -> bool: ...

    def anomaly_score(self, sample: ArrayLike) -> float: ...
