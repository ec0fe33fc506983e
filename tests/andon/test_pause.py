"""A pause holds the next log until somebody resumes, stops, or nobody answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.andon import AndonConfig
from entrenar_otel.recording.process.control import Command, control_path, send
from entrenar_otel.testing import Kit, open_run, recorded_run

PAUSE = """
[[monitor.threshold]]
name = "floor"
metric = "accuracy"
min = 0.8
action = "pause"
[monitor.andon]
pause_timeout_seconds = {timeout}
after_pause = "{after}"
"""
ACTIONS = (
    "SELECT attributes['action'] AS action FROM events WHERE name = 'training.action' ORDER BY timestamp"
)


def settings(timeout: float = 60.0, after: str = "stop") -> str:
    return PAUSE.format(timeout=timeout, after=after)


def fall(one: Kit) -> None:
    """The accuracy is below its floor, and the heartbeat has seen it."""
    one.monitor.log(accuracy=0.5, epoch=1, batch=2)
    one.tick()


def test_a_pause_that_is_taken_back_in_time(judged: Callable[..., Any]) -> None:
    """`pause`, then `resume` before the loop came to its next log: it does not pause."""
    with judged(settings()) as one:
        one.monitor.log(accuracy=0.9)
        record = one.run.record
        for command in (Command.PAUSE, Command.RESUME):
            send(record.live, record.process, command)
            one.tick()
        one.monitor.on("pause", lambda alert: pytest.fail("paused"))
        one.monitor.log(accuracy=0.9)
        assert recorded_run(one.monitor).alerts.pause().total_seconds == 0.0
        sql = "SELECT state FROM alerts WHERE source = 'control'"
        assert one.monitor.query(sql).column(0).to_pylist() == ["resolved"]


def test_a_resume_of_long_ago_is_none_of_this_pause(judged: Callable[..., Any], capfd: Any) -> None:
    """Given to a run that was not paused; the pause after it waits for somebody all the same."""
    with judged(settings(0.3, "resume")) as one:
        one.monitor.log(accuracy=0.9)
        tell(one, Command.RESUME)
        one.tick()
        fall(one)
        one.monitor.log(accuracy=0.9)
    assert "entrenar: no answer within 300 ms: resuming" in capfd.readouterr().err


def test_resumed_before_it_waits(judged: Callable[..., Any]) -> None:
    """The command came while a callback that heard of the alert was at work: it is not lost."""
    with judged(settings()) as one:
        record = one.run.record

        def answer(_alert: Any) -> None:
            send(record.live, record.process, Command.RESUME)
            one.tick()

        one.monitor.on("alert", answer)
        fall(one)
        one.monitor.log(accuracy=0.9)
        assert one.monitor.query(ACTIONS).column(0).to_pylist() == ["pause", "resume"]
        assert not list(Path(record.live).glob("*.paused"))


@contextmanager
def meanwhile(call: Callable[[], Any]) -> Iterator[None]:
    """Do it in another thread while the block goes on; what it raises fails the test."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # also what pytest raises
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()
    if problems:
        raise problems[0]


def tell(one: Kit, command: Command, reason: str = "") -> None:
    record = one.run.record
    send(record.live, record.process, command, reason)


def wait_for_pause(one: Kit) -> None:
    pipeline = one.run.pipeline
    assert pipeline is not None
    end = time.monotonic() + 20
    while not pipeline.andon.is_paused:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_pause_and_resume(judged: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The next log waits, the state says so, callbacks are called, and the log's sample is recorded."""
    heard: list[tuple[str, str]] = []
    states: list[float] = []
    with judged(settings()) as one:
        for occasion in ("alert", "pause", "resume"):
            one.monitor.on(occasion, lambda alert, name=occasion: heard.append((name, alert.name)))
        fall(one)

        def other() -> None:
            wait_for_pause(one)
            states.extend(point.value for point in one.points("training.run.state"))
            one.monitor.log(of_another_thread=1.0)
            assert one.monitor.sample_count("of_another_thread") == 1
            tell(one, Command.RESUME)

        with meanwhile(other):
            one.monitor.log(accuracy=0.9, batch=3)
        assert states == [2]
        assert [point.value for point in one.points("training.run.state")] == [1]
        assert heard == [("alert", "floor"), ("pause", "floor"), ("resume", "floor")]
        assert one.monitor.sample_count("accuracy") == 2
        assert one.monitor.query(ACTIONS).column(0).to_pylist() == ["pause", "resume"]
        said = capfd.readouterr().err.splitlines()
        lake = one.monitor.lake.url
        assert said == [
            "entrenar: paused: Accuracy regression detected: accuracy is 0.5, the limit is 0.8 "
            "at epoch 1, batch 2",
            f"entrenar: resume it with `entrenar-otel resume kit --lake {lake}`",
            "entrenar: without an answer it will stop in 1m",
            "entrenar: resumed",
        ]
        one.monitor.log(accuracy=0.5)  # the same episode does not pause again
        one.tick()
        one.monitor.log(accuracy=0.5)


@pytest.mark.parametrize("alerting", [None, AndonConfig(pause_timeout_seconds=0.3, after_pause="resume")])
def test_nobody_answers_and_it_goes_on(judged: Any, alerting: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """By the file, or by the program, which says otherwise than the file."""
    toml = settings(0.3, "resume") if alerting is None else settings(100)
    with judged(toml, alerting=alerting) as one:
        fall(one)
        one.monitor.log(accuracy=0.9)
        assert one.monitor.query(ACTIONS).column(0).to_pylist() == ["pause", "resume"]
    assert "entrenar: no answer within 300 ms: resuming" in capfd.readouterr().err


def test_nobody_answers_and_it_stops(judged: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """With an incident, and the callback before AndonStop."""
    heard: list[str] = []
    with judged(settings(0.3)) as one:
        one.monitor.on("stop", lambda alert: heard.append(alert.name))
        fall(one)
        with pytest.raises(
            AndonStop, match=r"accuracy is 0\.5, the limit is 0\.8 at epoch 1, batch 2"
        ) as caught:
            one.monitor.log(accuracy=0.9)
        assert heard == ["floor"]
        assert caught.value.incident
        one.monitor.log(accuracy=0.9)
    assert "entrenar: no answer within 300 ms: stopping" in capfd.readouterr().err


def test_stop_while_paused(judged: Any) -> None:
    """Who asked for it and why is in AndonStop."""
    with judged(settings()) as one:
        fall(one)

        def other() -> None:
            wait_for_pause(one)
            tell(one, Command.STOP, "wrong data")

        with meanwhile(other), pytest.raises(AndonStop, match=r"stop requested by .*: wrong data \(paused: "):
            one.monitor.log(accuracy=0.9)
        assert one.run.pipeline.andon.is_paused is False


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff\xfe", b"[" * 4000, b"x" * 9000, b'{"command": ["stop"]}', b'{"command": "x"}']
)
def test_garbage_while_paused_is_refused(
    judged: Any, data: bytes, caplog: pytest.LogCaptureFixture, lenient: Any
) -> None:
    """It is counted and said, the file is gone, and the pause goes on until it is answered."""
    with judged(settings()) as one:
        fall(one)
        lenient()

        def other() -> None:
            wait_for_pause(one)
            record = one.run.record
            path = control_path(record.live, record.process)
            path.write_bytes(data)
            end = time.monotonic() + 20
            while path.exists():
                assert time.monotonic() < end
                time.sleep(0.01)
            assert one.run.pipeline.andon.is_paused
            tell(one, Command.RESUME)

        with meanwhile(other):
            one.monitor.log(accuracy=0.9)
    assert "is not a command" in caplog.text


@pytest.mark.parametrize("where", ["body", "steps", "loader"])
def test_a_pause_is_no_part_of_a_step(tmp_path: Any, where: str) -> None:
    """Neither where the body logs, nor where only `steps()` itself does, nor in the loader."""
    toml = tmp_path / "renacer.toml"
    toml.write_text(settings(1.5, "resume"))
    with Monitor("paused", lake="lake", quiet=True, settings_file=toml, interval_seconds=1e5) as monitor:

        def fall(at: str) -> None:
            if at == where:
                monitor.log(accuracy=0.5)
                open_run(monitor).heartbeat.tick()
                if where != "steps":
                    monitor.log(accuracy=0.9)

        def loader() -> Iterator[int]:
            for index in range(6):
                if index == 3:
                    fall("loader")
                yield index

        for step in monitor.steps(loader()):
            if step == 2:
                fall("body")
                fall("steps")
        times = monitor.curve("step_duration")["value"].to_pylist()
        waits = monitor.curve("data_wait")["value"].to_pylist()
        assert len(times) == len(waits) == 6
        assert all(0 <= one < 1.2 for one in (*times, *waits)), (times, waits)
        assert recorded_run(monitor).alerts.pause().total_seconds >= 1.5


def test_the_clock_of_the_samples_measures_a_pause(judged: Any) -> None:
    """Under a clock that stands still it took no time, and no step has a negative one."""
    with judged(settings(0.3, "resume")) as one:
        for step in one.monitor.steps(range(4)):
            one.clock.advance(0.5)
            if step == 1:
                fall(one)
                one.monitor.log(accuracy=0.9)
        assert one.monitor.curve("step_duration")["value"].to_pylist() == [0.5] * 4


def test_close_from_another_thread_ends_the_pause(judged: Any, state_of: Any) -> None:
    """The loop is let go within seconds, and nothing says `running` after the end."""
    with judged(settings(), run_id="closed") as one:
        fall(one)

        def other() -> None:
            wait_for_pause(one)
            one.monitor.close("stopped", "by hand")

        with meanwhile(other):
            one.monitor.log(accuracy=0.9)
        assert one.run.metrics.state.name == "stopped"
    assert state_of("closed") == ("stopped", "by hand")


def test_close_in_the_callback_ends_the_pause(judged: Any) -> None:
    """`pause` may end the run."""
    with judged(settings()) as one:
        one.monitor.on("pause", lambda _alert: one.monitor.close("stopped"))
        fall(one)
        one.monitor.log(accuracy=0.9)
        assert one.monitor.is_closed


def test_a_callback_that_raises_leaves_no_pause_behind(judged: Any) -> None:
    """KeyboardInterrupt passes, the state is running again, and the next log does not wait."""

    def interrupt(_alert: Any) -> None:
        raise KeyboardInterrupt

    with judged(settings()) as one:
        one.monitor.on("pause", interrupt)
        fall(one)
        with pytest.raises(KeyboardInterrupt):
            one.monitor.log(accuracy=0.9)
        assert [point.value for point in one.points("training.run.state")] == [1]
        assert one.run.pipeline.andon.is_paused is False
        one.monitor.log(accuracy=0.9)


@pytest.mark.parametrize("agrees", [False, True])
def test_with_several_ranks_a_pause_is_a_stop(
    judged: Any, agrees: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """On its own rank at the next log; where all agree, only when all are asked."""
    asked: list[bool] = []

    def agree(mine: bool) -> bool:
        asked.append(mine)
        return mine

    heard: list[str] = []
    alerting = AndonConfig(agree=agree) if agrees else None
    with judged(settings(), rank=0, world_size=4, alerting=alerting) as one:
        one.monitor.on("stop", lambda _alert: heard.append("collective"))
        one.monitor.on("stop", lambda _alert: heard.append("local"), local=True)
        fall(one)
        if agrees:
            one.monitor.log(accuracy=0.9)
            with pytest.raises(AndonStop, match="This is rank 0 of 4"):
                one.monitor.raise_if_stopped()
            assert asked == [True]
            one.monitor.raise_if_stopped()
            assert asked == [True, False]
        else:
            with pytest.raises(AndonStop, match="This is rank 0 of 4"):
                one.monitor.log(accuracy=0.9)
        assert heard == (["collective", "local"] if agrees else ["local"])
    assert "a pause is a stop where there are 4 ranks" in caplog.text
