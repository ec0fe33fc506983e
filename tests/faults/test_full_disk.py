"""A full disk: training goes on, it is said once and counted, and nothing written before is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

#: Logs a record a step; the values tell which were kept. Talks to the test in between.
SCRIPT = """
    import logging
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    small = int(os.environ.get("SEGMENT", "0"))
    if small:
        small_segments(small)
    monitor = Monitor("full", quiet=True, interval_seconds=0.1)
    monitor.start()
    assert monitor.enabled
    i = 0
    say("ready")
    for line in sys.stdin:
        for _ in range(int(line)):
            monitor.log(loss=float(i), accuracy=-float(i), norm=i / 2, step=i)
            i += 1
        open_run(monitor).heartbeat.tick()
        say(f"{i} {monitor.dropped}")
    monitor.close()
    say(monitor.dropped)
"""


def on(place: Any, disk: Any) -> None:
    """Lake and live folders on that disk."""
    place.lake_path, place.live = disk / "lake", disk / "live"
    place.environment |= {"ENTRENAR_LAKE": str(place.lake_path), "ENTRENAR_LIVE": str(place.live)}


def log(child: Any, n: Any) -> Any:
    """Log n records; how many there were so far, and how many samples of them were dropped."""
    child.process.stdin.write(f"{n}\n")
    child.process.stdin.flush()
    return tuple(int(word) for word in child.hear().split())


def kept(place: Any) -> Any:
    """The steps that are there: whole, once and right, or it fails."""
    table = place.lake.query("SELECT step, metric, value FROM metrics ORDER BY step, metric").to_pydict()
    steps = table["step"][::3]
    assert table["metric"] == ["accuracy", "loss", "norm"] * len(steps)
    assert table["value"] == [value for i in steps for value in (-float(i), float(i), i / 2)]
    assert len(set(steps)) == len(steps)
    return steps


def resumed(child: Any) -> Any:
    """Whether a record is kept again."""
    _, dropped = log(child, 1)
    return log(child, 1)[1] == dropped


def fill(disk: Any, leave: Any = 0) -> Any:
    """Fill the disk up to `leave` bytes; the file that does it."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    size = max(0, free.f_bavail * free.f_frsize - leave)
    with filler.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            file.truncate(0)
            chunk = b"x" * 4096
            while True:
                try:
                    os.write(file.fileno(), chunk)
                except OSError:
                    break
    return filler


def end(child: Any) -> Any:
    child.process.stdin.close()
    child.process.stdin = None
    return child.end()


def warnings_of(done: Any) -> Any:
    return [
        line
        for line in done.said.splitlines()
        if line.strip() and "monitoring failed in incident" not in line
    ]


def test_a_small_disk_for_live_and_lake(place: Any, small_disk: Any) -> None:
    """24 MB for what would be 3 GB of segments: all of it goes through, as Parquet."""
    on(place, small_disk)
    child = place.make_child(SCRIPT)
    child.expect("ready")
    for _ in range(20):
        logged, dropped = log(child, 20_000)
    assert logged == 400_000
    present = kept(place)
    assert dropped == 3 * (logged - len(present))
    done = end(child)
    assert done.returncode == 0
    assert len(warnings_of(done)) <= 2, done.stderr
    assert kept(place) == present
    assert len(present) > 200_000


def test_a_disk_filled_after_creation(place: Any, small_disk: Any) -> None:
    """The segment in use is allocated and fills up; then samples are dropped; then there is room again."""
    on(place, small_disk)
    child = place.make_child(SCRIPT, SEGMENT=str(512 << 10))
    child.expect("ready")
    log(child, 1000)
    filler = fill(small_disk)
    assert kept(place) == list(range(1000))
    logged, dropped = log(child, 50_000)
    assert logged == 51_000
    first = kept(place)
    assert first == list(range(len(first)))  # up to where there was no room, without a hole
    assert len(first) > 5000
    assert dropped == 3 * (logged - len(first))
    assert log(child, 100) == (51_100, dropped + 300)
    filler.unlink()
    place.wait_until(lambda: resumed(child))
    done = end(child)
    assert done.returncode == 0
    present = kept(place)
    assert present[: len(first)] == first
    assert int(done.stdout.split()[-1]) == 3 * (present[-1] + 1 - len(present))
    lines = warnings_of(done)
    assert len([line for line in lines if "no room for the next segment" in line]) == 1
    assert len(lines) <= 2, lines  # and one that the lake cannot be written
    (record,) = place.lake.runs()
    assert (record.state, record.dropped) == ("completed", int(done.stdout.split()[-1]))


def test_a_full_disk_from_the_start(place: Any, small_disk: Any) -> None:
    """No monitoring then, but training goes on, and it is said."""
    on(place, small_disk)
    fill(small_disk)
    done = place.run("""
        monitor = Monitor.auto(run_id="none", quiet=True)
        with monitor:
            for i in range(1000):
                monitor.log(loss=float(i))
        say(monitor.enabled)
    """)
    assert done.stdout.split() == ["False"]
    assert len(warnings_of(done)) == 1
    assert "monitoring is off" in done.stderr


def test_a_full_lake_leaves_everything_in_the_segments(place: Any, small_disk: Any) -> None:
    """The live folder is on another disk: nothing is dropped, and the lake catches up."""
    place.lake_path = small_disk / "lake"
    place.environment["ENTRENAR_LAKE"] = str(place.lake_path)
    child = place.make_child(SCRIPT, SEGMENT=str(256 << 10))
    child.expect("ready")
    filler = fill(small_disk)
    assert log(child, 30_000) == (30_000, 0)
    assert kept(place) == list(range(30_000))
    done = end(child)
    assert done.returncode == 0
    assert done.stdout.split()[-1] == "0"
    assert kept(place) == list(range(30_000))
    assert any("cannot be written" in line for line in warnings_of(done))
    assert not list(small_disk.rglob("*.tmp"))  # a failed write leaves nothing
    filler.unlink()
    place.lake.recover()
    assert kept(place) == list(range(30_000))
    assert not place.segments()


def test_recovery_onto_a_full_disk_harms_nothing(place: Any, small_disk: Any) -> None:
    place.lake_path = small_disk / "lake"
    place.environment["ENTRENAR_LAKE"] = str(place.lake_path)
    child = place.make_child(SCRIPT, SEGMENT=str(256 << 10))
    child.expect("ready")
    filler = fill(small_disk)
    log(child, 10_000)
    child.kill()
    child.end()
    before = {path.name: path.read_bytes() for path in place.segments()}
    with pytest.raises(OSError, match="No space left"):
        place.lake.recover()
    command = [sys.executable, "-m", "entrenar_otel.cli.main", "recover"]
    asked = subprocess.run(command, env=place.environment, capture_output=True, text=True, timeout=100)
    assert asked.returncode == 1
    assert f"{place.lake_path} cannot be written (No space left on device). Nothing is lost" in asked.stderr
    assert {path.name: path.read_bytes() for path in place.segments()} == before
    assert kept(place) == list(range(10_000))
    filler.unlink()
    place.lake.recover()
    assert kept(place) == list(range(10_000))
    assert not list(place.live.iterdir())
    assert place.states() == {"full": ["crashed"]}


def test_no_space_is_left_allocated_by_a_failed_segment(place: Any, small_disk: Any) -> None:
    """A failed allocation gives back what it got."""
    on(place, small_disk)
    child = place.make_child(SCRIPT)
    child.expect("ready")
    fill(small_disk, leave=1 << 20)
    log(child, 400_000)
    child.kill(signal.SIGSTOP)  # what is counted must stand still
    used = subprocess.run(["du", "-sk", str(place.live)], capture_output=True, text=True, check=True)
    sizes = sum(path.stat().st_size for path in place.live.iterdir())
    assert int(used.stdout.split()[0]) * 1024 <= sizes + 65536
    assert not [path for path in place.live.glob(".*.new") if path.stat().st_size > 1 << 20]
    child.kill(signal.SIGCONT)
    assert end(child).returncode == 0
