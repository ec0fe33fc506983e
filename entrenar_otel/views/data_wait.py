"""Data wait: the share of its steps' time that a run waited for its data, lately and in the last epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from entrenar_processors.metric_names import TRAIN, split_of
from entrenar_processors.samples import ABSENT, Column, Series

from entrenar_otel.semconv import Metric

#: "Lately" is so many steps, and fewer tell nothing.
LATEST_STEPS, LEAST_STEPS = 200, 20
#: Sums are kept of so many epochs: of a run with an epoch per step, nobody waits for the others.
_EPOCHS = 3


@dataclass(frozen=True)
class DataWait:
    """Shares of the time of steps, from 0 to 1, of the latest `steps` and of the last epoch that is over."""

    ratio: float
    steps: int
    epoch_ratio: float | None = None
    #: From here on it is much: `[monitor.data_wait] max_ratio`.
    max_ratio: float = 0.3

    @property
    def is_much(self) -> bool:
        """Whether somebody should look at it."""
        return max(self.ratio, self.epoch_ratio or 0.0) >= self.max_ratio


@dataclass
class _Sum:
    """The seconds of one epoch, of one metric."""

    attempt: int
    count: int = 0
    seconds: float = 0.0
    first_seq: int = 1 << 63
    first_seconds: float = 0.0


@dataclass
class _Times:
    epochs: dict[int, _Sum] = field(default_factory=dict)
    latest: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=LATEST_STEPS))


class DataWaits:
    """Sums up what a rank's training steps took and waited, as their values come.

    >>> def rows(*values):
    ...     number = np.arange(len(values))
    ...     return Column(number, number // 30, number, number, number, np.array(values))
    >>> waits = DataWaits()
    >>> waits.add(1, Series("step_duration"), rows(*[0.5] * 40))
    >>> waits.add(1, Series("data_wait"), rows(*[0.1] * 30, *[0.2] * 10))
    >>> found = waits.now(is_going=True)
    >>> round(found.ratio, 3), found.steps, round(found.epoch_ratio, 3)
    (0.25, 40, 0.2)
    """

    def __init__(self) -> None:
        self._times = {Metric.STEP_DURATION: _Times(), Metric.DATA_WAIT: _Times()}
        self._attempt = 0

    def add(self, attempt: int, series: Series, rows: Column) -> None:
        """Values of one series of one attempt, in recording order."""
        if series.metric not in self._times or split_of(series) not in (None, TRAIN) or not len(rows.values):
            return
        times = self._times[Metric(series.metric)]
        for epoch, part in _by_epoch(rows):
            known = times.epochs.get(epoch)
            if known is None or attempt > known.attempt:  # the attempt after it went through it again
                known = times.epochs[epoch] = _Sum(attempt)
            if attempt == known.attempt:
                known.count += len(part.values)
                known.seconds += float(part.values.sum())
                if (seq := int(part.seq[0])) < known.first_seq:
                    known.first_seq, known.first_seconds = seq, float(part.values[0])
        for old in sorted(times.epochs)[:-_EPOCHS]:
            del times.epochs[old]
        if attempt >= self._attempt:
            if attempt > self._attempt:
                for each in self._times.values():
                    each.latest.clear()
                self._attempt = attempt
            newest = rows.take(slice(-LATEST_STEPS, None))
            times.latest.extend(zip(newest.seq.tolist(), newest.values.tolist(), strict=True))

    def now(self, max_ratio: float = DataWait.max_ratio, *, is_going: bool) -> DataWait | None:
        """What is known; None of a run that has not measured it, or too few steps."""
        waits = dict(self._times[Metric.DATA_WAIT].latest)
        pairs = [(s, waits[seq]) for seq, s in self._times[Metric.STEP_DURATION].latest if seq in waits]
        seconds = sum(step for step, _ in pairs)
        if len(pairs) < LEAST_STEPS or not seconds > 0:
            return None
        ratio = sum(wait for _, wait in pairs) / seconds
        return DataWait(ratio, len(pairs), self._last_epoch(is_going=is_going), max_ratio)

    def _last_epoch(self, *, is_going: bool) -> float | None:
        """Of the last epoch that is over."""
        steps, waits = (self._times[name].epochs for name in (Metric.STEP_DURATION, Metric.DATA_WAIT))
        known = sorted(epoch for epoch in steps.keys() & waits.keys() if epoch != ABSENT)
        over = known[:-1] if is_going else known
        if not over:
            return None
        step, wait = steps[over[-1]], waits[over[-1]]
        seconds, count = step.seconds, step.count
        if step.first_seq < wait.first_seq:  # a first step, of which nobody knows how long it waited
            seconds, count = seconds - step.first_seconds, count - 1
        return wait.seconds / seconds if count >= LEAST_STEPS and seconds > 0 else None


def _by_epoch(rows: Column) -> Iterator[tuple[int, Column]]:
    """The last stretches of rows of one epoch each."""
    starts = np.flatnonzero(np.diff(rows.epoch, prepend=rows.epoch[0] - 1))[-_EPOCHS:]
    for low, high in zip(starts.tolist(), [*starts[1:].tolist(), len(rows.epoch)], strict=True):
        yield int(rows.epoch[low]), rows.take(slice(low, high))
