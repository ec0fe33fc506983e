"""Wide events: `training.step` log records as samples; each attribute `metric.<name>` is a value."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
from entrenar_processors import Block, Series

from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.otlp.blocks import MAX_TEXT
from entrenar_otel.recording.layout import MAX_VALUES
from entrenar_otel.sink.decoding.values import value_of

#: Sets of metrics and tags of one process in one roll; a loop has a handful.
MAX_SHAPES = 10_000
_METRIC, _TAG = names.METRIC_PREFIX, names.TAG_PREFIX
_METRIC_AT = len(_METRIC)
_MAX_32, _MAX_63 = (1 << 31) - 1, (1 << 62) - 1


class WideError(ValueError):
    """A record that is not a wide event: the text says why."""


class WideRows:
    """The rows of one process, by their metrics and tags."""

    def __init__(self) -> None:
        self._rows: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], _Rows] = {}

    def add(self, record: Any) -> int:
        """Take a record; returns the number of its samples. Raises WideError."""
        metrics: list[str] = []
        values: list[float] = []
        others: list[Any] = []
        for item in record.attributes:
            key = item.key
            if key[:_METRIC_AT] != _METRIC:
                others.append(item)
                continue
            value = item.value
            number = value.double_value
            if number == 0.0 and (kind := value.WhichOneof("value")) != "double_value":
                if kind != "int_value":
                    raise WideError(f"{key[:100]} is not a number")
                number = float(value.int_value)
            metrics.append(key)
            values.append(number)
        place, tags = _place_and_tags(others)
        shape = (tuple(metrics), tags)
        rows = self._rows.get(shape)
        if rows is None:
            rows = self._new(shape)
        time_ns = record.time_unix_nano
        if time_ns > _MAX_63:
            raise WideError(f"time_unix_nano is not a time: {time_ns}")
        rows.places.extend((time_ns, *place))
        rows.values.extend(values)
        return len(values)

    def _new(self, shape: tuple[tuple[str, ...], tuple[tuple[str, str], ...]]) -> _Rows:
        if len(self._rows) >= MAX_SHAPES:
            raise WideError(f"its process has more than {MAX_SHAPES:,} sets of metrics and tags")
        metrics, tags = shape
        if not metrics:
            raise WideError("it has no metric.… attribute")
        texts = [metric[_METRIC_AT:] for metric in metrics]
        if len(set(texts)) < len(texts) or len(texts) > MAX_VALUES:
            raise WideError("a metric is there twice, or there are too many")
        if any(len(text) > MAX_TEXT for text in (*texts, *(part for tag in tags for part in tag))):
            raise WideError(f"expected names of at most {MAX_TEXT} characters")
        rows = self._rows[shape] = _Rows(tuple(Series(text, tags) for text in texts))
        return rows

    def blocks(self) -> Iterator[Block]:
        """What was taken."""
        for rows in self._rows.values():
            yield rows.block()


class _Rows:
    """Rows of the same series: for each time, epoch, batch, step, seq; and the values."""

    def __init__(self, series: tuple[Series, ...]) -> None:
        self.series = series
        self.places, self.values = array("q"), array("d")

    def block(self) -> Block:
        places = np.frombuffer(self.places, np.int64).reshape(-1, 5)
        return Block(
            self.series,
            time_ns=places[:, 0],
            epoch=places[:, 1].astype(np.int32),
            batch=places[:, 2].astype(np.int32),
            step=places[:, 3],
            seq=places[:, 4],
            values=np.frombuffer(self.values, np.float64).reshape(-1, len(self.series)),
        )


def _place_and_tags(items: list[Any]) -> tuple[tuple[int, int, int, int], tuple[tuple[str, str], ...]]:
    """Epoch, batch, step and seq, and the tags. Raises WideError."""
    epoch = batch = step = seq = -1
    tags: list[tuple[str, str]] = []
    for item in items:
        key = item.key
        if key == "seq":
            seq = item.value.int_value if item.value.HasField("int_value") else -1
        elif key == "step":
            step = item.value.int_value
        elif key == "epoch":
            epoch = item.value.int_value
        elif key == "batch":
            batch = item.value.int_value
        elif key.startswith(_TAG):
            value = value_of(item.value)
            tags.append((key[len(_TAG) :], value if isinstance(value, str) else str(value)))
    if not 0 <= seq <= _MAX_63:
        raise WideError("it has no seq, by which a sample is told from others")
    if not (-1 <= epoch <= _MAX_32 and -1 <= batch <= _MAX_32 and step >= -1):
        raise WideError("epoch, batch or step is not a whole number from 0")
    tags.sort()
    if len({key for key, _ in tags}) < len(tags):
        raise WideError("a tag is there twice")
    return (epoch, batch, step, seq), tuple(tags)
