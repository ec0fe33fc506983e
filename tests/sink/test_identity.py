"""Identity: a sample is stored once, however requests were cut, merged, repeated, overtook each other, and
whatever the sink forgot meanwhile."""

from __future__ import annotations

import struct
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from entrenar_otel.lake import Lake
from entrenar_otel.recording.layout import Layout
from entrenar_otel.sink.roller import Roller

from .wire import (
    CLOCK_NS,
    LAYOUT,
    TAGGED,
    block_record,
    blocks_of,
    event,
    log_file,
    logs,
    records_of,
    resource,
    wide_record,
)

N = 40
#: Values that a comparison would not see: NaNs with bits of their own, minus zero.
ODD = [
    struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8000000000123, 0xFFF8 << 48, 1 << 63)
]


def value(step: int, column: int) -> float:
    return ODD[step % 3] if step % 5 == 0 and column == 0 else step + column / 10


def layout_of(step: int) -> Any:
    return TAGGED if step % 7 == 3 else LAYOUT


def stretch(first: int, last: int) -> bytes:
    """Records with a validation step now and then."""
    return b"".join(
        records_of(step, 1, layout_of(step), [[value(step, i) for i in range(len(layout_of(step).series))]])
        for step in range(first, last)
    )


def blocks(first: int, last: int) -> Any:
    return [block_record(block) for block in blocks_of(stretch(first, last), first)]


def wide(first: int, last: int) -> Any:
    made = []
    for step in range(first, last):
        series = layout_of(step).series
        for tags in {one.tags for one in series}:
            columns = [i for i, one in enumerate(series) if one.tags == tags]
            given = {f"metric.{series[i].metric}": value(step, i) for i in columns}
            given |= {f"tag.{key}": text for key, text in tags}
            made.append(wide_record(step, given))
    return made


def expected(owners: Any) -> Any:
    rows = []
    for run_id, rank in owners:
        for step in range(N):
            for i, series in enumerate(layout_of(step).series):
                bits = struct.pack("<d", value(step, i))
                tags = tuple(series.tags)
                time_us = (CLOCK_NS + 1 + step * 1_000_000) // 1000
                rows.append((run_id, rank, 1, step, series.metric, tags, bits, time_us, step))
    return sorted(rows)


def found(lake: Any, table: Any = "metrics") -> Any:
    answer = lake.query(f"SELECT *, epoch_us(timestamp) AS us FROM {table}")
    values = np.asarray(answer.column("value").to_numpy())
    return sorted(
        (
            row["run_id"], row["rank"], row["attempt"], row["seq"], row["metric"],
            tuple(row["tags"]), bits.tobytes(), row["us"], row["step"],
        )
        for row, bits in zip(answer.to_pylist(), values, strict=True)
    )  # fmt: skip


@st.composite
def deliveries(draw: Any) -> Any:
    """Files of requests, each a list of (process, first, last); every step is in at least one."""
    owners = draw(st.sampled_from([[("a", 0)], [("a", 0), ("a", 1)], [("a", 0), ("b", 0)]]))
    pieces = []
    for owner in owners:
        cuts = sorted({0, N, *draw(st.lists(st.integers(1, N - 1), max_size=4))})
        pieces += [(owner, low, high) for low, high in pairwise(cuts)]
        again = draw(st.lists(st.tuples(st.integers(0, N - 1), st.integers(1, N)), max_size=3))
        pieces += [(owner, low, min(low + length, N)) for low, length in again]
    pieces = draw(st.permutations(pieces))
    files: list[Any] = [[]]
    requests: list[Any] = []
    for piece in pieces:
        requests.append(piece)
        if draw(st.booleans()):
            files[-1].append(requests)
            requests = []
        if draw(st.integers(0, 2)) == 0:
            files.append([])
    files[-1].append(requests)
    upsets = [draw(st.sampled_from(["", "", "restart", "forget", "settle"])) for _ in files]
    return owners, [file for file in files if any(file)], upsets


def request_of(pieces: Any, make: Any) -> Any:
    """Several resources in one request, as a Collector merges them."""
    merged = ExportLogsServiceRequest()
    for (run_id, rank), first, last in pieces:
        of = resource(run_id, f"p{rank}", rank)
        data = logs(make(first, last), of)
        merged.MergeFrom(ExportLogsServiceRequest.FromString(data))
    return merged.SerializeToString()


def deliver(root: Path, files: Any, upsets: Any, make: Any) -> Any:
    lake, state = Lake(root / "lake", root / "live"), root / "state"
    roller = Roller(lake.storage, state)
    for file, upset in zip(files, upsets, strict=False):
        path = log_file(state, *(request_of(pieces, make) for pieces in file if pieces))
        roller.roll(path)
        path.unlink()
        if upset == "settle":
            roller.settle()
        elif upset:
            roller.close()
            if upset == "forget":
                (state / "known.sqlite").unlink()
            roller = Roller(lake.storage, state)
    roller.close()
    return lake


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(deliveries())
def test_blocks_are_stored_once(delivery: Any) -> None:
    owners, files, upsets = delivery
    with tempfile.TemporaryDirectory() as root:
        lake = deliver(Path(root), files, upsets, blocks)
        assert found(lake) == expected(owners)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(deliveries())
def test_wide_events_are_stored_once(delivery: Any) -> None:
    owners, files, upsets = delivery
    with tempfile.TemporaryDirectory() as root:
        lake = deliver(Path(root), files, upsets, wide)
        assert found(lake) == expected(owners)


def test_wide_events_of_one_call_may_come_apart(receive: Any, lake: Any) -> None:
    """A call of several sets of tags leaves as several records with one seq, which a Collector may part."""
    records = wide(0, N)
    receive(logs(records[::2]), logs(records[1::2]))
    receive(logs(records))
    assert [row[1:] for row in found(lake)] == [row[1:] for row in expected([("r", 0)])]


def test_events_are_stored_once_also_by_a_sink_that_has_forgotten(
    receive: Any, lake: Any, roller: Any, tmp_path: Any
) -> None:
    told = [event("e", f"0:{8 * i}", time_ns=CLOCK_NS + i * 1000, attributes={"i": i}) for i in range(5)]
    receive(logs(told), logs(told[2:]))
    receive(logs(told))
    roller.close()
    (tmp_path / "state/known.sqlite").unlink()
    again = Roller(lake.storage, tmp_path / "state")
    path = log_file(tmp_path / "state", logs([*told, event("e", "0:800", attributes={"i": 9})]))
    again.roll(path)
    again.close()
    answer = lake.query("SELECT attributes['i'] AS i FROM events ORDER BY i").to_pylist()
    assert [row["i"] for row in answer] == ["0", "1", "2", "3", "4", "9"]


def test_sets_of_tags_that_take_turns_are_stored_whole(
    receive: Any, lake: Any, roller: Any, monkeypatch: Any
) -> None:
    """As of a GAN, whose nets log by turns: between two events of one set there is one of the other."""
    monkeypatch.setattr("entrenar_otel.sink.roller.MAX_STRETCHES", 10)
    turns = [wide_record(step, {"metric.loss": 1.0, "tag.net": "gd"[step % 2]}) for step in range(200)]
    receive(logs(turns[::3]), logs(turns[1::3]))
    receive(logs(turns))
    answer = lake.query("SELECT tags['net'] AS net, count(*) AS n FROM metrics GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in answer.to_pylist()] == [("d", 100), ("g", 100)]
    assert not roller.unstorable.counts


@pytest.mark.parametrize("mode", ["blocks", "events"])
def test_a_run_of_10_000_series_is_stored_whole(receive: Any, lake: Any, mode: str) -> None:
    """As one record of a block, or as one wide event with as many attributes."""
    layout = Layout(3, tuple(Series(f"layer_{i}/norm") for i in range(10_000)))
    values = [float(i) for i in range(10_000)]
    if mode == "blocks":
        data = records_of(0, 1, layout, [values])
        sent = [block_record(block) for block in blocks_of(data, layouts=(layout,))]
    else:
        sent = [
            wide_record(0, {f"metric.{one.metric}": v for one, v in zip(layout.series, values, strict=True)})
        ]
    receive(logs(sent), logs(sent))
    answer = lake.query(
        "SELECT count(*) AS n, count(DISTINCT metric) AS series, sum(value) AS sum FROM metrics"
    )
    assert answer.to_pylist() == [{"n": 10_000, "series": 10_000, "sum": sum(values)}]
