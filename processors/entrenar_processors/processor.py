"""Processor: what every detector is to the rest of the project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, Self, runtime_checkable

from numpy.typing import ArrayLike

from entrenar_processors.finding import Finding
from entrenar_processors.samples import Samples, Series


@runtime_checkable
class Processor(Protocol):
    """Judges samples as they come; the same object judges live ticks, Parquet history and a sink.

    The contract suite (`tests/processors/test_contract_processors.py`) holds every processor to this:

    - any chunking of the same stream gives the same findings at the same samples;
    - each series is judged by itself, whenever it appears, in memory that does not grow with time;
    - non-finite values are counted in `nonfinite` and otherwise treated as absent;
    - a constant series is a state of its own, never a division by zero or an infinite score;
    - `update` keeps no views of the values it is given: their segment may be unmapped afterwards.
    """

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics it watches, by the names given to `log`; samples of others are ignored."""
        ...

    @property
    def nonfinite(self) -> Mapping[Series, int]:
        """How many non-finite values each watched series had; series without any are omitted."""
        ...

    def update(self, samples: Samples) -> list[Finding]:
        """Judge samples that follow all earlier ones; the findings are in `Finding.order`."""
        ...

    def reset(self) -> None:
        """Forget everything, as if newly made."""
        ...


@runtime_checkable
class FollowsClock(Protocol):
    """A processor that measures time by its samples: it is told when their clock was set."""

    def on_clock_step(self, shift_ns: int, now_ns: int) -> None:
        """It was moved by `shift_ns`, to `now_ns`: what was measured before is moved along."""
        ...


class Counting:
    """A base of processors: the count of the non-finite values that they left out, by series."""

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
    or `(n, k)`. The more abnormal a sample, the higher its score.
    """

    def fit(self, data: ArrayLike) -> Self: ...

    def is_anomaly(self, sample: ArrayLike) -> bool: ...

    def anomaly_score(self, sample: ArrayLike) -> float: ...
