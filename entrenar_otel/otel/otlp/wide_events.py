"""Wide events: samples as `training.step` log records, for backends that know no blocks.

One record for each call of `log`; where its values have several sets of tags, one for each set. The records
of a layout differ in numbers only: so their bytes are made once, and the numbers are put into copies of them,
all rows at a time. Whole numbers are varints of a constant width, padded as protobuf allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from entrenar_processors import Block, Samples, Series
from numpy.typing import NDArray
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from entrenar_otel.otel.attributes import clean_text
from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.wire import field, varint

_Tags = tuple[tuple[str, str], ...]
_Rows = NDArray[np.uint8]

#: Tags of protobuf: the number of a field, and what follows. Of ScopeLogs; of LogRecord; of KeyValue; of
#: AnyValue.
_LOG_RECORDS = b"\x12"
_TIME, _OBSERVED_TIME, _ATTRIBUTES, _EVENT_NAME = b"\x09", b"\x59", b"\x32", b"\x62"
_KEY, _VALUE = b"\x0a", b"\x12"
_INT, _DOUBLE = b"\x18", b"\x21"
#: Bytes of a float64 and of a time; of a varint of 31 and of 63 bits.
_FIXED, _SHORT, _LONG = 8, 5, 9


class _Template(NamedTuple):
    """The bytes of a record as a field of its scope, and where its numbers stand in them."""

    row: bytes
    places: dict[str, int]


def wide_fields(samples: Samples) -> Iterator[bytes]:
    """The records of these samples as fields of a scope; many in one piece of bytes."""
    for block in samples.blocks:
        where = np.stack([block.epoch, block.batch, block.step]) >= 0
        patterns = where[0] * 4 + where[1] * 2 + where[2]
        for pattern in np.unique(patterns).tolist():
            rows = np.flatnonzero(patterns == pattern)
            given = [
                name for name, bit in ((names.EPOCH, 4), (names.BATCH, 2), (names.STEP, 1)) if pattern & bit
            ]
            for tags, metrics in _by_tags(block.series).items():
                template = _template(given, tags, [key for key, _ in metrics])
                yield _filled(template, block, rows, [column for _, column in metrics])


def _filled(template: _Template, block: Block, rows: NDArray[np.intp], columns: list[int]) -> bytes:
    made = np.tile(np.frombuffer(template.row, np.uint8), (len(rows), 1))
    places = template.places
    times = _fixed(np.maximum(block.time_ns[rows], 0).astype("<i8"))
    for tag in (_TIME, _OBSERVED_TIME):
        at = places[tag.decode()]
        made[:, at : at + _FIXED] = times
    for name, column in (
        (names.EPOCH, block.epoch),
        (names.BATCH, block.batch),
        (names.STEP, block.step),
        (names.SEQ, block.seq),
    ):
        if name in places:
            _put_varint(made, places[name], column[rows].astype(np.int64), _width(name))
    values = block.values[rows]
    for number, at_column in enumerate(columns):
        at = places[f"{names.METRIC_PREFIX}{number}"]
        made[:, at : at + _FIXED] = _fixed(values[:, at_column].astype("<f8"))
    return made.tobytes()


def _fixed(numbers: NDArray[np.generic]) -> _Rows:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, _FIXED)


def _put_varint(made: _Rows, at: int, numbers: NDArray[np.int64], width: int) -> None:
    for byte in range(width):
        more = 0x80 if byte < width - 1 else 0
        made[:, at + byte] = numbers >> 7 * byte & 0x7F | more


def _width(name: str) -> int:
    return _SHORT if name in (names.EPOCH, names.BATCH) else _LONG


def _template(given: list[str], tags: _Tags, metrics: list[str]) -> _Template:
    """Of a layout's records: `given` are the numbers that say where in the loop they are."""
    record = bytearray()
    places: dict[str, int] = {}

    def number(name: str, size: int, before: bytes) -> None:
        record.extend(before)
        places[name] = len(record)
        record.extend(bytes(size))

    def attribute(name: str, key: str, tag: bytes, size: int) -> None:
        item = field(_KEY, key.encode()) + _VALUE + varint(1 + size) + tag
        number(name, size, _ATTRIBUTES + varint(len(item) + size) + item)

    number(_TIME.decode(), _FIXED, _TIME)
    for name in (*given, names.SEQ):
        attribute(name, name, _INT, _width(name))
    for key, value in tags:
        item = KeyValue(
            key=f"{names.TAG_PREFIX}{clean_text(key)}", value=AnyValue(string_value=clean_text(value))
        )
        record += field(_ATTRIBUTES, item.SerializeToString())
    for place, metric in enumerate(metrics):
        attribute(f"{names.METRIC_PREFIX}{place}", metric, _DOUBLE, _FIXED)
    number(_OBSERVED_TIME.decode(), _FIXED, _OBSERVED_TIME)
    record += field(_EVENT_NAME, names.WIDE_EVENT.encode())
    head = _LOG_RECORDS + varint(len(record))
    return _Template(head + bytes(record), {name: at + len(head) for name, at in places.items()})


def _by_tags(series: tuple[Series, ...]) -> dict[_Tags, list[tuple[str, int]]]:
    """For each set of tags in a layout: the attributes of its metrics, and which columns have them."""
    groups: dict[_Tags, list[tuple[str, int]]] = {}
    for column, known in enumerate(series):
        key = f"{names.METRIC_PREFIX}{clean_text(known.metric)}"
        groups.setdefault(tuple(known.tags), []).append((key, column))
    return groups
