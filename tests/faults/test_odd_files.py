"""Recovery goes on behind what is no segment, and leaves a dead run of a later version alone."""

from __future__ import annotations

import json
import os
import signal
import struct
from typing import Any
from zlib import adler32

SCRIPT = """
    small_segments(32 << 10)
    monitor = Monitor("dead", quiet=True, interval_seconds=60).start()
    for i in range(10):
        monitor.log(loss=i + 0.25, step=i)
    os.kill(os.getpid(), signal.SIGKILL)
"""
COUNT = "SELECT run_id, count(*) AS n FROM metrics GROUP BY run_id"


def die(place: Any) -> Any:
    assert place.make_child(SCRIPT).end().returncode == -signal.SIGKILL
    (segment,) = place.segments()
    return segment


def test_a_dead_run_comes_in_although_its_neighbour_is_no_segment(place: Any) -> None:
    segment = die(place)
    live = segment.parent
    (live / "aa-000000.seg").write_bytes(b"x" * 40_000)
    (live / "ab-000000.seg").mkdir()
    os.mkfifo(live / "ac-000000.seg")
    assert [done.rows for done in place.lake.recover()] == [10]
    assert place.lake.query(COUNT).to_pylist() == [{"run_id": "dead", "n": 10}]
    assert (live / "aa-000000.damaged").exists()
    assert (live / "ab-000000.seg").is_dir()
    assert (live / "ac-000000.seg").is_fifo()
    assert [record.state for record in place.lake.runs()] == ["crashed"]


def test_a_dead_run_of_a_later_version_is_left_as_it_is(place: Any) -> None:
    """Its segment, its lock and its record: whoever updates brings it in."""
    segment = die(place)
    data = segment.read_bytes()
    (first,), (length,) = struct.unpack_from("<q", data, 8), struct.unpack_from("<I", data, 24)
    text = json.dumps(json.loads(data[32 : 32 + length]) | {"format": 2}).encode()
    check = adler32(text, adler32(struct.pack("<q", first)))
    later = data[:24] + struct.pack("<II", len(text), check) + text + data[32 + len(text) :]
    segment.write_bytes(later)
    assert place.lake.recover() == []
    assert segment.read_bytes() == later
    assert list(segment.parent.glob("*.lock"))
    segment.write_bytes(data)
    assert [done.rows for done in place.lake.recover()] == [10]
