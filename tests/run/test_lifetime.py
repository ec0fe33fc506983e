"""A run's life: how it starts, is disabled, resumed, superseded and ended."""

from __future__ import annotations

import math
import os
import pickle
import threading
from datetime import datetime
from typing import Any

import pytest

from entrenar_otel import AndonStop, Metric, Monitor, NotMeasured, RunError
from entrenar_otel.lake import Lake
from entrenar_otel.run import lifetime


def make(run_id: str | None = "r", **settings: Any) -> Monitor:
    return Monitor(run_id, **{"lake": "lake", "quiet": True, **settings})


def state_of(run_id: str = "r") -> tuple[str, str | None]:
    record = [one for one in Lake("lake").runs() if one.run_id == run_id][-1]
    return record.state, record.reason


def test_close_is_idempotent_and_ends_recording(caplog: pytest.LogCaptureFixture) -> None:
    """The first close counts; later logs are dropped, counted and warned of once."""
    monitor = make()
    monitor.log(a=1, b=2)
    monitor.close("stopped", "enough")
    monitor.close("crashed")
    monitor.log(a=1, b=2)
    monitor.log(a=1, b=2)
    assert state_of() == ("stopped", "enough")
    assert monitor.dropped == 4
    assert monitor.sample_count("a") == 1
    assert [r.message for r in caplog.records if "after the run ended" in r.message][1:] == []
    assert "after the run ended (enough)" in caplog.text
    with pytest.raises(ValueError, match="expected state to be one of completed, stopped, crashed"):
        make("other").close("done")


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ZeroDivisionError("by zero"), "crashed", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (SystemExit(0), "completed", None),
        (SystemExit(None), "completed", None),
        (SystemExit(3), "crashed", "SystemExit: 3"),
        (AndonStop("by hand"), "stopped", "AndonStop: by hand"),
    ],
)
def test_how_a_run_ends(error: BaseException, state: str, reason: str | None) -> None:
    """The exception leaves `with` untouched and decides what the record says."""

    def train() -> None:
        with make() as monitor:
            monitor.log(a=1)
            raise error

    with pytest.raises(type(error)) as caught:
        train()
    assert caught.value is error
    assert state_of() == (state, reason)


@pytest.mark.parametrize("switch", ["ENTRENAR_DISABLED", "OTEL_SDK_DISABLED", "pickle", "auto"])
def test_the_no_op_twin_has_every_method(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Disabled, copied into a worker or failed in auto(): the same loop runs, and nothing is kept."""
    if switch.isupper():
        monkeypatch.setenv(switch, "true")
    twin = Monitor.auto(run_id="r", lake="nosuch://x" if switch == "auto" else "lake", quiet=True)
    if switch == "pickle":
        twin = pickle.loads(pickle.dumps(twin.start()))
    assert (twin.enabled, twin.run_id, "disabled" in repr(twin)) == (False, "r", True)
    with twin as monitor:
        fast = monitor.bind("loss", "b")
        for epoch in monitor.epochs(2):
            assert list(monitor.steps([1, 2], epoch=epoch)) == [1, 2]
            monitor.log(loss=math.nan, odd="x")
            fast(math.nan, None, epoch=-1)
            monitor.record(Metric.LOSS, math.nan)
        assert (monitor.summary(), monitor.sample_count("loss"), monitor.is_measured("loss")) == (
            {},
            0,
            False,
        )
        assert (monitor.to_records(), monitor.attempt, monitor.dropped, monitor.bad_values) == (
            [],
            None,
            0,
            0,
        )
        with pytest.raises(NotMeasured, match="loss was not measured; measured so far: nothing"):
            monitor.summary("loss")
        with pytest.raises(NotMeasured, match="'loss' was not measured in run r; measured: nothing"):
            monitor.curve("loss")
        assert monitor.query("SELECT * FROM metrics").num_rows == 0
        assert monitor.range(datetime(2000, 1, 1), datetime(2100, 1, 1)).num_rows == 0  # noqa: DTZ001
    monitor.close()
    monitor.start()
    assert [one for one in lifetime.open_runs() if one is monitor] == []


def test_attempts_and_resume() -> None:
    """The same id again is the next attempt; `never` and `must` say which run of which lake."""
    for attempt in (1, 2):
        with make() as monitor:
            monitor.log(loss=float(attempt))
            assert monitor.attempt == attempt
            assert [r.value for r in monitor.to_records()] == [attempt]
    assert monitor.curve("loss")["value"].to_pylist() == [1.0, 2.0]
    with pytest.raises(RunError, match=r"run 'r' is already in .*lake \(resume='never'\)"):
        make(resume="never")
    with pytest.raises(RunError, match=r"run 'new' is not in .*lake \(resume='must'\)"):
        make("new", resume="must")
    with make(resume="must") as monitor:
        assert monitor.attempt == 3


def test_the_same_id_supersedes_and_exit_closes_all(capsys: pytest.CaptureFixture[str]) -> None:
    """A new Monitor ends the open one of its id; at exit every open run is closed, not every other one."""
    first = make().start()
    second = make().start()
    assert "run r ended, superseded by r" in capsys.readouterr().err
    others = [make(f"s{i}").start() for i in range(4)]
    lifetime.close_all()
    assert (lifetime.open_runs(), repr(first)) == ((), "<Monitor r rank 0 of 1, closed>")
    assert [state_of(one.run_id)[0] for one in (second, *others)] == ["completed"] * 5


def test_a_config_that_json_cannot_say_does_not_cost_the_run() -> None:
    """Keys of several types are text, and a circle is cut."""
    circle: dict[Any, Any] = {}
    circle["self"] = circle
    for run_id, config in (("mixed", {1: "a", "b": 2}), ("circle", circle)):
        with make(run_id, config=config) as monitor:
            monitor.log(a=1)
        assert monitor.enabled
    assert {one.run_id: one.config for one in Lake("lake").runs()} == {
        "mixed": '{"1": "a", "b": 2}',
        "circle": '{"self": "\\u2026"}',
    }


def threads() -> list[str]:
    """Ours, but for the one that belongs to the process's meter provider."""
    names = [thread.name for thread in threading.enumerate() if "entrenar" in thread.name]
    return [name for name in names if name != "entrenar-sdk"]


def test_nothing_is_left_behind() -> None:
    """A closed run leaves no live segment, no lock, no thread and no mark for children."""
    with make() as monitor:
        monitor.log(a=1)
        live = monitor.lake.live
        assert sorted(path.suffix for path in live.iterdir()) == [".lock", ".seg"]
        assert "ENTRENAR_PARENT" in os.environ
        names = {"entrenar-heartbeat", "entrenar-incidents", "entrenar-lake", "entrenar-signals"}
        assert set(threads()) - {"entrenar-environment", "entrenar-lineage"} == names  # those are soon over
    assert [path.name for path in live.iterdir()] == []
    assert "ENTRENAR_PARENT" not in os.environ
    assert threads() == []
