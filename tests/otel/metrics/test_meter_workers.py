"""Workers and plain meters: spawned ones are the no-op twin, and a line held by one is held nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake

JOB = """
    import multiprocessing, sys
    import entrenar_otel
    from opentelemetry import metrics

    meter = metrics.get_meter("module")  # at import, in the workers too
    loss = meter.create_gauge("training.loss")
    tokens = meter.create_counter("training.tokens")
    seen = []

    def observe(_options):
        seen.append(1)
        return [metrics.Observation(7.0)]

    def work(number, results):
        monitor = entrenar_otel.configure(run_id="job", quiet=True)
        fresh = metrics.get_meter("worker").create_up_down_counter("training.fresh")
        other = metrics.get_meter("worker").create_counter("http.requests")
        metrics.get_meter("worker").create_observable_gauge("training.seen", [observe])
        for i in range(100):
            loss.set(float("nan") if i == 50 else -1.0, {"batch": i, "worker": number})
            tokens.add(1000, {"worker": number})
            fresh.add(1)
            other.add(1)
        entrenar_otel.raise_if_stopped()
        monitor.raise_if_stopped()
        monitor.log(loss=float("nan"))
        monitor.close()
        results.put((monitor.enabled, monitor.flush(), len(seen)))

    def main():
        context = multiprocessing.get_context(sys.argv[1])
        monitor = entrenar_otel.configure(run_id="job", quiet=True, interval_seconds=0.02)
        for i in range(100):
            loss.set(float(i), {"batch": i})
            tokens.add(1)
        results = context.Queue()
        workers = [context.Process(target=work, args=(n, results)) for n in range(int(sys.argv[2]))]
        for one in workers:
            one.start()
        for i in range(100, 200):
            loss.set(float(i), {"batch": i})
            tokens.add(1)
        found = [results.get(timeout=60) for _ in workers]
        for one in workers:
            one.join()
            assert one.exitcode == 0, one.exitcode
        assert found == [(False, True, 0)] * len(workers), found
        entrenar_otel.raise_if_stopped()
        monitor.log(done=1)
        monitor.flush()
        from entrenar_otel.testing import open_run

        data = open_run(monitor).metrics.collect()
        values = {
            metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]
            for scope in data.resource_metrics[0].scope_metrics
            for metric in scope.metrics
            if metric.name in ("training.loss", "training.tokens", "training.nonfinite", "training.fresh")
        }
        assert values == {"training.loss": [({}, 199.0)], "training.tokens": [({}, 200.0)]}, values
        monitor.close()

    if __name__ == "__main__":
        main()
"""


#: What a worker says, once, where it is told something that is not recorded.
WORKER = "this process is a worker of process "


def run(folder: Path, program: str, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as a file, which spawned children can import; a good end and no error output are expected."""
    path = folder / "job.py"
    path.write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "ENTRENAR_LIVE": str(folder / "live"), **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("entrenar: ALERT ")]
    assert (done.returncode, [line for line in said if WORKER not in line]) == (0, [])
    return done


@pytest.mark.parametrize(("method", "workers"), [("fork", 20), ("spawn", 3), ("forkserver", 3)])
def test_workers_of_every_method(tmp_path: Path, method: str, workers: int) -> None:
    """Instruments of the module, new ones, asynchronous ones, a NaN: nothing of a worker's is anywhere."""
    done = run(tmp_path, JOB, method, workers)
    assert done.stderr.count(WORKER) == workers
    lake = Lake(tmp_path / "entrenar-lake", tmp_path / "live")
    table = lake.query(
        "SELECT metric, count(*) n, sum(value) s, bool_or(isnan(value)) x FROM metrics GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("done", 1, 1.0, False),
        ("loss", 200, 19900.0, False),
        ("tokens", 200, 200.0, False),
    ]
    assert [(one.run_id, one.state, one.attempt) for one in lake.runs()] == [("job", "completed", 1)]
    assert not list((tmp_path / "live").iterdir())


def test_a_line_that_is_held_when_forking(tmp_path: Path) -> None:
    """The child does not stop by its parent's loss; the parent does, once."""
    run(tmp_path, """
        import os
        import entrenar_otel
        from opentelemetry import metrics
        monitor = entrenar_otel.configure(quiet=True)
        loss, fast = metrics.get_meter("m").create_gauge("training.loss"), monitor.bind("other")
        for value in (1.0, 2.0, float("nan")):
            loss.set(value, {"epoch": 3})
        pid = os.fork()
        if not pid:
            entrenar_otel.raise_if_stopped()
            monitor.raise_if_stopped()
            monitor.log(other=1.0)
            fast(1.0)
            loss.set(float("nan"))
            monitor.raise_if_stopped()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        try:
            entrenar_otel.raise_if_stopped()
        except entrenar_otel.AndonStop as stop:
            assert stop.epoch == 3
        else:
            raise AssertionError("it did not stop")
        fast(1.0)
        assert monitor.sample_count("other") == 1 and monitor.sample_count("loss") == 3
    """)  # fmt: skip


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "ENTRENAR_DISABLED"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_disabled_in_workers_too(tmp_path: Path, name: str, method: str) -> None:
    """The switch is inherited: no lake, no live folder, no word."""
    run(tmp_path, """
        import multiprocessing, sys
        import entrenar_otel
        from opentelemetry import metrics

        def work():
            with entrenar_otel.configure() as monitor:
                metrics.get_meter("m").create_counter("training.x").add(1)
                monitor.log(loss=float("nan"))
                entrenar_otel.raise_if_stopped()

        if __name__ == "__main__":
            work()
            one = multiprocessing.get_context(sys.argv[1]).Process(target=work)
            one.start()
            one.join()
            assert one.exitcode == 0
    """, method, **{name: "true"})  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["job.py"]
