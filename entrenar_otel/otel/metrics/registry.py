"""Registry: which instrument a metric of the run is, whoever reported it, and under which attributes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from entrenar_processors import Series

from entrenar_otel.console import logger
from entrenar_otel.prometheus.naming import clash_text, prometheus_name
from entrenar_otel.semconv import (
    INSTRUMENTS,
    PREFIX,
    RESERVED,
    Instrument,
    instrument_of,
    is_exported,
    metric_of,
)


class Scope(NamedTuple):
    """Which meter an instrument belongs to (OpenTelemetry's instrumentation scope)."""

    name: str
    version: str | None = None
    schema_url: str | None = None
    attributes: tuple[tuple[str, Any], ...] = ()

    def __hash__(self) -> int:
        return hash(self[:3])  # attributes may be lists and mappings


#: Of metrics that came through `monitor.log`, and of the run's own state.
OURS = Scope("entrenar_otel")


@dataclass(frozen=True)
class Declared:
    """A metric of the lake and the instrument that others know it by.

    `bounds` are a histogram's (None: those for durations). `exported` is False for a second metric
    whose instrument name is taken, and for what is no measurement: it keeps its rows in the lake.
    """

    metric: str
    instrument: Instrument
    scope: Scope = OURS
    bounds: tuple[float, ...] | None = None
    exported: bool = True


class Registry:
    """The metrics of one run. What `log` reports is declared when it is first seen.

    >>> registry = Registry()
    >>> registry.declared("loss").instrument.name
    'training.loss'
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._unsaid: list[str] = []
        self._by_metric: dict[str, Declared] = {}
        self._by_prometheus: dict[str, str] = {}
        self._attributes: dict[Series, Mapping[str, Any]] = {}

    def declared(self, metric: str) -> Declared:
        """The instrument of a metric; a name first seen in `log` gets that of `semconv.instrument_of`."""
        declared = self._by_metric.get(metric)
        if declared is not None:
            return declared
        with self._lock:
            declared = self._by_metric.get(metric) or self._add(metric, instrument_of(metric), OURS, None)
        self._say()
        return declared

    def declare(
        self, instrument: Instrument, scope: Scope, bounds: tuple[float, ...] | None = None
    ) -> Declared:
        """An instrument that a meter made. Made again with one kind and unit, it is the same metric.

        A reserved name becomes `training.user.…`; one that is taken by another kind or unit gets a
        metric of its own, such as `x.counter`. Both are warned of.
        """
        table = INSTRUMENTS.get(metric_of(instrument.name))
        if table is None and instrument.name in RESERVED:
            reserved = instrument.name
            instrument = instrument._replace(name=f"{PREFIX}user.{reserved.removeprefix(PREFIX)}")
            logger.warning("%s is the monitor's own instrument; yours is %s", reserved, instrument.name)
        if table is not None and table.kind is instrument.kind and not instrument.unit:
            instrument = instrument._replace(unit=table.unit)
        with self._lock:
            declared = self._declare(instrument, scope, bounds, table)
        self._say()
        return declared

    def _declare(
        self, instrument: Instrument, scope: Scope, bounds: tuple[float, ...] | None, table: Instrument | None
    ) -> Declared:
        metric = metric_of(instrument.name)
        for name in (metric, f"{metric}.{instrument.kind}", f"{metric}.{instrument.kind}.{instrument.unit}"):
            known = self._by_metric.get(name)
            if known is None:
                break
            if _same(known.instrument, instrument):
                return known
        if name != metric:
            self._unsaid.append(
                f"{instrument.name} is two instruments: one of {self._kinds_of(metric)}, and now a "
                f"{instrument.kind} of unit {instrument.unit!r}, whose rows are the metric {name!r}"
            )
        if not instrument.description and table is not None and name == metric:
            instrument = instrument._replace(description=table.description)
        return self._add(name, instrument, scope, bounds)

    def _say(self) -> None:
        """Log what came up, with no lock held: a handler of the user's may want an instrument."""
        while self._unsaid:
            with contextlib.suppress(IndexError):  # another thread has said it
                logger.warning("%s", self._unsaid.pop(0))

    def _kinds_of(self, metric: str) -> str:
        first = self._by_metric[metric].instrument
        return f"kind {first.kind}, unit {first.unit!r}"

    def _add(
        self, metric: str, instrument: Instrument, scope: Scope, bounds: tuple[float, ...] | None
    ) -> Declared:
        shown = prometheus_name(instrument)
        other = self._by_prometheus.setdefault(shown, metric)
        if other != metric:
            self._unsaid.append(f"{clash_text(other, metric, shown)}. The lake has the rows of both")
        exported = other == metric and is_exported(metric)
        declared = Declared(metric, instrument, scope, bounds, exported)
        self._by_metric[metric] = declared
        return declared

    def after_fork(self) -> None:
        """In a forked child, where the lock may be held by a thread that does not exist."""
        self._lock = threading.RLock()

    def attributes(self, series: Series) -> Mapping[str, Any]:
        """A series' attributes with the types they were reported with."""
        attributes = self._attributes.get(series)
        if attributes is None:  # it stays as first reported, or deltas would begin anew
            attributes = self._attributes.setdefault(series, dict(series.tags))
        return attributes

    def forget_attributes(self, series: Series) -> None:
        """Nothing of this series was recorded."""
        self._attributes.pop(series, None)

    def keep_attributes(self, series: Series, attributes: Mapping[str, Any]) -> None:
        """Remember the types of a series' attributes, which its tags (text) do not have."""
        if dict(series.tags) != attributes:
            kept = {key: tuple(v) if isinstance(v, list) else v for key, v in attributes.items()}
            self._attributes.setdefault(series, kept)


def _same(first: Instrument, second: Instrument) -> bool:
    return first.kind is second.kind and (
        first.unit == second.unit or bool({first.unit, second.unit} & {"", "1"})
    )
