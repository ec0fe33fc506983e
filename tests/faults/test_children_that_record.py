"""Children that are no workers: ranks and trials of their own record, whoever started them."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_with_a_rank_of_their_own_record(place: Any, method: Any) -> None:
    """As torch.multiprocessing.spawn: the parent trains rank 0 itself, or only starts the others."""
    place.run_file(
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
    place.run_file(
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
    place.run_file(
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


@pytest.mark.parametrize(
    ("method", "environment", "arguments"),
    [
        ("fork", {"RANK": "RANK", "WORLD_SIZE": "2", "ENTRENAR_RUN_ID": "train"}, ""),
        ("fork", {"RANK": "RANK"}, "'train'"),
        ("fork", {}, "'train', rank=rank, world_size=2"),
        # they inherit nothing of the driver's: one way is as good as another
        ("spawn", {"RANK": "RANK", "WORLD_SIZE": "2", "ENTRENAR_RUN_ID": "train"}, ""),
        ("forkserver", {}, "'train', rank=rank, world_size=2"),
    ],
)
def test_all_ranks_that_a_recording_driver_starts_record(
    place: Any, method: Any, environment: Any, arguments: Any
) -> None:
    """Rank 0 too, though the driver, without a rank, counts as rank 0 of its own run."""
    place.run_file(
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
    place.run_file(
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
