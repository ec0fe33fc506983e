"""Aggregates: what exporters see of a run. Last values of gauges, sums of counters, histograms."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from entrenar_processors import Block, Column, ExplicitHistogram, ExponentialHistogram, Samples, Series
from entrenar_processors.samples import Floats, Singles

from entrenar_otel.otel.metrics.registry import Declared, Registry
from entrenar_otel.semconv import DEFAULT_BOUNDS, DURATION_BOUNDS_SECONDS, MACHINE, Kind

#: Of these the last value is what is known; of all others but histograms, the sum.
_LAST = (Kind.GAUGE, Kind.OBSERVABLE_UP_DOWN_COUNTER)

HistogramKind = Literal["explicit", "exponential"]
AnyHistogram = ExplicitHistogram | ExponentialHistogram


@dataclass(slots=True)
class State:
    """What is known of one series. `start_ns`: wall time of its first sample."""

    series: Series
    declared: Declared
    start_ns: int
    seq: int = -1  # of the last value
    value: float = 0.0
    histogram: AnyHistogram | None = None


@dataclass(slots=True)
class _Columns:
    """The states of a block's columns, by what is done with them."""

    series: tuple[Series, ...]
    states: list[State]
    gauges: list[int]
    sums: list[int]
    histograms: list[int]


class Aggregates:
    """Fed with the samples of every tick; cumulative since the run started.

    Non-finite values are a gauge's last value like any other, count in `nonfinite` by metric, and
    are left out of sums and histograms.
    """

    def __init__(self, registry: Registry, histogram_kind: HistogramKind = "explicit") -> None:
        self.registry = registry
        self.lock = threading.RLock()
        self.nonfinite: Counter[str] = Counter()
        self.last_sample_ns = 0
        self._last_seq = -1
        self.epoch: int | None = None
        self.step: int | None = None
        self._last_seq_with = {"epoch": -1, "step": -1}  # seq of the rows that did
        self._histogram_kind = histogram_kind
        self._states: dict[Series, State] = {}
        # Blocks of one layout share their tuple of series: its identity is a quicker key than its value.
        self._columns: dict[int, _Columns] = {}

    def update(self, samples: Samples) -> None:
        """Take the samples of a tick."""
        with self.lock:
            for block in samples.parts:
                if isinstance(block, Singles):
                    self._take_singles(block)
                    continue
                columns = self._columns.get(id(block.series))
                if columns is None or columns.series is not block.series:
                    columns = self._new_columns(block)
                if block.values.size == 1:
                    self._take_one(block, columns.states[0])
                else:
                    self._take(block, columns)
            self._see([places for part in samples.parts if (places := _places_of_loop(part)) is not None])

    def _take_one(self, block: Block, state: State) -> None:
        value = block.values.item()
        finite = value - value == 0.0
        if not finite:
            self.nonfinite[state.series.metric] += 1
        kind = state.declared.instrument.kind
        if kind in _LAST:
            if (seq := int(block.seq[-1])) > state.seq:
                state.value, state.seq = value, seq
        elif finite and state.histogram is not None:
            state.histogram.update(block.values.ravel())
        elif finite and (kind is Kind.UP_DOWN_COUNTER or value > 0):
            state.value += value

    def _take_singles(self, singles: Singles) -> None:
        values, ends = singles.values, singles.starts.tolist()
        finite = np.isfinite(values)
        whole = bool(finite.all())
        if not whole:
            for column in singles.index_of(np.flatnonzero(~finite)).tolist():
                self.nonfinite[singles.series[column].metric] += 1
        last = singles.starts[1:] - 1
        lasts = zip(values[last].tolist(), singles.seq[last].tolist(), strict=True)
        states = self._states
        for column, (series, (value, seq)) in enumerate(zip(singles.series, lasts, strict=True)):
            if (state := states.get(series)) is None:
                state = self._state(series, int(singles.columns.time_ns[ends[column]]))
            if state.declared.instrument.kind in _LAST:
                if seq > state.seq:
                    state.value, state.seq = value, seq
            else:
                rows = slice(ends[column], ends[column + 1])
                self._add(state, values[rows] if whole else values[rows][finite[rows]])

    @staticmethod
    def _add(state: State, values: Floats) -> None:
        """Finite values of a series that is no gauge."""
        if state.histogram is not None:
            state.histogram.update(values)
            return
        if state.declared.instrument.kind is Kind.COUNTER:
            values = values[values > 0]  # a total that fell must not make a counter fall
        state.value += float(values.sum())

    def _take(self, block: Block, columns: _Columns) -> None:
        values, states = block.values, columns.states
        finite = np.isfinite(values)
        whole = bool(finite.all())
        if not whole:
            for column in np.flatnonzero(~finite.all(axis=0)).tolist():
                bad = int(np.count_nonzero(~finite[:, column]))
                self.nonfinite[columns.series[column].metric] += bad
        if columns.gauges:
            last, seq = values[-1].tolist(), int(block.seq[-1])
            for column in columns.gauges:
                if seq > (state := states[column]).seq:  # blocks are in the order of their layouts
                    state.value, state.seq = last[column], seq
        for column in (*columns.sums, *columns.histograms):
            self._add(states[column], values[:, column] if whole else values[finite[:, column], column])

    def _see(self, parts: Sequence[Block | Column]) -> None:
        """The latest time, and the latest epoch and step that were said, over all parts at once."""
        if not parts:
            return
        seq = np.concatenate([part.seq for part in parts])
        # By seq, not by time: a clock that was set back must not make the run stand still.
        newest = int(seq.argmax())
        if (last_seq := int(seq[newest])) > self._last_seq:
            self._last_seq = last_seq
            self.last_sample_ns = int(np.concatenate([part.time_ns for part in parts])[newest])
        for name in ("epoch", "step"):
            column = np.concatenate([getattr(part, name) for part in parts])
            rows = np.flatnonzero(column >= 0)
            if len(rows):
                latest = rows[np.argmax(seq[rows])]
                if seq[latest] > self._last_seq_with[name]:
                    self._last_seq_with[name] = int(seq[latest])
                    setattr(self, name, int(column[latest]))

    def _new_columns(self, block: Block) -> _Columns:
        start = int(block.time_ns[0])
        states = [self._state(series, start) for series in block.series]
        by_kind: dict[Kind, list[int]] = {kind: [] for kind in Kind}
        for i, state in enumerate(states):
            by_kind[state.declared.instrument.kind].append(i)
        columns = _Columns(
            block.series,
            states,
            by_kind[Kind.GAUGE] + by_kind[Kind.OBSERVABLE_UP_DOWN_COUNTER],
            by_kind[Kind.COUNTER] + by_kind[Kind.UP_DOWN_COUNTER],
            by_kind[Kind.HISTOGRAM],
        )
        self._columns[id(block.series)] = columns
        return columns

    def _state(self, series: Series, start_ns: int) -> State:
        state = self._states.get(series)
        if state is None:
            declared = self.registry.declared(series.metric)
            state = self._states[series] = State(series, declared, start_ns)
            if declared.instrument.kind is Kind.HISTOGRAM:
                state.histogram = self.new_histogram(declared)
        return state

    def new_histogram(self, declared: Declared) -> AnyHistogram:
        """An empty histogram of the kind and with the bounds that this metric has."""
        if self._histogram_kind == "exponential" and declared.bounds is None:
            return ExponentialHistogram()
        default = DURATION_BOUNDS_SECONDS if declared.instrument.unit == "s" else DEFAULT_BOUNDS
        return ExplicitHistogram(default if declared.bounds is None else declared.bounds)

    def states(self) -> Iterator[tuple[Declared, list[State]]]:
        """Every exported metric with its series; hold `lock` meanwhile."""
        by_metric: dict[str, list[State]] = {}
        for state in self._states.values():
            by_metric.setdefault(state.series.metric, []).append(state)
        for states in by_metric.values():
            if states[0].declared.exported:
                yield states[0].declared, states


def _places_of_loop(part: Block | Singles) -> Block | Column | None:
    """Its coordinates, without those of what the machine tells: a loop that hangs takes no step."""
    if isinstance(part, Block):
        return None if part.series[0].metric in MACHINE else part
    loop = [i for i, series in enumerate(part.series) if series.metric not in MACHINE]
    return part.take(loop).columns if loop else None
