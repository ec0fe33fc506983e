"""The parts of the page's server: smoothing, bytes, facts, the runs that are kept."""

from __future__ import annotations

import sys
import time
from dataclasses import fields
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Summary
from entrenar_processors.samples import Column, Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.page.curves import Wanted, lines_of
from entrenar_otel.page.run_facts import facts_of
from entrenar_otel.page.run_list import RunList
from entrenar_otel.page.smoothing import smoothed
from entrenar_otel.page.watched_runs import WatchedRuns
from entrenar_otel.page.wire import DrawnLine, decode, encode
from entrenar_otel.views.model import Axis, Finding, RunView, Statistics, Threshold
from tests.page.conftest import HOSTILE, record
from tests.page.long_run import values_of, write_long_run

FLOATS = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]), max_size=60)


@given(FLOATS, st.integers(1, 80))
def test_smoothed(given_values: list[float], window: int) -> None:
    """Equal to the means, each for itself; what is not finite stays in sight."""
    values = np.array(given_values)
    found = smoothed(values, window)
    for at, value in enumerate(values):
        around = (
            values[max(0, at - window // 2) : at + window // 2 + 1] if window > 1 else values[at : at + 1]
        )
        wanted = around[np.isfinite(around)].mean() if np.isfinite(value) else value
        np.testing.assert_allclose(found[at], wanted, rtol=1e-9, atol=1e-6)


@given(st.text(max_size=30), FLOATS)
def test_wire(name: str, values: list[float]) -> None:
    """All values to the bit, under any name."""
    y = np.array(values, dtype=np.float64)
    x = np.arange(float(len(y)))
    header, lines = decode(encode([DrawnLine(name, name, "m", "", 9, x, y)] * 2, axis="step"))
    assert (header["axis"], [line["run"] for line in header["lines"]]) == ("step", [name, name])
    for got_x, got_y in lines:
        assert (got_x.tobytes(), got_y.tobytes()) == (x.tobytes(), y.tobytes())
    with pytest.raises(ValueError, match="expected b'EOCURVE1', got b'nonsense'"):
        decode(b"nonsense")


def _view(values: Any, step: Any = None, **more: Any) -> RunView:
    y = np.asarray(values, dtype=np.float64)
    place = np.arange(len(y)) if step is None else np.asarray(step)
    nowhere = np.full(len(y), -1, np.int32)
    rows = Column(1_000_000_000 * place, nowhere, nowhere, place, np.arange(len(y)), y)
    series = Series("loss")
    return RunView("r", "completed", curves={series: rows}, stepped=frozenset([series]), **more)


def test_spikes_stay() -> None:
    """Of a million values a few thousand are drawn, and each of the spikes among them."""
    values = np.zeros(1_000_000)
    spikes = [17, 123_456, 777_777, 999_998]
    values[spikes] = [5.0, -7.0, np.nan, np.inf]
    (line,) = lines_of("r", _view(values), Wanted("loss", columns=500))
    assert (line.of, len(line.x) <= 5 * 500) == (1_000_000, True)
    assert {17.0, 123_456.0, 777_777.0, 999_998.0} <= set(line.x)
    (part,) = lines_of("r", _view(values), Wanted("loss", columns=500, low=123_400, high=123_500))
    assert part.x.tolist() == list(range(123_399, 123_501))
    assert part.y.min() == -7.0


def test_a_short_curve_keeps_its_shape() -> None:
    """A mean is taken over a tenth of the values at most."""
    (line,) = lines_of("r", _view(np.arange(10.0)), Wanted("loss", window=21))
    assert line.y.tolist() == list(range(10))
    (line,) = lines_of("r", _view([0.0, 3.0] * 20), Wanted("loss", window=3))
    assert line.y[1:-1].tolist() == [1.0, 2.0] * 19


def test_lines_go_from_left_to_right() -> None:
    """Also where a later attempt began anew at other places; over an axis that is not there is no line."""
    view = _view([3.0, 1.0, 2.0], step=[30, 10, 20])
    (line,) = lines_of("r", view, Wanted("loss"))
    assert (line.x.tolist(), line.y.tolist()) == ([10.0, 20.0, 30.0], [1.0, 2.0, 3.0])
    assert lines_of("r", view, Wanted("loss", Axis.EPOCH)) == []
    assert lines_of("r", view, Wanted("accuracy")) == []


def test_findings_have_places() -> None:
    """On every axis, by their own coordinates or by their time; limits are those of the panel."""
    with Monitor("r", lake="lake", quiet=True, config={}) as monitor:
        for step in range(40):
            monitor.log(epoch=step // 10, batch=step % 10, step=step, loss=1.0, other=float(step))
        monitor.log(epoch=4, batch=0, step=40, loss=1.0, other=float("nan"))
    seen = WatchedRuns(Lake("lake")).see("r")
    facts = facts_of(seen.view, seen.version)
    (finding,) = facts["findings"]
    assert (finding["level"], finding["metric"], finding["panels"]) == ("WARNING", "other", ["other"])
    assert (finding["value"], finding["places"]["step"], finding["places"]["epoch"]) == ("NaN", 40.0, 4.1)
    assert finding["places"]["time"] >= 0.0
    limited = _view([1.0], thresholds=(Threshold("low", "loss", {}, 0.5, None),))
    assert facts_of(limited, "")["panels"][0]["limits"] == [["low", 0.5]]


def test_statistics_are_those_of_the_lake() -> None:
    """Of all values, however few are drawn: those of `Summary`, and of SQL's `summaries`."""
    lake = Lake("lake")
    values = values_of(300_000)
    values[[5, 70_000, 250_000]] = [np.nan, 11.0, -np.inf]
    write_long_run(lake, "r", values)
    view = WatchedRuns(lake).see("r").view
    assert len(view.curves[Series("loss")].values) < len(values)
    (found,) = facts_of(view, "")["statistics"]
    summary = Summary()
    summary.update(lake.curve("loss", "r")["value"].to_numpy())
    names = [field.name for field in fields(Statistics)]
    known = {name: getattr(summary, name) for name in names}
    sums = {name: pytest.approx(known[name], rel=1e-12) for name in ("mean", "std")}  # in parts, here at once
    assert found == {"metric": "loss", "tags": {}, **known, **sums}
    (row,) = lake.query("SELECT * FROM summaries", run_id="r").to_pylist()
    exact = ("count", "nonfinite", "last", "min", "max")
    assert [row[name] for name in exact] == [found[name] for name in exact]
    for name in ("mean", "std"):
        assert row[name] == pytest.approx(found[name], rel=1e-9)
    for name in ("p50", "p90", "p99"):  # estimates of two kinds
        assert row[name] == pytest.approx(found[name], rel=0.03)


def test_a_run_of_many_metrics_is_told_soon() -> None:
    """No panel looks at the series of all others: their number is no factor of what is done for each."""
    curves = {Series(f"layers.{at}.w"): _view([1.0]).curves[Series("loss")] for at in range(3_000)}
    finding = Finding("f", "WARNING", "", "layers.7.w", "", "", 1, datetime.now(UTC), None, None, 0, 1.0)
    view = RunView("r", "completed", curves=curves, findings=[finding])
    calls = 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        facts = facts_of(view, "")
    finally:
        sys.setprofile(None)
    assert (len(facts["panels"]), facts["findings"][0]["panels"]) == (3_000, ["layers.7.w"])
    assert calls < 200 * 3_000


def test_a_run_that_goes_on() -> None:
    """Has another version when there is more of it, and the same as long as there is not."""
    monitor = record("r", ends=False)
    runs = WatchedRuns(Lake("lake"))
    first = runs.see("r")
    assert first.view.is_going
    monitor.log(epoch=6, batch=0, step=60, loss=0.5)
    end = time.monotonic() + 120
    while (second := runs.see("r")).version == first.version and time.monotonic() < end:
        time.sleep(0.05)
    assert second.version != first.version
    monitor.close()


def test_runs_are_forgotten_where_memory_ends() -> None:
    for name in "abc":
        record(name)
    runs = WatchedRuns(Lake("lake"), max_bytes=1)
    for name in "abca":
        assert runs.see(name).view.run_id == name
        assert [*runs._runs] == [(name, None)]


def test_the_list_learns_losses_and_alerts() -> None:
    """Of runs that have ended once; a diverged one is told by its alerts."""
    record("good", lr=0.1)
    with Monitor(HOSTILE, lake="lake", quiet=True) as monitor:
        monitor.log(step=0, other=1.0)
        monitor.log(step=1, other=float("inf"))
    runs = RunList(Lake("lake"))
    runs.runs()
    runs.wait()
    hostile, good = runs.runs()
    assert (good["alerts"], good["alert_level"], good["loss"] is not None) == (0, None, True)
    assert (hostile["alerts"], hostile["alert_level"], hostile["loss"]) == (1, "WARNING", None)
    assert runs.has("good")
    assert not runs.has("nobody")
