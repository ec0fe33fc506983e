"""Forked and spawned workers: one run, one series; ranks of their own record; no lock outlives its owner."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

WORKERS = """
    def work(monitor, results):
        # inherited or unpickled, and constructed anew, by hand and by itself
        monitor.log(loss=-1.0)
        fast = monitor.bind("loss")
        fast(-2.0)
        with Monitor("run", quiet=True) as anew:
            anew.log(loss=-3.0)
        auto = Monitor.auto(quiet=True)
        auto.log(loss=-4.0)
        for _ in auto.steps([1, 2]):
            pass
        results.put((monitor.enabled, anew.enabled, auto.enabled))

    def main():
        context = mp.get_context("{method}")
        with Monitor("run", quiet=True) as monitor:
            results = context.Queue()
            for i in range(100):
                monitor.log(loss=float(i), step=i)
            children = [context.Process(target=work, args=(monitor, results)) for _ in range(3)]
            for child in children:
                child.start()
            for i in range(100, 200):
                monitor.log(loss=float(i), step=i)
            print(json.dumps([results.get(timeout=30) for _ in children]), flush=True)
            for child in children:
                child.join()
                assert child.exitcode == 0
            for i in range(200, 300):
                monitor.log(loss=float(i), step=i)

    if __name__ == "__main__":
        main()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_that_log_are_one_run_and_one_series(place: Any, method: Any) -> None:
    done = place.run_file(WORKERS.replace("{method}", method))
    assert json.loads(done.stdout) == [[False, False, False]] * 3
    table = place.lake.query("SELECT step, metric, value, attempt FROM metrics ORDER BY seq").to_pydict()
    assert table["step"] == list(range(300))
    assert table["value"] == [float(i) for i in range(300)]
    assert set(table["metric"]) == {"loss"}
    assert set(table["attempt"]) == {1}
    assert place.states() == {"run": ["completed"]}
    assert not list(place.live.iterdir())


def test_bound_and_log_taken_before_the_fork_record_nothing_in_the_child(place: Any) -> None:
    place.run("""
        with Monitor("run", quiet=True, interval_seconds=0.01) as monitor:
            log, fast = monitor.log, monitor.bind("loss", "accuracy")
            log(loss=0.0)
            fast(1.0, 1.0)
            pid = os.fork()
            if not pid:
                for i in range(10_000):
                    log(loss=-1.0)
                    fast(-1.0, -1.0)
                    log(other=-1.0)
                    log({"x": -1.0}, tags={"a": "b"})
                sys.exit(0)  # exit hooks run: nothing of the parent's may be ended by them
            assert os.waitpid(pid, 0)[1] == 0
            log(loss=2.0)
    """)
    assert place.lake.query("SELECT value FROM metrics ORDER BY seq").column(0).to_pylist() == [
        0.0,
        1.0,
        1.0,
        2.0,
    ]
    assert place.states() == {"run": ["completed"]}


@pytest.mark.parametrize("when", ["any time", "while an emitter has samples", "while segments roll"])
def test_a_killed_parents_lock_is_free_though_a_worker_lives_on(place: Any, when: Any) -> None:
    place.make_child(
        {
            "any time": "emit, segment = 0, 0",
            "while an emitter has samples": "emit, segment = 1, 0",
            "while segments roll": "emit, segment = 0, 64 << 10",
        }[when]
        + """
class Slow:
    def emit(self, record): pass
    def flush(self): pass
    def emit_batch(self, records):
        emitting.set()
        time.sleep(1)
emitting = threading.Event()
if segment:
    small_segments(segment)
monitor = Monitor("run", quiet=True, interval_seconds=0.01, emitters=[Slow()] if emit else [])
monitor.start()
for i in range(2000):
    monitor.log(loss=float(i), step=i)
if emit:
    emitting.wait()
logged = 2000
for _ in range(10 if segment else 1):
    for i in range(1000):
        monitor.log(loss=float(logged), step=logged)
        logged += 1
    if not os.fork():
        while True:
            monitor.log(loss=-1.0)
            time.sleep(0.01)
print(logged, flush=True)
time.sleep(60)
"""
    )
    (child,) = place.children
    logged = int(child.hear())
    assert place.states() == {"run": ["running"]}
    os.kill(child.pid, signal.SIGKILL)  # its workers live on
    os.waitpid(child.pid, 0)
    child.process.returncode = -9
    assert place.count() == logged
    assert place.states() == {"run": ["crashed"]}
    found = place.lake.recover()
    assert sum(one.rows for one in found) <= logged
    assert place.count() == logged
    assert not list(place.live.iterdir())
    os.killpg(child.pid, signal.SIGKILL)
    assert place.states() == {"run": ["crashed"]}


def test_children_forked_while_a_run_begins_keep_nothing_of_it(place: Any) -> None:
    """Another thread forks all the while: no copy of a lock, or of half a run, outlives its owner."""
    child = place.make_child(
        """
warnings.simplefilter("ignore")
is_begun = threading.Event()
def fork_on():
    for _ in range(60):
        if not os.fork():
            time.sleep(600)
            os._exit(0)
        time.sleep(0.001)
        if is_begun.is_set():
            return
forks = threading.Thread(target=fork_on)
forks.start()
monitor = Monitor("run", quiet=True).start()
monitor.log(loss=1.0, step=0)
is_begun.set()
forks.join()
say("begun")
time.sleep(600)
"""
    )
    child.expect("begun")
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    child.process.returncode = -9
    assert place.states() == {"run": ["crashed"]}
    place.lake.recover()
    assert place.count() == 1
    assert not list(place.live.iterdir())
    os.killpg(child.pid, signal.SIGKILL)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("made", ["anew", "inherited", "bound"])
def test_a_worker_says_once_that_it_records_nothing(place: Any, method: Any, made: Any) -> None:
    """A run that vanishes without a word would be looked for in vain."""
    done = place.run_file(
        """
        import logging

        def work(monitor, made):
            logging.basicConfig()
            if made == "anew":
                monitor = Monitor(quiet=True)
                Monitor(quiet=True).log(loss=1.0)
            log = monitor.bind("loss") if made == "bound" else lambda value: monitor.log(loss=value)
            for _ in range(3):
                log(1.0)

        if __name__ == "__main__":
            with Monitor("run", quiet=True) as monitor:
                monitor.log(loss=1.0)
                child = mp.get_context("METHOD").Process(target=work, args=(monitor, "MADE"))
                child.start()
                child.join()
                assert child.exitcode == 0
                print(os.getpid())
        """.replace("METHOD", method).replace("MADE", made),
    )
    (line,) = [line for line in done.stderr.splitlines() if "entrenar_otel" in line]
    assert f"worker of process {done.stdout.strip()}, which records run run" in line
    assert place.count() == 1
