"""The keeper: a run whose lake does not answer, at the start, in between, at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, LakeError, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.storage import LocalStorage
from entrenar_otel.monitor import request
from entrenar_otel.recording.process.control import Command, send
from entrenar_otel.run import heartbeat, keeper
from entrenar_otel.testing import open_run, recorded_run

Until = Callable[..., None]


class Gate:
    """What a mount does whose server is gone: whoever asks waits; until it is open again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        self._open.set()
        self.waiting = 0
        for name in ("list", "write", "write_bytes", "location"):
            monkeypatch.setattr(LocalStorage, name, self._guarded(getattr(LocalStorage, name)))
        makedirs = os.makedirs
        monkeypatch.setattr(os, "makedirs", self._guarded(makedirs))

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wait_then(*arguments: Any, **options: Any) -> Any:
            if not self._open.is_set():
                self.waiting += 1
            self._open.wait()
            return function(*arguments, **options)

        return wait_then

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    monkeypatch.setattr(keeper, "CLAIM_SECONDS", 0.1)
    monkeypatch.setattr(request, "_OPEN_SECONDS", 0.1)
    monkeypatch.setattr(request, "_RESUME_SECONDS", 0.1)
    yield made
    made.open()


def break_lake() -> None:
    """The mount is gone: nothing can be read or written there."""
    os.rename("lake", "lake.away")
    Path("lake").write_text("in the way")


def mend_lake() -> None:
    Path("lake").unlink()
    os.rename("lake.away", "lake")


def rows() -> list[dict[str, Any]]:
    table = Lake("lake").query("SELECT attempt, value FROM metrics ORDER BY attempt, value")
    return list(table.to_pylist())


def states() -> list[tuple[int, str]]:
    return [(one.attempt, one.state) for one in Lake("lake").runs()]


# -- the start --------------------------------------------------------------------------------


def test_a_lake_that_hangs_at_the_start_is_not_waited_for(gate: Gate, wait_until: Until) -> None:
    """The run begins in the local segment; once the lake answers, all of it has the right attempt."""
    with Monitor("r", lake="lake", quiet=True) as first:
        first.log(a=0.0)
    gate.close()
    monitor = Monitor("r", lake="lake", quiet=True, interval_seconds=0.01, settings_file=None)
    monitor.log(a=1.0)
    recorded_run(monitor).recorder.roll()
    monitor.log(a=2.0)
    assert (monitor.enabled, monitor.attempt, monitor.summary("a").count) == (True, None, 2)
    gate.open()
    wait_until(lambda: monitor.attempt == 2)
    monitor.close()
    assert rows() == [{"attempt": a, "value": v} for a, v in ((1, 0.0), (2, 1.0), (2, 2.0))]
    assert states() == [(1, "completed"), (2, "completed")]
    assert list(monitor.lake.live.iterdir()) == []


def test_what_is_recorded_before_the_answer_is_found_by_queries(wait_until: Until) -> None:
    """Under the attempt that it would get now."""
    with Monitor("r", lake="lake", quiet=True) as first:
        first.log(a=0.0)
    monitor = Monitor("r", lake="lake", quiet=True)
    break_lake()
    monitor.log(a=1.0)
    assert monitor.attempt is None
    mend_lake()
    assert rows() == [{"attempt": 1, "value": 0.0}, {"attempt": 2, "value": 1.0}]
    monitor.close()
    assert rows() == [{"attempt": 1, "value": 0.0}, {"attempt": 2, "value": 1.0}]


def test_a_lake_known_by_another_name_at_first(gate: Gate, tmp_path: Path, wait_until: Until) -> None:
    """A link is not resolved where that would hang; later the segments say the lake's own name."""
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", "link")
    gate.close()
    monitor = Monitor("r", lake="link", quiet=True, interval_seconds=0.01, settings_file=None)
    monitor.log(a=1.0)
    gate.open()
    wait_until(lambda: monitor.attempt == 1)
    stored = "SELECT value FROM metrics"
    wait_until(lambda: Lake("real").query(stored).to_pylist() == [{"value": 1.0}])  # a moment later
    monitor.close()
    assert [one.state for one in Lake("real").runs()] == ["completed"]


def test_resume_needs_an_answer(gate: Gate) -> None:
    """Whether the run is there is what the caller wants to know before it begins."""
    gate.close()
    with pytest.raises(LakeError, match=r"within \d+ s whether it has run 'r' \(resume='must'\)"):
        Monitor("r", lake="lake", quiet=True, resume="must")


def test_emitters_and_resource_before_the_answer(gate: Gate, wait_until: Until) -> None:
    """No attempt is made up: records say 0, the resource says none."""
    gate.close()
    got: list[Any] = []

    class Emitter:
        def emit(self, record: Any) -> None: ...

        def emit_batch(self, records: Any) -> None:
            got.extend(records)

        def flush(self) -> None: ...

    monitor = Monitor("r", lake="lake", quiet=True, interval_seconds=0.01, emitters=[Emitter()])
    monitor.log(a=1.0)
    wait_until(lambda: got)
    assert [one.attempt for one in got] == [0]
    attributes = open_run(monitor).metrics.resource.attributes
    assert "training.run.attempt" not in attributes
    assert open_run(monitor).record.process in str(attributes["service.instance.id"])
    gate.open()
    monitor.close()


# -- in between -------------------------------------------------------------------------------


def test_commands_and_judgement_do_not_wait_for_the_lake(gate: Gate, wait_until: Until) -> None:
    """A hand-over hangs; the heartbeat drains, judges and obeys."""
    monitor = Monitor("r", lake="lake", quiet=True, interval_seconds=0.01, settings_file=None).start()
    monitor.log(a=0.0)
    gate.close()
    recorded_run(monitor).recorder.roll()
    wait_until(lambda: gate.waiting)
    monitor.log(a=1.0)
    wait_until(lambda: monitor.summary("a").count == 2)
    send(str(monitor.lake.live), open_run(monitor).record.process, Command.STOP, "enough")

    def log_until_stopped() -> bool:
        try:
            monitor.log(a=2.0)
        except AndonStop:
            return True
        return False

    wait_until(log_until_stopped)
    gate.open()
    monitor.close()
    assert states() == [(1, "stopped")]


def test_segments_that_wait_are_cut_and_closed(start: Callable[..., Monitor]) -> None:
    """Neither descriptors nor the disk grow by time; others leave them alone; nothing is lost or doubled."""
    monitor = start()
    recorder, beat = recorded_run(monitor).recorder, open_run(monitor).heartbeat
    monitor.log(a=0.0)
    break_lake()
    opened = len(os.listdir("/proc/self/fd"))
    for value in range(1, 31):
        monitor.log(a=float(value))
        recorder.roll()
        beat.tick()
        beat.keeper.on_tick()
    assert len(os.listdir("/proc/self/fd")) <= opened + 2  # the current one's, and what is in passing
    segments = sorted(monitor.lake.live.glob("*.seg"))
    assert len(segments) == 31
    sizes = sorted(path.stat().st_size for path in segments[:30])
    assert sizes[28] < 20_000
    assert sizes[29] < 60_000  # it says what is installed
    mend_lake()
    assert Lake("lake").recover() == []
    assert [row["value"] for row in rows()] == [float(value) for value in range(31)]
    assert beat.hand_over(final=True)
    assert len(list(monitor.lake.live.glob("*.seg"))) == 1
    assert [row["value"] for row in rows()] == [float(value) for value in range(31)]
    monitor.close()
    assert [row["value"] for row in rows()] == [float(value) for value in range(31)]


def test_no_roll_by_age_while_segments_wait(
    start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is written to takes what comes, until it is full."""
    monkeypatch.setattr(heartbeat, "ROLL_SECONDS", 0.0)
    monitor = start()
    monitor.log(a=0.0)
    break_lake()
    beat = open_run(monitor).heartbeat
    for value in range(5):
        monitor.log(a=float(value))
        beat.tick(hand_over=False)
        beat.tick(hand_over=False)
    assert recorded_run(monitor).recorder.waiting == 1
    mend_lake()
    assert beat.hand_over(final=True)
    monitor.log(a=9.0)
    beat.tick(hand_over=False)
    beat.tick(hand_over=False)
    assert recorded_run(monitor).recorder.waiting == 1  # one that is handed over next


def test_a_parked_segment_whose_lock_was_removed(start: Callable[..., Monitor]) -> None:
    """By a cleaner of temporary files, say: its process is seen to run, so it is left alone."""
    monitor = start()
    monitor.log(a=0.0)
    break_lake()
    beat = open_run(monitor).heartbeat
    recorded_run(monitor).recorder.roll()
    beat.tick()
    beat.keeper.on_tick()
    mend_lake()
    for path in monitor.lake.live.glob("*.lock"):
        path.unlink()
    assert Lake("lake").recover(thorough=False) == []
    assert beat.hand_over(final=True)
    monitor.close()
    assert [row["value"] for row in rows()] == [0.0]


# -- the end ----------------------------------------------------------------------------------


def test_a_run_that_completes_while_the_lake_is_away(
    start: Callable[..., Monitor], caplog: pytest.LogCaptureFixture
) -> None:
    """It is said where the rest is; it ends as it ended, also in between."""
    monitor = start()
    monitor.log(a=1.0)
    break_lake()
    monitor.close()
    assert caplog.text.count("and how it ended, stay in") == 1
    mend_lake()
    assert Lake("lake").query("SELECT state, reason FROM runs").to_pylist() == [
        {"state": "completed", "reason": None}
    ]
    Lake("lake").recover(thorough=False)
    (record,) = Lake("lake").runs()
    assert (record.state, record.reason) == ("completed", None)
    assert record.ended_at is not None
    assert list(monitor.lake.live.iterdir()) == []
    assert rows() == [{"attempt": 1, "value": 1.0}]


def test_a_whole_run_while_the_lake_is_away() -> None:
    """Also the lake's first word of it comes by recovery, with all that its record says."""
    monitor = Monitor("r", lake="lake", quiet=True, config={"lr": 1}, model_id="m")
    break_lake()
    monitor.log(a=1.0)
    monitor.close("stopped", "enough")
    mend_lake()
    Lake("lake").recover(thorough=False)
    (record,) = Lake("lake").runs()
    assert (record.attempt, record.state, record.reason) == (1, "stopped", "enough")
    assert (record.config, record.model_id) == ('{"lr": 1}', "m")
    assert rows() == [{"attempt": 1, "value": 1.0}]


def test_close_leaves_a_hanging_lake_behind(
    gate: Gate, start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch, wait_until: Until
) -> None:
    """It returns while the lake still hangs; if the lake answers then, everything arrives."""
    monkeypatch.setattr("entrenar_otel.run.open_run._END_SECONDS", 0.5)
    monitor = start()
    monitor.log(a=1.0)
    gate.close()
    monitor.close()
    live = monitor.lake.live
    assert sorted(path.suffix for path in live.iterdir()) == [".lock", ".seg"]
    gate.open()
    wait_until(lambda: not list(live.iterdir()))
    assert states() == [(1, "completed")]
    assert rows() == [{"attempt": 1, "value": 1.0}]
