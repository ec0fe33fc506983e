"""A real process whose system clock is set while it trains (libfaketime)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
SCRIPT = """
    from entrenar_otel import AndonStop

    sleep = time.sleep
    time.sleep = lambda seconds: sleep(seconds) if seconds else None  # libfaketime refuses sleep(0)
    monitor = Monitor("r", quiet=True, interval_seconds=0.1).start()
    for i in range(1000):
        monitor.log(loss=1.0, step=i)
    say("step")
    sys.stdin.readline()
    for i in range(1000, 2000):
        monitor.log(loss=1.0, step=i)
    monitor.event("here")
    try:
        monitor.log(loss=float("nan"), step=2000)
    except AndonStop as error:
        say(error.incident)

    def seconds(table, where):
        sql = f"SELECT epoch_us(max(timestamp)) / 1e6 FROM {table} WHERE {where}"
        return monitor.query(sql).column(0)[0].as_py()

    now = time.time()
    say(json.dumps([now, seconds("metrics", "step = 1999"), seconds("events", "name = 'here'")]))
    monitor.close()
"""


@pytest.mark.parametrize("step", [3600, -3600, 20 * 3600])
def test_a_clock_that_is_set_in_mid_run(place: Any, step: int) -> None:
    """Samples, events and the incident are in one time, which is the machine's."""
    if not LIBRARIES:
        pytest.skip("CLOCK STEPS OF REAL PROCESSES ARE NOT TESTED HERE: install libfaketime (faketime)")
    offset = place.root / "offset"
    offset.write_text("+0\n")
    child = place.make_child(
        SCRIPT,
        LD_PRELOAD=str(LIBRARIES[0]),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        DONT_FAKE_MONOTONIC="1",
    )
    child.expect("step")
    offset.write_text(f"{step:+}\n")
    child.process.stdin.write("\n")
    child.process.stdin.flush()
    incident = Path(child.hear())
    now, sample, event = json.loads(child.hear())
    assert child.end().returncode == 0
    assert abs(now - sample) < 600
    assert abs(now - event) < 600
    steps = pq.read_table(incident / "window.parquet")["step"].to_pylist()
    assert sorted(steps) == list(range(2001))
    assert place.count("r") == 2001
