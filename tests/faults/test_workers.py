"""Forked and spawned workers: one run, one series; ranks of their own record; no lock outlives its owner."""

from __future__ import annotations

import json
import os
import signal
import textwrap
from typing import Any

import pytest


def module(place: Any, body: Any, name: Any = "job") -> None:
    """A script as a file, which spawned children can import."""
    path = place.root / f"{name}.py"
    head = "import json, multiprocessing as mp, os, sys, threading\nfrom entrenar_otel import Monitor\n"
    path.write_text(head + textwrap.dedent(body))


def run_file(place: Any, body: Any, **environment: Any) -> Any:
    """Run it as a program, as a user would."""
    module(place, body)
    script = f"""
        import subprocess
        sys.exit(subprocess.run([sys.executable, {str(place.root / "job.py")!r}]).returncode)
    """
    return place.run(script, **environment)


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
    done = run_file(place, WORKERS.replace("{method}", method))
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


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_with_a_rank_of_their_own_record(place: Any, method: Any) -> None:
    """As torch.multiprocessing.spawn: the parent trains rank 0 itself, or only starts the others."""
    run_file(
        place,
        """
        def train(rank):
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": "4"}
            with Monitor("run", quiet=True) as monitor:
                assert monitor.enabled
                for i in range(100):
                    monitor.log(loss=i + rank / 4, step=i)

        def main():
            context = mp.get_context("METHOD")
            os.environ |= {"RANK": "0", "WORLD_SIZE": "4"}
            with Monitor("run", quiet=True) as monitor:
                children = [context.Process(target=train, args=(rank,)) for rank in (1, 2, 3)]
                for child in children:
                    child.start()
                for i in range(100):
                    monitor.log(loss=float(i), step=i)
                for child in children:
                    child.join()
                    assert child.exitcode == 0

        if __name__ == "__main__":
            main()
        """.replace("METHOD", method),
    )
    rows = place.lake.query(
        "SELECT rank, count(*) AS n, sum(value) AS total FROM metrics GROUP BY 1 ORDER BY 1"
    )
    assert rows.to_pylist() == [{"rank": r, "n": 100, "total": 4950.0 + 25 * r} for r in range(4)]
    assert place.states() == {"run": ["completed"] * 4}


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("ending", "state"),
    [("pass", "completed"), ("raise ValueError('bad')", "crashed"), ("sys.exit(3)", "crashed")],
)
def test_a_rank_that_leaves_its_monitor_open(place: Any, method: Any, ending: Any, state: Any) -> None:
    """A multiprocessing child skips atexit; it ends as it should all the same."""
    run_file(
        place,
        f"""
        def train():
            monitor = Monitor("run", quiet=True, interval_seconds=60)
            for i in range(5000):
                monitor.log(loss=float(i), step=i)
            {ending}

        if __name__ == "__main__":
            child = mp.get_context("{method}").Process(target=train)
            child.start()
            child.join()
        """,
    )
    assert place.count() == 5000
    assert place.states() == {"run": [state]}
    assert not list(place.live.iterdir())


def test_a_forked_rank_of_a_recording_parent_that_leaves_its_monitor_open(place: Any) -> None:
    run_file(
        place,
        """
        def train():
            os.environ |= {"RANK": "1", "WORLD_SIZE": "2"}
            monitor = Monitor("run", quiet=True, interval_seconds=60)
            for i in range(5000):
                monitor.log(loss=float(i), step=i)

        if __name__ == "__main__":
            with Monitor("run", quiet=True) as monitor:
                monitor.log(loss=1.0)
                child = mp.get_context("fork").Process(target=train)
                child.start()
                child.join()
        """,
    )
    assert place.count() == 5001
    assert place.states() == {"run": ["completed", "completed"]}
    assert not list(place.live.iterdir())


def test_a_program_that_a_run_starts_is_no_worker(place: Any) -> None:
    """`subprocess` starts something new, such as an evaluation: it records its own run."""
    place.run("""
        import subprocess
        with Monitor("train", quiet=True) as monitor:
            monitor.log(loss=1.0)
            script = "import entrenar_otel as e\\nwith e.Monitor('eval', quiet=True) as m: m.log(score=2.0)"
            subprocess.run([sys.executable, "-c", script], check=True)
    """)
    rows = place.lake.query("SELECT run_id, value FROM metrics ORDER BY 1").to_pylist()
    assert rows == [{"run_id": "eval", "value": 2.0}, {"run_id": "train", "value": 1.0}]
    assert place.states() == {"train": ["completed"], "eval": ["completed"]}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({"RANK": "RANK", "WORLD_SIZE": "2", "ENTRENAR_RUN_ID": "train"}, ""),
        ({"RANK": "RANK"}, "'train'"),
        ({}, "'train', rank=rank, world_size=2"),
    ],
)
def test_all_ranks_that_a_recording_driver_starts_record(
    place: Any, method: Any, environment: Any, arguments: Any
) -> None:
    """Rank 0 too, though the driver, without a rank, counts as rank 0 of its own run."""
    run_file(
        place,
        f"""
        def train(rank):
            os.environ |= {{k: v.replace("RANK", str(rank)) for k, v in {environment}.items()}}
            with Monitor({arguments or "None"}, quiet=True) as monitor:
                for i in range(100):
                    monitor.log(loss=float(i), step=i)

        if __name__ == "__main__":
            context = mp.get_context("{method}")
            with Monitor("driver", quiet=True) as monitor:
                monitor.log(prepared=1.0)
                children = [context.Process(target=train, args=(rank,)) for rank in (0, 1)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
        """,
    )
    rows = place.lake.query(
        "SELECT rank, count(*) AS n FROM metrics WHERE run_id = 'train' GROUP BY 1 ORDER BY 1"
    )
    assert rows.to_pylist() == [{"rank": 0, "n": 100}, {"rank": 1, "n": 100}]


def test_trials_of_a_recording_driver_record_and_what_they_start_too(place: Any) -> None:
    """In a child with a run id; in a child of a program that the driver starts; in a child's child."""
    run_file(
        place,
        """
        import subprocess

        def trial(name):
            with Monitor(name, quiet=True) as monitor:
                monitor.log(loss=1.0)

        def starts_another():
            mp.get_context("fork").Process(target=nameless).start()  # joined at the end

        def nameless():
            with Monitor(quiet=True) as monitor:
                monitor.log(loss=1.0)

        if __name__ == "__main__":
            if sys.argv[1:]:
                child = mp.get_context("spawn").Process(target=nameless)
                child.start()
                child.join()
                sys.exit(child.exitcode)
            with Monitor("sweep", quiet=True) as driver:
                driver.log(started=1.0)
                for method, target, args in (
                    ("fork", trial, ("forked",)),
                    ("spawn", trial, ("spawned",)),
                    ("fork", starts_another, ()),
                ):
                    child = mp.get_context(method).Process(target=target, args=args)
                    child.start()
                    child.join()
                    assert child.exitcode == 0
                subprocess.run([sys.executable, __file__, "again"], check=True)
        """,
    )
    rows = place.lake.query("SELECT run_id FROM metrics WHERE metric = 'loss'").column(0).to_pylist()
    assert len(set(rows)) == len(rows) == 4
    assert {"forked", "spawned"} < set(rows)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("made", ["anew", "inherited", "bound"])
def test_a_worker_says_once_that_it_records_nothing(place: Any, method: Any, made: Any) -> None:
    """A run that vanishes without a word would be looked for in vain."""
    done = run_file(
        place,
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
