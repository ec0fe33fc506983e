"""A training that stalls: one alert with all stacks, resolved when it goes on; real processes that hang."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

TOML = "[monitor.stalled]\nmin_seconds = 1.0\nmin_seconds_between = 1.0\n"
FAST = f'    open("renacer.toml", "w").write({TOML!r})\n'


def active(one: Any) -> dict[tuple[str, str], float]:
    points = one.points("training.alert.active")
    return {(p.attributes["name"], p.attributes["level"]): p.value for p in points}


def test_one_alert_with_stacks_and_its_end(judged: Any) -> None:
    """It notifies at level ERROR, is 1 while it lasts, and is over with the next step; the loop goes on."""
    with judged() as one:
        steps = iter(one.monitor.steps(range(100)))
        for _ in range(10):
            next(steps)
            one.advance(0.1)
        assert active(one)["training_stalled", "ERROR"] == 0
        one.advance(59)
        assert one.alerts == []
        one.advance(2)
        one.advance(500)
        (alert,) = one.alerts
        assert (alert.name, alert.source, alert.level, alert.action) == (
            "training_stalled", "stalled", "ERROR", "notify",
        )  # fmt: skip
        assert alert.summary.startswith(
            "Training stalled: no step for 1m 1s, where one takes 100 ms; MainThr"
        )
        assert (alert.value, alert.expected, alert.at.step) == (61.0, 60.0, 9)
        assert active(one)["training_stalled", "ERROR"] == 1
        next(steps)
        assert [found.state for found in one.alerts] == ["firing", "resolved"]
        assert active(one)["training_stalled", "ERROR"] == 0
        one.monitor.log(loss=1.0)
        rows = one.monitor.query("SELECT name, ended_at, incident FROM alerts WHERE source = 'stalled'")
        (row,) = rows.to_pylist()
        assert row["ended_at"] is not None
        one.run.pipeline.incidents.close()
        folder = Path(row["incident"])
        text = (folder / "stacks.txt").read_text()
        assert text.startswith("Training stalled: no step for 1m 1s")
        assert "the loop's):\n" in text
        assert "test_one_alert_with_stacks_and_its_end" in text
        assert json.loads((folder / "alert.json").read_text())["name"] == "training_stalled"


def test_a_pause_is_no_hang_and_the_end_of_a_run_ends_it(judged: Any) -> None:
    with judged() as one:
        for _ in one.monitor.steps(range(10)):
            one.advance(0.1)
        one.advance(5000)  # after the loop: nothing is expected any more
        assert one.alerts == []
        for _ in one.monitor.steps(range(10)):
            one.advance(0.1)
            one.advance(100)
            break
        handler = one._handler
    assert [notice.alert.state for notice in handler.notices] == ["firing", "resolved"]


def test_it_can_be_off_and_be_logged_only(judged: Any) -> None:
    for toml, expected in (("enabled = false", []), ('action = "log"', [("training_stalled", "INFO")])):
        with judged(f"[monitor.stalled]\n{toml}\n", run_id=toml[:6].strip()) as one:
            for _ in one.monitor.steps(range(10)):
                one.advance(0.1)
            for _ in one.monitor.steps(range(10)):
                one.advance(0.1)
                one.advance(100)
                break
            assert ("training_stalled", "ERROR") not in active(one)
            rows = one.monitor.query("SELECT name, level FROM alerts WHERE source = 'stalled'").to_pylist()
            assert [(row["name"], row["level"]) for row in rows] == expected


def alerts_of(lake: str = "lake") -> list[dict[str, Any]]:
    from entrenar_otel.lake import Lake

    found = Lake(lake).query("SELECT * FROM alerts WHERE source = 'stalled' ORDER BY started_at")
    return [dict(row) for row in found.to_pylist()]


LOADER = """\
    import queue
    came, batches = threading.Event(), queue.Queue()
    class Loader:
        def __iter__(self):
            while (batch := batches.get()) is not None:
                yield batch
    def train(monitor):
        for batch in monitor.steps(Loader()):
            monitor.log(loss=1.0)
            if batch == 19:
                print("stuck", flush=True)
    def feed():
        for batch in range(20):
            batches.put(batch)
        came.wait()
        for batch in (20, None):
            batches.put(batch)
    threading.Thread(target=feed, name="feeder", daemon=True).start()
    signal.signal(signal.SIGUSR1, lambda *_: came.set())
    with Monitor("r", interval_seconds=0.1, quiet=True) as monitor:
        train(monitor)
        print("went on", flush=True)
        monitor.flush()
"""


def test_a_stuck_data_loader_is_named(train: Any, until: Any) -> None:
    """A real loop that waits for its loader in a lock of Python's: the alert says where, and ends."""
    trainer = train(FAST + LOADER)
    trainer.expect("stuck")
    until(lambda: len(alerts_of()) == 1)
    (alert,) = alerts_of()
    assert alert["ended_at"] is None
    assert "; MainThread is in Queue.get (queue.py:" in alert["summary"]
    assert "called by Loader.__iter__ (<string>:" in alert["summary"]
    assert "called by train (<string>:" in alert["summary"]
    trainer.signal(signal.SIGUSR1)
    trainer.expect("went on")
    code, _, err = trainer.end()
    assert (code, [row["ended_at"] is not None for row in alerts_of()]) == (0, [True]), err
    folder = Path(alert["incident"])
    until((folder / "stacks.txt").exists)
    text = (folder / "stacks.txt").read_text()
    assert "Thread feeder (" in text
    assert ", in feed\n" in text


FIRST = """\
    import queue
    def loader():
        while True:
            yield queue.Queue().get()
    with Monitor("r", interval_seconds=0.1, quiet=True) as monitor:
        for epoch in monitor.epochs(2):
            print("stuck", flush=True)
            for batch in loader():
                with monitor.step():
                    pass
"""


def test_a_first_batch_that_never_comes(train: Any, until: Any) -> None:
    """The loop has begun, and no step was ever made."""
    trainer = train(FAST.replace("min_seconds_between", "min_seconds_first") + FIRST)
    trainer.expect("stuck")
    until(lambda: len(alerts_of()) == 1)
    (alert,) = alerts_of()
    assert ", and none before; MainThread is in Queue.get (queue.py:" in alert["summary"]
    assert "called by loader (<string>:" in alert["summary"]
    trainer.signal(signal.SIGKILL)


DEADLOCK = """\
    import ctypes
    c = ctypes.CDLL(None)
    read, write = os.pipe()
    def step_in_c():
        c.read(read, ctypes.create_string_buffer(1), 1)   # without the GIL, which ctypes lets go
    with Monitor("r", interval_seconds=0.1, quiet=True) as monitor:
        for batch in monitor.steps(range(20)):
            monitor.log(loss=1.0)
            if batch == 10:
                print("stuck", flush=True)
                step_in_c()
"""


def test_a_call_in_c_that_never_returns(train: Any, until: Any) -> None:
    """It holds no GIL: the Python line that called it is named. The process is killed, as one does."""
    trainer = train(FAST + DEADLOCK)
    trainer.expect("stuck")
    until(lambda: len(alerts_of()) == 1)
    assert "; MainThread is in step_in_c (<string>:" in alerts_of()[0]["summary"]
    trainer.signal(signal.SIGKILL)


SUSPENDED = """\
    with Monitor("r", interval_seconds=0.1, quiet=True) as monitor:
        for batch in monitor.steps(range(20)):
            monitor.log(loss=1.0)
            if batch == 10:
                monitor.flush()
                print("suspend me", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
    print("done", flush=True)
"""


def test_a_suspended_process_is_no_hang(train: Any) -> None:
    """It stands still, its heartbeat too, for far longer than the limit; then it goes on."""
    trainer = train(FAST + SUSPENDED)
    trainer.expect("suspend me")
    time.sleep(4.0)  # what the test is about
    trainer.signal(signal.SIGCONT)
    code, out, err = trainer.end()
    assert (code, out.strip()) == (0, "done"), err
    assert alerts_of() == []


def test_a_loop_that_marks_its_own_steps(judged: Any) -> None:
    """Within a step after 60 s; between two, where nobody says what goes on, after 300 s."""
    with judged() as one:
        for _ in range(5):
            with one.monitor.step():
                one.advance(0.1)
        one.tick()
        one.advance(299)
        assert one.alerts == []
        one.advance(2)
        assert [alert.state for alert in one.alerts] == ["firing"]
        with one.monitor.step():
            one.advance(0.1)
            assert [alert.state for alert in one.alerts] == ["firing", "resolved"]
            one.advance(10_000)
            assert [alert.state for alert in one.alerts] == ["firing", "resolved", "firing"]
