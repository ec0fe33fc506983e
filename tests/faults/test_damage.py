"""A dead process's segment cut, zeroed or flipped byte by byte: no wrong value, and it is said."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel.recording.segment import HEADER_BYTES

#: 60 records of 2 metrics, in the middle a second layout of 3; the last tick has synced all.
SCRIPT = """
    small_segments(32 << 10)
    monitor = Monitor("dead", quiet=True, interval_seconds=60).start()
    for i in range(60):
        if i % 3 == 2 and i > 50:
            monitor.log(loss=i + 0.25, accuracy=-i - 0.125, norm=i * 7.0, epoch=1, batch=i, step=i)
        else:
            monitor.log(loss=i + 0.25, accuracy=-i - 0.125, epoch=0, batch=i, step=i)
    open_run(monitor).heartbeat.tick()
    print(recorded_run(monitor).recorder.segment.position(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
COLUMNS = ["timestamp", "epoch", "batch", "metric", "value", "tags", "step", "seq"]
SQL = f"SELECT {', '.join(COLUMNS)} FROM metrics ORDER BY seq, metric"


class Dead:
    """A dead run's folders, to be damaged again and again."""

    def __init__(self, place: Any) -> None:
        child = place.make_child(SCRIPT)
        self.end = int(child.hear())
        assert child.end().returncode == -signal.SIGKILL
        self.place, self.lake = place, place.lake
        (self.path,) = place.segments()
        self.whole = self.path.read_bytes()
        self.rows = self.lake.query(SQL).to_pylist()
        assert len(self.rows) == 60 * 2 + 3
        self.words = [int.from_bytes(self.whole[i : i + 8], "little") for i in range(0, self.end, 8)]

    def starts(self) -> Any:
        """Byte offsets at which the records and definitions start."""
        found, at = [], HEADER_BYTES // 8
        while at < self.end // 8:
            found.append(at * 8)
            at += self.words[at] >> 32 & 0xFFFF
        return found

    def check(
        self,
        data: Any,
        caplog: pytest.LogCaptureFixture,
        *,
        untouched: Any,
        may_miss: Any,
        visible: Any = True,
    ) -> None:
        """Query, recover, query: rows are right, those of `untouched` records there, damage named."""
        self.path.write_bytes(data)
        caplog.clear()
        kept = self.path.with_suffix(".damaged")
        before = self.lake.query(SQL).to_pylist()
        assert self.is_right(before, untouched, may_miss)
        assert not visible or str(self.path) in caplog.text
        caplog.clear()
        (done, *_) = self.lake.recover() or [None]
        assert self.recovered() == before
        assert not self.path.exists()
        if visible:
            assert str(self.path) in caplog.text
            assert kept.read_bytes() == data
            assert done is None or str(self.path) in done.damage
        else:
            assert done.damage is None
        kept.unlink(missing_ok=True)
        shutil.rmtree(self.lake.storage.root / "metrics", ignore_errors=True)

    def recovered(self) -> Any:
        """What is in the Parquet files (a query would do; this takes a tenth of its time)."""
        files = list(self.lake.storage.root.glob("metrics/*/*/*.parquet"))
        rows = [row for file in files for row in pq.ParquetFile(file).read(COLUMNS).to_pylist()]
        return sorted(rows, key=lambda row: (row["seq"], row["metric"]))

    def is_right(self, rows: Any, untouched: Any, may_miss: Any) -> Any:
        known = {(row["seq"], row["metric"]): row for row in self.rows}
        assert all(known[row["seq"], row["metric"]] == row for row in rows)
        seqs = [(row["seq"], row["metric"]) for row in rows]
        assert len(set(seqs)) == len(seqs)
        missing = {row["seq"] for row in self.rows} - {seq for seq, _ in seqs}
        assert missing <= may_miss
        assert not missing & untouched
        return True


@pytest.fixture
def dead(place: Any, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, "entrenar_otel")
    return Dead(place)


@pytest.mark.parametrize("kind", ["flip a bit", "flip a byte", "zero a byte"])
def test_one_byte_of_the_last_records(dead: Any, caplog: pytest.LogCaptureFixture, kind: Any) -> None:
    """Exactly the record that it belongs to is missing; those behind it keep their identity.

    A bit of every byte; whole bytes at each third, which are all those of a word in turn.
    """
    starts = dead.starts()[-3:]
    for offset in range(starts[0], dead.end, 1 if kind == "flip a bit" else 3):
        data = bytearray(dead.whole)
        if kind == "zero a byte":
            data[offset] = 0
        else:
            data[offset] ^= 0xFF if kind == "flip a byte" else 1 << offset % 8
        nth = 60 - sum(start > offset for start in dead.starts()) - 1
        dead.check(
            data,
            caplog,
            untouched=set(range(60)) - {nth},
            may_miss={nth},
            visible=data != dead.whole,
        )


def test_cut_at_every_byte_of_the_last_records(dead: Any, caplog: pytest.LogCaptureFixture) -> None:
    starts = dead.starts()[-3:]
    for offset in range(starts[0], dead.end + 16):
        whole = 60 - sum(stop > offset for stop in [*starts[1:], dead.end])
        dead.check(
            dead.whole[:offset],
            caplog,
            untouched=set(range(whole)),
            may_miss=set(range(whole, 60)),
        )


def test_zeroed_from_a_byte_of_the_last_records_on(dead: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What a file system may leave of a file after the machine died."""
    starts = dead.starts()[-3:]
    for offset in range(starts[0], dead.end, 3):
        data = dead.whole[:offset] + bytes(len(dead.whole) - offset)
        whole = 60 - sum(stop > offset for stop in [*starts[1:], dead.end])
        dead.check(
            data,
            caplog,
            untouched=set(range(whole)),
            may_miss=set(range(whole, 60)),
            visible=data != dead.whole,
        )


def test_every_byte_of_a_definition(dead: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Without its definition a layout's records have no names: they are missing, the others are right."""
    definitions = [at for at in dead.starts() if dead.words[at // 8] & 0xFFFF_FFFF == 0]
    second = definitions[1]
    stop = next(at for at in dead.starts() if at > second)
    named = {row["seq"] for row in dead.rows if row["metric"] == "norm"}
    for offset in range(second, stop, 3):
        data = bytearray(dead.whole)
        data[offset] ^= 0xFF
        dead.check(data, caplog, untouched=set(range(60)) - named, may_miss=named)


def test_every_byte_of_the_header(dead: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A segment that cannot be trusted gives no rows, and is kept as it is."""
    length = int.from_bytes(dead.whole[24:28], "little")
    for offset in [*range(16), *range(24, 32), *range(32, 32 + length, 5)]:
        data = bytearray(dead.whole)
        data[offset] ^= 0x10
        dead.check(data, caplog, untouched=set(), may_miss=set(range(60)))


@pytest.mark.parametrize("size", [0, 1, 31, 32, 16383, 16384])
def test_a_file_that_is_hardly_there(dead: Any, caplog: pytest.LogCaptureFixture, size: Any) -> None:
    dead.check(dead.whole[:size], caplog, untouched=set(), may_miss=set(range(60)))


def test_a_file_that_is_something_else(dead: Any, caplog: pytest.LogCaptureFixture) -> None:
    dead.check(os.urandom(40_000), caplog, untouched=set(), may_miss=set(range(60)))
