"""The machine's clock is set in mid-run (NTP, a laptop that slept): samples, events, spans, alerts and
incidents go on in one time, and nothing is judged by the step."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel import AndonStop
from entrenar_otel.lake import Lake

STEPS = [3600, -3600, 20 * 3600, -20 * 3600]
NEVER = '[[monitor.threshold]]\nname = "hot"\nmetric = "heat"\nmax = 90.0\nfor = "10m"\naction = "log"\n'


def seconds(time: datetime) -> float:
    return time.timestamp()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("ticked", [True, False])
def test_the_incident_has_what_was_before_and_after(judged: Any, step: int, ticked: bool) -> None:
    """Whether the heartbeat or the stop finds the step; the window is complete, and no row is in it twice."""
    with judged() as one:
        for i in range(100):
            one.clock.advance(0.1)
            one.monitor.log(loss=1.0, step=i)
        one.tick()
        one.clock.set(step)
        for i in range(100, 200):
            one.clock.advance(0.1)
            one.monitor.log(loss=1.0, step=i)
            if ticked and i == 150:
                one.tick()
        one.monitor.event("here")
        with pytest.raises(AndonStop) as caught:
            one.monitor.log(loss=math.nan, step=200)
        now = one.clock.time_ns() / 1e9
        newest = (
            one.monitor.query("SELECT max(timestamp) FROM metrics WHERE step >= 100").column(0)[0].as_py()
        )
        event = one.monitor.query("SELECT timestamp FROM events WHERE name = 'here'").column(0)[0].as_py()
        assert (seconds(newest), seconds(event)) == (
            pytest.approx(now, abs=0.01),
            pytest.approx(now, abs=0.01),
        )
    window = pq.read_table(Path(str(caught.value.incident)) / "window.parquet")
    assert sorted(window["step"].to_pylist()) == list(range(201))
    rows = Lake("lake").query("SELECT step, timestamp FROM metrics ORDER BY seq").to_pylist()
    assert [row["step"] for row in rows] == list(range(201))
    jumps = [seconds(b["timestamp"]) - seconds(a["timestamp"]) for a, b in itertools.pairwise(rows)]
    assert [round(jump) for jump in jumps if abs(jump) > 1] == [step]


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_judged_by_the_step(judged: Any, step: int) -> None:
    """What must last ten minutes has not, after one; an episode ends in its time, not at once or never."""
    with judged(NEVER + "[monitor.andon]\nquiet_seconds = 60\n") as one:
        one.monitor.log(heat=95.0)
        one.monitor.log(gradient_norm=math.inf)
        one.monitor.log(gradient_norm=1.0)
        one.tick()
        one.advance(30)
        one.clock.set(step)
        one.clock.advance(0.5)
        one.monitor.log(heat=95.0)
        one.tick()
        active = [alert.name for alert in one.run.pipeline.judge.active]
        assert active == ["nonfinite_other"]
        one.advance(61)
        assert one.run.pipeline.judge.active == []
        one.monitor.log(heat=95.0)
        one.tick()
        assert one.run.pipeline.judge.active == []
        one.advance(10 * 60)
        one.monitor.log(heat=95.0)
        one.tick()
        assert [alert.name for alert in one.run.pipeline.judge.active] == ["hot"]
    row = Lake("lake").query("SELECT name, state, started_at, ended_at FROM alerts WHERE level <> 'INFO'")
    (alert,) = row.to_pylist()
    assert (alert["name"], alert["state"]) == ("nonfinite_other", "resolved")


@pytest.mark.parametrize("step", STEPS)
def test_spans_are_as_long_as_they_were(judged: Any, step: int) -> None:
    """An epoch of ten seconds does not take an hour, nor minus one; the run ends after it began."""
    with judged() as one:
        for _ in one.monitor.epochs(1):
            one.clock.advance(5)
            one.tick()
            one.clock.set(step)
            one.tick()
            one.clock.advance(5)
        with one.monitor.span("after"):
            pass
        now = one.clock.time_ns() / 1e9
    spans = Lake("lake").query("SELECT name, start_time, duration_seconds FROM spans").to_pylist()
    lengths = {span["name"]: span["duration_seconds"] for span in spans}
    assert lengths["training.epoch"] == pytest.approx(10)
    assert lengths["training.run"] == pytest.approx(10)
    (after,) = [span for span in spans if span["name"] == "after"]
    assert seconds(after["start_time"]) == pytest.approx(now)
    (run,) = Lake("lake").runs()
    assert run.ended_at is not None
    assert run.started_at <= run.ended_at <= datetime.now(UTC)


def test_it_is_said_once(judged: Any, caplog: pytest.LogCaptureFixture) -> None:
    """In plain words; further steps are for those who ask."""
    with judged() as one:
        for _ in range(3):
            one.clock.advance(10)
            one.clock.set(-90)
            one.tick()
        said = [
            r.getMessage() for r in caplog.records if "clock" in r.getMessage() and r.levelname == "WARNING"
        ]
        assert said == [
            "the machine's clock was set 90.0 s back, or the machine slept; times follow it from here on, "
            "the order of samples is that of seq"
        ]
