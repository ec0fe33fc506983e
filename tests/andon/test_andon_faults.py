"""What goes wrong around the cord: detectors that raise, floods, lakes that refuse or hang, forks."""

from __future__ import annotations

import errno
import logging
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, errors
from entrenar_otel.andon import andon, incidents, stop_message
from entrenar_otel.andon.reporter import MAX_EVENTS
from entrenar_otel.lake import Lake
from entrenar_otel.lake.incident import Facts
from entrenar_otel.testing import Kit, recorded_run

NAN = math.nan


def lost(one: Kit) -> dict[tuple[Any, Any], float]:
    """What was dropped or cut, as exporters see it."""
    return {tuple(p.attributes.values()): p.value for p in one.points("entrenar.losses") if p.value}


HOT = '[[monitor.threshold]]\nname = "hot"\nmetric = "heat"\nmax = 10.0\naction = "stop"\n'


class Broken:
    """A detector that fails at every update."""

    metrics = frozenset({"loss"})

    def update(self, _samples: Any) -> list[Any]:
        raise ZeroDivisionError("of a detector")

    def reset(self) -> None:
        pass


def test_a_detector_that_raises(judged: Any, lenient: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is named and counted, and out; the others go on, and so does what they ask for."""
    with judged(HOT, processors=[Broken()]) as one:
        lenient()
        one.monitor.log(heat=1.0)
        one.tick()
        one.monitor.log(heat=11.0)
        one.tick()
        assert errors.failures["detector Broken"] == 1
        with pytest.raises(AndonStop, match="hot crossed"):
            one.monitor.log(heat=1.0)
    assert "monitoring failed in detector Broken (ZeroDivisionError: of a detector)" in caplog.text


def test_ten_thousand_findings_in_one_tick(judged: Any) -> None:
    """One alert an episode, few events, and a tick that stays short."""
    told: list[str] = []
    with judged() as one:
        one.monitor.on("alert", lambda alert: told.append(alert.name))
        for step in range(10_000):
            one.monitor.log(loss=1.0, other=NAN if step % 2 else 1.0, step=step)
        one.tick()
        one.monitor.log(loss=1.0)
        assert told == ["nonfinite_other"]
        (alert,) = one.monitor.alerts
        assert alert.count == 5000
        events = one.monitor.query("SELECT name, attributes['more'] AS more FROM events").to_pylist()
        findings = [event for event in events if event["name"] == "training.finding"]
        assert len(findings) <= MAX_EVENTS + 1
        assert int(findings[-1]["more"]) > 9_900
        assert lost(one) == {("findings", "events"): int(findings[-1]["more"])}
        assert sum(event["name"] == "training.alert" for event in events) == 1


def test_two_thousand_series_at_once(judged: Any) -> None:
    """All layers of a network: a bounded number of alerts, and the rest in one of them."""
    with judged() as one:
        for layer in range(2000):
            one.monitor.log({f"layer.{layer}": NAN})
        one.tick()
        assert len(one.monitor.alerts) <= 51
        assert sum(alert.count for alert in one.monitor.alerts) == 2000
        assert len(list(Path("lake/incidents").glob("*/*/*"))) <= 20
        assert lost(one)["findings", "shared alert"] == 1950


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_lake_that_refuses(
    judged: Any,
    lenient: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_kept: bool,
) -> None:
    """The stop comes, says why, and names the incident that will be there, or none where nothing took it."""

    def cannot(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if not is_kept:
        monkeypatch.setattr(Facts, "keep", cannot)
    with judged() as one:
        one.monitor.log(loss=1.0)
        storage = one.monitor.lake.storage
        lenient()

        def refuse(*_args: Any) -> None:
            raise PermissionError("read-only file system")

        write, storage.write_bytes = storage.write_bytes, refuse
        with pytest.raises(AndonStop, match="loss is nan") as caught:
            one.monitor.log(loss=NAN)
        incident, notes = caught.value.incident, getattr(caught.value, "__notes__", [])
        if is_kept:
            assert notes == [f"Everything that was known then will be, once the lake answers, in {incident}"]
        else:
            assert (incident, notes) == (None, [])
        one.monitor.close()
        assert one.run.losses.text() == ("" if is_kept else "1 incident (alert pipeline)")
        assert len(list(one.monitor.lake.live.glob("*.incident"))) == is_kept
        storage.write_bytes = write
    assert "monitoring failed in incident (PermissionError: read-only file system)" in caplog.text


def test_a_lake_that_refuses_for_a_while(judged: Any, lenient: Any) -> None:
    """The incident is written when its window is complete, and nothing is missing."""
    with judged("[monitor.andon]\nincident_after_seconds = 5.0\n") as one:
        one.monitor.log(loss=1.0)
        storage = one.monitor.lake.storage
        lenient()

        def refuse(*_args: Any) -> None:
            raise PermissionError("read-only file system")

        write, storage.write_bytes = storage.write_bytes, refuse
        with pytest.raises(AndonStop):
            one.monitor.log(loss=NAN)
        storage.write_bytes = write
        one.advance(6)
        assert one.run.pipeline.incidents.worker.flush(20)
        assert lost(one) == {}
    (folder,) = Path("lake/incidents").glob("*/*/*")
    assert {path.name for path in folder.iterdir()} >= {"alert.json", "window.parquet"}


def test_alerts_for_a_loop_that_does_not_log(judged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mildest go, then those that no log came to carry out: counted, and said at the end."""
    monkeypatch.setattr(andon, "_MAX_PENDING", 2)
    toml = """
        [[monitor.threshold]]
        name = "mild"
        metric = "mild"
        max = 1
        [[monitor.threshold]]
        name = "wild"
        metric = "wild"
        max = 1
        action = "pause"
    """
    told: list[str] = []
    with judged(toml) as one:
        one.monitor.on("alert", lambda alert: told.append(alert.name))
        one.monitor.log({"mild": 2.0, "wild": 2.0})
        one.monitor.log({"mild": 2.0, "wild": 2.0}, tags={"layer": 1})
        one.tick()
        assert lost(one) == {("alerts", "loop"): 2}
        one.monitor.close()
        assert one.run.losses.text() == "4 alerts (loop)"
    assert told == []


@pytest.mark.parametrize("what", ["write_bytes", "query"])
def test_a_lake_that_hangs(judged: Any, what: str, monkeypatch: Any, lenient: Any) -> None:
    """The stop comes within its bound."""
    monkeypatch.setattr(incidents, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(incidents, "STOP_SECONDS", 0.5)
    monkeypatch.setattr(stop_message, "LOOK_BACK_SECONDS", 0.5)
    go = threading.Event()
    with judged() as one:
        one.monitor.log(loss=1.0)
        lenient()
        lake = one.monitor.lake
        target = lake.storage if what == "write_bytes" else lake
        was = getattr(target, what)

        def hang(*args: Any, **options: Any) -> Any:
            go.wait()
            return was(*args, **options)

        monkeypatch.setattr(target, what, hang)
        try:
            with pytest.raises(
                AndonStop, match=r"loss is nan at an unknown step\..* The sample is recorded"
            ) as caught:
                one.monitor.log(loss=NAN)
        finally:
            go.set()
    folder = Path(str(caught.value.incident))
    assert (folder / "window.parquet").exists()


def test_a_disk_that_does_not_sync(judged: Any, lenient: Any, monkeypatch: Any) -> None:
    """What fails on the way to a stop does not take its place."""
    with judged() as one:
        one.monitor.log(loss=1.0)
        lenient()
        recorder = recorded_run(one.monitor).recorder

        def fail() -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(recorder, "sync", fail)
        with pytest.raises(AndonStop):
            one.monitor.log(loss=NAN)
        monkeypatch.undo()
        assert errors.failures["sync"] == 1


def test_our_own_failure_in_the_cord_does_not_reach_the_loop(
    judged: Any, lenient: Any, monkeypatch: Any, capsys: Any
) -> None:
    """An event that cannot be noted: a pause still pauses, the loop goes on, a stop still stops."""
    andon = '[monitor.andon]\npause_timeout_seconds = 0.2\nafter_pause = "resume"\n'
    toml = HOT.replace('"stop"', '"pause"') + andon
    with judged(toml) as one:
        one.monitor.log(heat=11.0)
        one.tick()
        lenient()

        def fail(*_args: Any, **_more: Any) -> None:
            raise RuntimeError("no events")

        monkeypatch.setattr(one.run.pipeline.context, "record_action", fail)
        one.monitor.log(heat=1.0)
        with pytest.raises(AndonStop):
            one.monitor.log(loss=NAN)
        assert (errors.failures["pause"], errors.failures["andon"]) == (1, 1)
        assert "no answer within 200 ms: resuming" in capsys.readouterr().err
        assert not one.run.pipeline.andon.is_paused


def test_fork_while_held(train: Any) -> None:
    """The child is the no-op twin: nothing holds it; the parent is stopped all the same."""
    Path("renacer.toml").write_text(HOT)
    run = train("""
        settings = dict(quiet=True, interval_seconds=1e5, settings_file="renacer.toml")
        monitor = Monitor("forked", lake="lake", **settings)
        bound = monitor.bind("loss")
        monitor.log(heat=11.0)
        open_run(monitor).heartbeat.tick()
        if (child := os.fork()) == 0:
            monitor.log(heat=1.0)
            bound(1.0)
            monitor.log(loss=float("nan"))
            monitor.raise_if_stopped()
            os.write(1, b"child goes on\\n")
            os._exit(0)
        print(os.waitpid(child, 0)[1], flush=True)
        try:
            monitor.log(heat=1.0)
        except AndonStop:
            print("parent stops", flush=True)
    """)
    run.expect("child goes on")
    run.expect("0")
    run.expect("parent stops")
    assert run.end()[0] == 0
    rows = Lake("lake").query("SELECT metric, value FROM metrics WHERE metric <> 'loss' ORDER BY seq")
    assert rows.column("value").to_pylist() == [11.0, 1.0]


def test_fork_in_a_callback(train: Any) -> None:
    """A callback that starts a process (to upload a checkpoint, say) forks with the cord pulled."""
    run = train("""
        import multiprocessing
        monitor = Monitor("forked", lake="lake", quiet=True, settings_file=None)
        def upload():
            monitor.log(loss=float("nan"))
            os.write(1, b"uploaded\\n")
        def save(alert):
            process = multiprocessing.get_context("fork").Process(target=upload)
            process.start()
            process.join(20)
            print(process.exitcode, flush=True)
        monitor.on("stop", save)
        try:
            monitor.log(loss=float("nan"))
        except AndonStop:
            print("stopped", flush=True)
    """)
    for word in ("uploaded", "0", "stopped"):
        run.expect(word)
    assert run.end()[0] == 0


def test_many_threads_while_it_stops(judged: Any) -> None:
    """Each of their NaNs raises in its own thread; it is one episode, and nothing is lost."""
    caught: list[int] = []
    heard: list[Any] = []
    with judged() as one:
        one.monitor.on("stop", heard.append)
        one.monitor.log(loss=1.0)
        start = threading.Barrier(4)

        def loop(number: int) -> None:
            start.wait()
            for step in range(20):
                try:
                    one.monitor.log(loss=NAN if step % 5 == 4 else 1.0, step=step)
                except AndonStop:
                    caught.append(number)

        threads = [threading.Thread(target=loop, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert len(caught) >= 4
        assert len(heard) == 1
        assert one.monitor.sample_count("loss") == 81


def test_the_cord_is_quiet_after_the_end(judged: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged after the end is dropped: also a NaN, which stops nothing."""
    with judged() as one:
        one.monitor.log(loss=1.0)
        one.monitor.close()
        with caplog.at_level(logging.WARNING):
            one.monitor.log(loss=NAN)
        one.monitor.raise_if_stopped()
    assert os.path.isdir("lake")
