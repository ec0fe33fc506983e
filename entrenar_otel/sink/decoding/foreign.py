"""Foreign: metrics, logs and spans of OpenTelemetry clients other than runs; rows by a mapping of their own.

See docs/otlp.md, "What other clients send", which is a contract.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from entrenar_processors import Block, Samples, Series

from entrenar_otel.lake.hand_over import tables_of
from entrenar_otel.lake.tables.journal import Document, Journal, event_rows, span_key, span_rows
from entrenar_otel.lake.tables.schema import NOTES, ROW_GROUP, SORTED_BY, Owner
from entrenar_otel.sink.decoding.notes import event_of, span_of
from entrenar_otel.sink.decoding.values import attributes_of, text_of

#: Of one client in one roll.
MAX_SERIES = 10_000
MAX_ROWS = 1 << 24
MAX_NOTES = 1_000_000
_HELD = 5_000
#: Of rows that are written at a time.
_WRITTEN_BYTES = 16 << 20
#: Of one point; the SDKs make at most 160.
MAX_BUCKETS = 4096
_MAX_NAME = 1024
_NO_VALUE = 1  # a flag of a point
_DELTA = 1


class ForeignError(ValueError):
    """What cannot become a row: the text says why."""


class FromForeign:
    """What came from one client."""

    def __init__(self, run_id: str, received_ns: int) -> None:
        """`run_id` stands for its run."""
        self.owner, self.first_ns = Owner(run_id, 1, 0), received_ns
        self.events: list[Document] = []
        self.spans: dict[tuple[str, str], Document] = {}
        #: What was more of them than is held as documents, which take ten times the memory.
        self._rows: dict[str, list[pa.Table]] = {"events": [], "spans": []}
        #: Its log records and spans.
        self.notes = 0
        self._series: dict[Series, int] = {}
        self._codes, self._times, self._values = array("i"), array("q"), array("d")

    def add_event(self, record: Any) -> None:
        """Take a log record. Raises ForeignError, ValueError."""
        self._count("log records")
        self.events.append(event_of(record))
        if len(self.events) >= _HELD:
            self._rows["events"].append(event_rows(self.events, self.owner))
            self.events = []

    def add_span(self, span: Any, scope: str) -> None:
        """Take a span. Raises ForeignError, ValueError."""
        document = span_of(span, scope)
        key = span_key(document)
        if not all(key):
            raise ForeignError("it has no trace id or no span id")
        self._count("spans")
        self.spans[key] = document
        if len(self.spans) >= _HELD:
            self._rows["spans"].append(span_rows(self.spans.values(), self.owner))
            self.spans = {}

    def _count(self, what: str) -> None:
        if self.notes >= MAX_NOTES:
            raise ForeignError(f"more than {MAX_NOTES:,} {what} at a time")
        self.notes += 1

    def tables(self, samples: Samples) -> Iterator[tuple[str, pa.Schema, Iterable[pa.RecordBatch]]]:
        """The tables that it has rows for; `samples` are those of `samples`."""
        journal = Journal(self.events, list(self.spans.values()), [], 0)
        held = {table: rows for table, rows in self._rows.items() if rows}
        for table, schema, batches in tables_of(journal, samples, self.owner):
            earlier = held.pop(table, None)
            yield table, schema, batches if earlier is None else _joined(table, [*earlier, *batches])
        for table, rows in held.items():
            yield table, NOTES[table], _joined(table, rows)

    def add_metric(self, metric: Any) -> None:
        """Take all points of a metric. Raises ForeignError, ValueError."""
        name, kind = metric.name, metric.WhichOneof("data")
        if kind is None or not name or len(name) > _MAX_NAME:
            raise ForeignError(f"expected a metric with data and a name of 1 to {_MAX_NAME} characters")
        data = getattr(metric, kind)
        more = {"otel.temporality": "delta"} if getattr(data, "aggregation_temporality", 0) == _DELTA else {}
        rows_of = _ROWS[kind]
        for point in data.data_points:
            if point.flags & _NO_VALUE:
                continue
            given = attributes_of(point.attributes)
            tags = {key[:_MAX_NAME]: text_of(value)[:_MAX_NAME] for key, value in given.items()} | more
            time_ns = point.time_unix_nano
            if time_ns >> 62:
                raise ForeignError(f"time_unix_nano of {name[:100]} is not a time: {time_ns}")
            for suffix, own, value in rows_of(point):
                self._add(Series.of(name + suffix, tags | own), time_ns, value)

    def _add(self, series: Series, time_ns: int, value: float) -> None:
        code = self._series.get(series)
        if code is None:
            if len(self._series) >= MAX_SERIES:
                raise ForeignError(f"more than {MAX_SERIES:,} series at a time")
            code = self._series[series] = len(self._series)
        if len(self._codes) >= MAX_ROWS:
            raise ForeignError(f"more than {MAX_ROWS:,} values at a time")
        self._codes.append(code)
        self._times.append(time_ns)
        self._values.append(value)

    def samples(self, first_seq: int) -> Samples:
        """The values of its metrics; `seq` counts them in the order in which they came."""
        codes = np.frombuffer(self._codes, np.int32)
        times, values = np.frombuffer(self._times, np.int64), np.frombuffer(self._values, np.float64)
        order = np.argsort(codes, kind="stable")
        cuts = np.searchsorted(codes[order], np.arange(len(self._series) + 1)).tolist()
        return Samples(
            _block(series, rows, times, values, first_seq)
            for series, rows in zip(
                self._series,
                (order[low:high] for low, high in pairwise(cuts)),
                strict=True,
            )
        )


def _joined(table: str, parts: Iterable[pa.Table | pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of all parts in the order of their times, some at a time."""
    rows = pa.concat_tables(
        part if isinstance(part, pa.Table) else pa.Table.from_batches([part]) for part in parts
    )
    times = rows.column(SORTED_BY[table]).cast(pa.int64()).to_numpy()
    if (times[1:] < times[:-1]).any():
        rows = rows.sort_by(SORTED_BY[table])
    at_once = min(ROW_GROUP, max(1_000, len(rows) * _WRITTEN_BYTES // max(1, rows.nbytes)))
    for at in range(0, len(rows), at_once):
        yield from rows.slice(at, at_once).combine_chunks().to_batches()


def _block(series: Series, rows: Any, times: Any, values: Any, first_seq: int) -> Block:
    absent = np.full(len(rows), -1, np.int32)
    return Block(
        (series,), times[rows], absent, absent, absent.astype(np.int64), first_seq + rows, values[rows, None]
    )


_Rows = Iterator[tuple[str, dict[str, str], float]]


def _number(point: Any) -> _Rows:
    """Of a gauge or a sum: its value, under the metric's own name."""
    kind = point.WhichOneof("value")
    if kind is not None:
        yield "", {}, float(getattr(point, kind))


def _totals(point: Any) -> _Rows:
    yield ".count", {}, float(point.count)
    for name in ("sum", "min", "max"):
        if point.HasField(name):
            yield f".{name}", {}, float(getattr(point, name))


def _histogram(point: Any) -> _Rows:
    """Totals, and how many values were at most `le`, as Prometheus has it."""
    bounds, counts = point.explicit_bounds, point.bucket_counts
    if len(counts) > MAX_BUCKETS or (counts and len(counts) != len(bounds) + 1):
        raise ForeignError(f"a histogram has {len(counts):,} buckets and {len(bounds):,} bounds")
    yield from _totals(point)
    total = 0
    for bound, count in zip([*bounds, math.inf], counts, strict=False):
        total += count
        yield ".bucket", {"le": _bound(bound)}, float(total)


def _exponential(point: Any) -> _Rows:
    """The same; of its buckets those with values in them, and the last."""
    negative, positive = point.negative, point.positive
    if len(negative.bucket_counts) + len(positive.bucket_counts) > MAX_BUCKETS:
        raise ForeignError("an exponential histogram has too many buckets")
    yield from _totals(point)
    total = 0
    buckets = [
        (-_power(point.scale, negative.offset + at), count)
        for at, count in reversed(list(enumerate(negative.bucket_counts)))
    ]
    buckets.append((point.zero_threshold, point.zero_count))
    buckets += [
        (_power(point.scale, positive.offset + at + 1), count)
        for at, count in enumerate(positive.bucket_counts)
    ]
    for bound, count in buckets:
        if count:
            total += count
            yield ".bucket", {"le": _bound(bound)}, float(total)
    yield ".bucket", {"le": _bound(math.inf)}, float(point.count)


def _power(scale: int, index: int) -> float:
    """The bound of a bucket, 2 ** (index / 2 ** scale); what no float64 holds is 0 or infinite."""
    if not -64 <= scale <= 64:
        raise ForeignError(f"the scale of an exponential histogram is {scale}")
    try:
        return float(2.0 ** (index * 2.0**-scale))
    except OverflowError:
        return math.inf


def _bound(bound: float) -> str:
    whole = _whole(bound)
    return str(whole) if whole is not None else "+Inf" if bound == math.inf else f"{bound:.17g}"


def _whole(bound: float) -> int | None:
    """A bound as a whole number, where it is a small one."""
    return int(bound) if abs(bound) < 1 << 53 and bound == int(bound) else None


def _summary(point: Any) -> _Rows:
    yield ".count", {}, float(point.count)
    yield ".sum", {}, float(point.sum)
    for quantile in point.quantile_values[:MAX_BUCKETS]:
        yield "", {"quantile": _bound(quantile.quantile)}, float(quantile.value)


_ROWS = {
    "gauge": _number,
    "sum": _number,
    "histogram": _histogram,
    "exponential_histogram": _exponential,
    "summary": _summary,
}
