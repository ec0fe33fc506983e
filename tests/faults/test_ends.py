"""How runs end: SIGTERM, exit, exceptions, hanging emitters, clocks that jump."""

from __future__ import annotations

import signal
import time
from datetime import timedelta
from typing import Any

import pytest

LOOP = """
    monitor = Monitor("run", quiet=True, interval_seconds=60)
    with monitor:
        for i in range(100_000_000):
            monitor.log(loss=float(i), step=i)
            if i == 5000:
                say("ready")
            if i > 5000:
                time.sleep(0.001)
"""


def steps(place: Any) -> Any:
    """How many steps are there; all of them without a hole."""
    table = place.lake.query("SELECT step, value FROM metrics ORDER BY seq").to_pydict()
    assert table["step"] == list(range(len(table["step"])))
    assert table["value"] == [float(i) for i in table["step"]]
    return len(table["step"])


# -- SIGTERM ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["with", "start"])
def test_sigterm_flushes_and_the_process_dies_of_it(place: Any, form: Any) -> None:
    script = LOOP if form == "with" else LOOP.replace("with monitor:", "monitor.start()\n    if True:")
    child = place.make_child(script)
    child.expect("ready")
    before = steps(place)
    child.kill(signal.SIGTERM)
    done = child.end()
    assert done.returncode == -signal.SIGTERM
    assert done.said == ""
    assert steps(place) >= before
    assert not list(place.live.iterdir())
    assert place.lake.query("SELECT state, reason FROM runs").to_pylist() == [
        {"state": "stopped", "reason": "SIGTERM"}
    ]


def test_sigterm_while_other_handlers_raise(place: Any) -> None:
    """A time limit that fires while the run is being closed does not make the process live on."""
    script = """
        class Late(Exception):
            pass
        def late(*_):
            raise Late
        monitor = Monitor("run", quiet=True, interval_seconds=60).start()
        signal.signal(signal.SIGALRM, late)
        monitor.log(loss=1.0)
        said = False
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while True:
            try:
                if not said:
                    say("ready")
                    said = True
                time.sleep(0.01)
                monitor.log(loss=1.0)
            except Late:
                pass
    """
    child = place.make_child(script)
    child.expect("ready")
    child.kill(signal.SIGTERM)
    assert child.end().returncode == -signal.SIGTERM


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_users_own_sigterm_handler_is_respected(place: Any, when: Any) -> None:
    """It runs, and it alone decides; the run ends as the program does."""
    handler = """
        def stop(*_):
            say("mine")
            sys.exit(0)
    """
    setting = "\n    signal.signal(signal.SIGTERM, stop)\n"
    begin = "\n    monitor = Monitor('run', quiet=True).start()\n"
    order = setting + begin if when == "before" else begin + setting
    loop = """
        i = 0
        while True:
            monitor.log(loss=float(i), step=i)
            i += 1
            if i == 100:
                say("ready")
            time.sleep(0.001)
    """
    from textwrap import dedent

    child = place.make_child("".join(dedent(part) for part in (handler, order, loop)))
    child.expect("ready")
    child.kill(signal.SIGTERM)
    done = child.end()
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr
    assert steps(place) >= 100
    assert place.states() == {"run": ["completed"]}


def test_an_ignored_sigterm_stays_ignored(place: Any) -> None:
    child = place.make_child("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + LOOP.replace("\n    ", "\n"))
    child.expect("ready")
    child.kill(signal.SIGTERM)
    time.sleep(0.5)
    assert child.process.poll() is None
    assert place.states() == {"run": ["running"]}


def test_sigterm_is_the_users_again_after_the_run(place: Any) -> None:
    done = place.run("""
        with Monitor("run", quiet=True) as monitor:
            monitor.log(loss=1.0)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    """)
    assert done.said == ""


def test_sigterm_while_an_emitter_hangs(place: Any) -> None:
    """Everything is in the lake or in the segment, and the process is gone within 5 s."""
    child = place.make_child("""
        class Hangs:
            def emit_batch(self, records): say("hangs"); time.sleep(1000)
            def emit(self, record): pass
            def flush(self): time.sleep(1000)
        monitor = Monitor("run", quiet=True, interval_seconds=0.05, emitters=[Hangs()]).start()
        for i in range(1000):
            monitor.log(loss=float(i), step=i)
        time.sleep(60)
    """)
    child.expect("hangs")
    place.wait_until(lambda: steps(place) == 1000)
    child.kill(signal.SIGTERM)
    assert child.end().returncode == -signal.SIGTERM
    assert steps(place) == 1000
    place.lake.recover()
    assert steps(place) == 1000


# -- exit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hangs", ["emit_batch", "flush"])
@pytest.mark.parametrize("interval", ["0.02", "60"])
def test_exit_is_bounded_where_an_emitter_hangs(place: Any, hangs: Any, interval: Any) -> None:
    child = place.make_child(f"""
        class Hangs:
            def emit_batch(self, records): pass
            def emit(self, record): pass
            def flush(self): pass
        setattr(Hangs, "{hangs}", lambda self, *_: time.sleep(1000))
        monitor = Monitor("run", quiet=True, interval_seconds={interval}, emitters=[Hangs()])
        with monitor:
            for i in range(1000):
                monitor.log(loss=float(i), step=i)
            time.sleep(0.2)
        say("closed")
    """)
    done = child.end()
    assert (done.returncode, done.stdout) == (0, "closed\n"), done.stderr
    assert "did not finish in time" in done.stderr
    assert steps(place) == 1000
    assert place.states() == {"run": ["completed"]}
    assert not list(place.live.iterdir())


UNCLOSED = """
    monitor = Monitor("run", quiet=True, interval_seconds=60)
    for i in range(20_000):
        monitor.log(loss=float(i), step=i)
"""


@pytest.mark.parametrize(
    ("ending", "state", "code"),
    [
        ("pass", "completed", 0),
        ("sys.exit(0)", "completed", 0),
        ("raise ValueError('shapes')", "crashed", 1),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(5)", "stopped", 1),
        ("threading.Thread(target=lambda: time.sleep(0.5)).start()", "completed", 0),
        ("del monitor", "completed", 0),
    ],
)
def test_an_unclosed_monitor_loses_nothing_at_exit(place: Any, ending: Any, state: Any, code: Any) -> None:
    child = place.make_child(UNCLOSED + f"    {ending}\n")
    done = child.end()
    assert bool(done.returncode) == code, done.stderr
    assert steps(place) == 20_000
    assert place.states() == {"run": [state]}
    assert not list(place.live.iterdir())
    if "ValueError" in ending:
        assert place.value("SELECT reason FROM runs") == "ValueError: shapes"


def test_what_an_unclosed_short_run_began_is_done_at_exit(place: Any) -> None:
    """From Python 3.12 on no thread starts at exit: a page is closed and an incident is written without."""
    script = """
        monitor = Monitor("run", quiet=True, interval_seconds=60)  # the spike is found at the end
        for i in range(100):
            monitor.log(loss=1.0 if i < 60 else 50.0, step=i)
    """
    page = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    done = place.make_child(script, **page).end()
    assert (done.returncode, done.said) == (0, "")
    assert place.states() == {"run": ["completed"]}
    windows = list(place.lake_path.glob("incidents/day=*/run=run/*-spike-*/window.parquet"))
    assert len(windows) == 1


@pytest.mark.parametrize(
    ("ending", "state"),
    [
        ("raise ValueError('shapes')", "crashed"),
        ("monitor.log(loss=float('nan'), step=20_000)", "stopped"),
        ("raise KeyboardInterrupt", "stopped"),
        ("sys.exit(3)", "crashed"),
        ("sys.exit()", "completed"),
    ],
)
def test_how_a_with_block_is_left(place: Any, ending: Any, state: Any) -> None:
    script = UNCLOSED.replace("for i", "with monitor:\n      for i").replace("monitor.log", "  monitor.log")
    place.make_child(script + f"      {ending}\n").end()
    assert place.count() == 20_000 + ("nan" in ending)
    assert place.states() == {"run": [state]}


def test_os_exit_and_a_fatal_signal_lose_nothing(place: Any) -> None:
    """No exit hook runs: the segment has it all, and recovery brings it in."""
    for run_id, ending in (
        ("os", "os._exit(3)"),
        ("abort", "os.abort()"),
        ("segv", "os.kill(os.getpid(), 11)"),
    ):
        place.make_child(UNCLOSED.replace('"run"', f'"{run_id}"') + f"    {ending}\n").end()
        assert place.count(run_id) == 20_000
    assert place.states() == {"os": ["crashed"], "abort": ["crashed"], "segv": ["crashed"]}
    place.lake.recover()
    assert [place.count(run_id) for run_id in ("os", "abort", "segv")] == [20_000] * 3
    assert place.states() == {"os": ["crashed"], "abort": ["crashed"], "segv": ["crashed"]}


# -- clocks -----------------------------------------------------------------------------------


def test_a_clock_set_back_an_hour_keeps_the_order(place: Any) -> None:
    place.run("""
        small_segments(64 << 10)
        real, back = time.time_ns, 0
        time.time_ns = lambda: real() - back
        with Monitor("run", quiet=True, interval_seconds=0.05) as monitor:
            for i in range(6000):
                if i == 3000:
                    back = 3_600_000_000_000
                monitor.log(loss=float(i), step=i)
                if i % 500 == 0:
                    time.sleep(0.02)
            monitor.query("SELECT count(*) FROM metrics")
    """)
    assert steps(place) == 6000
    table = place.lake.query("SELECT timestamp, seq FROM metrics ORDER BY timestamp, seq").to_pydict()
    assert table["seq"] == list(range(6000))
    assert (table["timestamp"][-1] - table["timestamp"][0]).total_seconds() < 60
    after = table["timestamp"][-1] + timedelta(microseconds=1)  # several may lie in the last one
    assert len(place.lake.range(table["timestamp"][0], after)) == 6000


# -- exit while other threads are busy ---------------------------------------------------------


BUSY = {
    "queries": """
        def busy():
            while True:
                try:
                    monitor.query("SELECT sum(value), avg(a.range) FROM metrics, range(200000) a")
                except Exception:
                    time.sleep(0.01)
    """,
    "hand-overs": """
        import numpy, pyarrow
        table = pyarrow.table({"a": numpy.zeros(50_000)})
        def busy():
            name = f"x/{threading.get_ident()}.parquet"
            while True:
                monitor.lake.storage.write(name, table.schema, table.to_batches())
    """,
}


@pytest.mark.parametrize("what", BUSY)
def test_threads_within_a_library_do_not_abort_the_process(place: Any, what: str) -> None:
    """DuckDB's and Arrow's C++ did, about every other time, where Python ended a thread within it."""
    script = f"""
        import entrenar_otel
        monitor = Monitor("run", quiet=True).start()
        for i in range(2000):
            monitor.log(loss=1.0, step=i)
        {BUSY[what].strip()}
        for _ in range(4):
            threading.Thread(target=busy, daemon=True).start()
        time.sleep(0.5)
    """
    for _ in range(3):
        done = place.make_child(script).end()
        assert (done.returncode, done.said) == (0, "")


def test_reading_and_merging_start_no_threads_of_arrow(place: Any) -> None:
    """A process that ended just after they had begun was aborted by them, one time in a hundred."""
    killed = place.make_child("""
        monitor = Monitor("run", quiet=True, interval_seconds=1e5)
        for number in range(3):
            monitor.log(loss=1.0)
            recorded_run(monitor).recorder.roll()
            open_run(monitor).heartbeat.tick()
        monitor.log(loss=1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed.end()
    child = place.make_child("""
        import glob
        def threads():
            return len(os.listdir("/proc/self/task"))
        before = threads()
        lake = Lake(os.environ["ENTRENAR_LAKE"])
        lake.recover()
        say(len(lake.runs()))
        files = glob.glob(lake.url + "/metrics/**/*.parquet", recursive=True)
        say(len(files))
        say(threads() - before)
        pyarrow.parquet.read_table(files[0])
        say(threads() > before)
    """)
    for word in ("1", "1", "0", "True"):
        child.expect(word)
    assert child.end().returncode == 0
