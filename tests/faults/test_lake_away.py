"""The lake is away, or hangs, in real processes: how they are killed, interrupted and ended meanwhile."""

from __future__ import annotations

import shutil
import signal
from typing import Any

import pytest

from entrenar_otel.lake import Lake

BREAK = """
    lake = os.environ["ENTRENAR_LAKE"]
    def break_lake():
        os.rename(lake, lake + ".away")
        open(lake, "w").close()
"""


def mend(place: Any) -> None:
    place.lake_path.unlink()
    place.lake_path.with_name("lake.away").rename(place.lake_path)


KILLED = (
    BREAK
    + """
    with Monitor("run", quiet=True) as first:
        first.log(loss=0.0, step=0)
    monitor = Monitor("run", quiet=True, config={"lr": 1})
    break_lake()
    for step in range(10):
        monitor.log(loss=1.0, step=step)
    recorded_run(monitor).recorder.roll()
    for step in range(10, 20):
        monitor.log(loss=1.0, step=step)
    say(monitor.attempt)
    os.kill(os.getpid(), signal.SIGKILL)
"""
)


def recovered(place: Any) -> None:
    """The second attempt is there once, whole, as crashed; the first is as it was."""
    sql = "SELECT attempt, count(*) n, count(DISTINCT step) steps FROM metrics GROUP BY 1 ORDER BY 1"
    assert place.lake.query(sql).to_pylist() == [
        {"attempt": 1, "n": 1, "steps": 1},
        {"attempt": 2, "n": 20, "steps": 20},
    ]
    records = place.lake.runs()
    assert [(one.attempt, one.state) for one in records] == [(1, "completed"), (2, "crashed")]
    assert records[1].config == '{"lr": 1}'
    assert list(place.live.iterdir()) == []


def test_killed_before_the_lake_has_answered(place: Any) -> None:
    """Recovery claims the attempt that the process could not."""
    child = place.make_child(KILLED)
    child.expect("None")
    child.end()
    mend(place)
    place.lake.recover(thorough=False)
    recovered(place)


def test_a_recovery_that_is_killed_claims_no_second_attempt(place: Any) -> None:
    """Killed at each of its steps and begun again: the process has one attempt."""
    child = place.make_child(KILLED)
    child.expect("None")
    child.end()
    mend(place)
    restore = place.keep()
    script = """
        die_at_step(int(os.environ["STEP"]), os.environ["ENTRENAR_LAKE"], os.environ["ENTRENAR_LIVE"])
        Lake(os.environ["ENTRENAR_LAKE"]).recover(thorough=False)
    """
    for step in range(1, 100):
        code = place.make_child(script, STEP=str(step)).end().returncode
        place.lake.recover(thorough=False)
        recovered(place)
        if code == 0:
            break
        restore()
    assert step > 5


def test_a_lake_removed_under_a_run_that_is_killed(place: Any) -> None:
    """Before it could say so: the rows that come by recovery have a run, with all that its record said."""
    child = place.make_child("""
        import shutil
        monitor = Monitor("run", quiet=True, config={"lr": 1}, interval_seconds=1e5).start()
        say(monitor.attempt)
        monitor.log(loss=1.0)
        shutil.rmtree(os.environ["ENTRENAR_LAKE"])
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    child.expect("1")
    child.end()
    place.lake.recover(thorough=False)
    (record,) = place.lake.runs()
    assert (record.attempt, record.state, record.config) == (1, "crashed", '{"lr": 1}')
    assert place.count() == 1
    assert list(place.live.iterdir()) == []


def test_a_lake_removed_after_its_runs_stays_empty(place: Any) -> None:
    """A lock that a process without samples has left brings no run back."""
    child = place.make_child("""
        import shutil
        monitor = Monitor("run", quiet=True, interval_seconds=1e5).start()
        say(monitor.attempt)
        monitor.log(loss=1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    child.expect("1")
    child.end()
    (segment,) = place.live.glob("*.seg")
    segment.unlink()
    shutil.rmtree(place.lake_path)
    place.lake.recover(thorough=False)
    assert place.lake.runs() == []
    assert list(place.live.iterdir()) == []


def test_a_second_interrupt_during_close(place: Any) -> None:
    """The process ends, and the run ends as it was to end: the first interrupt had stopped it."""
    child = place.make_child("""
        from entrenar_otel.lake.store.storage import LocalStorage
        write = LocalStorage.write
        def hang(*arguments, **options):
            if hangs:
                say("hangs")
                time.sleep(1000)
            return write(*arguments, **options)
        LocalStorage.write = hang
        hangs = False
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with Monitor("run", quiet=True) as monitor:
            monitor.log(loss=1.0)
            hangs = True
            say("ready")
            time.sleep(1000)
    """)
    child.expect("ready")
    child.kill(signal.SIGINT)
    child.expect("hangs")
    child.kill(signal.SIGINT)
    done = child.end()
    assert done.returncode == -signal.SIGINT
    place.lake.recover(thorough=False)
    assert place.states() == {"run": ["stopped"]}
    assert place.lake.runs()[0].reason == "KeyboardInterrupt"
    assert place.count() == 1


# -- an object store that falls silent ----------------------------------------------------------


LOOP = """
    monitor = Monitor("run", quiet=True, interval_seconds=0.05).start()
    monitor.log(loss=0.0, step=0)
    say(monitor.attempt)
    sys.stdin.readline()
    for step in range(1, 101):
        monitor.log(loss=1.0, step=step)
        if step == 50:
            recorded_run(monitor).recorder.roll()
    say(recorded_run(monitor).recorder.dropped)
    monitor.close()
    say("closed")
"""


@pytest.mark.parametrize("silent", ["at the start", "in between"])
def test_a_silent_object_store(place: Any, relayed: Any, silent: str) -> None:
    """The run is recorded, and the process ends by itself; when the store answers, all of it arrives."""
    relay, url = relayed
    relay.silent = silent == "at the start"
    child = place.make_child(LOOP, ENTRENAR_LAKE=url)
    child.expect("None" if relay.silent else "1")
    relay.silent = True
    child.process.stdin.write("\n")
    child.process.stdin.flush()
    child.expect("0")
    child.expect("closed")
    done = child.end(300.0)
    assert done.returncode == 0
    assert done.stderr.count("and how it ended, stay in") == 1
    relay.silent = False
    lake = Lake(url, place.live)
    lake.recover(thorough=False)
    assert lake.query("SELECT count(*) n, count(DISTINCT step) s FROM metrics").to_pylist() == [
        {"n": 101, "s": 101}
    ]
    assert [(one.attempt, one.state) for one in lake.runs()] == [(1, "completed")]
