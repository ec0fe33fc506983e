"""Wide events, read by protobuf's own classes: every number, name and tag is there, bit for bit."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Block, Samples, Series
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from entrenar_otel.otel.otlp.wide_events import wide_fields

NAN = struct.unpack("<d", bytes.fromhex("010000000000f87f"))[0]


def block(series: tuple[Series, ...], rows: list[tuple[int, int, int, int, int]], values: Any) -> Block:
    """Rows of time, epoch, batch, step and seq."""
    time_ns, epoch, batch, step, seq = np.array(rows, np.int64).T
    return Block(
        series,
        time_ns,
        epoch.astype(np.int32),
        batch.astype(np.int32),
        step,
        seq,
        np.array(values, np.float64),
    )


def records(*blocks: Block) -> list[LogRecord]:
    return list(ScopeLogs.FromString(b"".join(wide_fields(Samples(blocks)))).log_records)


def attributes(record: LogRecord) -> dict[str, Any]:
    found = {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in record.attributes}
    assert len(found) == len(record.attributes)
    return found


def test_all_numbers_of_a_record() -> None:
    rows = [(5, 0, 2, 4, 9), (1 << 62, (1 << 31) - 1, (1 << 31) - 1, (1 << 62) + 1, (1 << 62) - 1)]
    first, second = records(block((Series("loss"), Series("lr")), rows, [[1.5, -0.0], [NAN, np.inf]]))
    assert (first.event_name, first.time_unix_nano, first.observed_time_unix_nano) == ("training.step", 5, 5)
    assert attributes(first) == {
        "epoch": 0, "batch": 2, "step": 4, "seq": 9, "metric.loss": 1.5, "metric.lr": -0.0
    }  # fmt: skip
    assert struct.pack("<d", attributes(first)["metric.lr"]) == struct.pack("<d", -0.0)
    found = attributes(second)
    assert struct.pack("<d", found.pop("metric.loss")) == struct.pack("<d", NAN)
    assert (second.time_unix_nano, found) == (
        1 << 62,
        {
            "epoch": 2147483647,
            "batch": 2147483647,
            "step": (1 << 62) + 1,
            "seq": (1 << 62) - 1,
            "metric.lr": np.inf,
        },
    )


def test_what_is_not_given_is_absent_and_a_time_before_1970_is_none() -> None:
    places = [
        (-1, -1, -1),
        (1, -1, -1),
        (-1, 2, -1),
        (-1, -1, 3),
        (1, 2, -1),
        (1, -1, 3),
        (-1, 2, 3),
        (1, 2, 3),
    ]
    rows = [(-7, *place, seq) for seq, place in enumerate(places)]
    found = records(block((Series("loss"),), rows, [[float(seq)] for seq in range(8)]))
    assert {record.time_unix_nano for record in found} == {0}
    by_seq = {attributes(record)["seq"]: attributes(record) for record in found}
    for seq, place in enumerate(places):
        given = {
            key: value for key, value in zip(("epoch", "batch", "step"), place, strict=True) if value >= 0
        }
        assert by_seq[seq] == {**given, "seq": seq, "metric.loss": float(seq)}


def test_one_record_for_each_set_of_tags() -> None:
    series = (Series("loss"), Series.of("loss", {"split": "val", "größe": "α"}), Series("lr"))
    found = [attributes(record) for record in records(block(series, [(1, -1, -1, 3, 7)], [[1.0, 2.0, 3.0]]))]
    assert found == [
        {"step": 3, "seq": 7, "metric.loss": 1.0, "metric.lr": 3.0},
        {"step": 3, "seq": 7, "tag.größe": "α", "tag.split": "val", "metric.loss": 2.0},
    ]


def test_names_that_are_no_text_and_lengths_of_more_than_one_byte() -> None:
    series = (*(Series(f"{'m' * 200}{number}") for number in range(300)), Series("a\ud800"))
    (record,) = records(block(series, [(1, -1, -1, -1, 0)], [list(range(301))]))
    found = attributes(record)
    assert found.pop("metric.a?") == 300.0
    assert found == {"seq": 0} | {f"metric.{'m' * 200}{number}": float(number) for number in range(300)}


@pytest.mark.parametrize("rows", [1, 1000])
def test_no_rows_are_missing(rows: int) -> None:
    numbers = [(seq, -1, -1, seq, seq) for seq in range(rows)]
    found = records(block((Series("x"),), numbers, np.arange(rows)[:, None]))
    assert [attributes(record)["metric.x"] for record in found] == list(range(rows))
    assert records() == []
