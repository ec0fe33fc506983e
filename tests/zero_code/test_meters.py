"""Plain meters in programs that know nothing of us: every sample is kept, whoever sets a provider when."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import NoOpMeterProvider

from entrenar_otel.lake import Lake
from entrenar_otel.zero_code.meters import meter_provider, model_id
from tests.zero_code.programs import EVERY, OURS, TRAIN, counts

Program = Callable[..., Any]
#: What its own exporter shows of a metric at the end, where the program sets a provider.
SHOW = """
import json, os, signal, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()

def shown():
    data = reader.get_metrics_data()
    return {
        metric.name: len(metric.data.data_points)
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name in ("training.loss", "seconds", "requests")
    }
"""


def test_a_plain_script_is_recorded(program: Program, tmp_path: Path) -> None:
    """Gauge, histogram and counter, with coordinates; the script's name is the model's and the service's."""
    program(TRAIN, **OURS)
    assert counts(tmp_path) == EVERY
    lake = Lake(tmp_path / "lake")
    (run,) = lake.runs()
    assert (run.state, run.model_id) == ("completed", "train")
    last = "SELECT value, step, tags FROM metrics WHERE metric = 'loss' ORDER BY seq DESC LIMIT 1"
    assert lake.query(last).to_pylist() == [{"value": 1 / 500, "step": 499, "tags": [("split", "train")]}]


@pytest.mark.parametrize(
    ("end", "code", "state"),
    [
        ("raise RuntimeError('no more data')", 1, "crashed"),
        ("sys.exit(3)", 3, "crashed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, "crashed"),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, "stopped"),
        ("os._exit(0)", 0, "crashed"),
    ],
)
def test_however_it_ends_every_sample_counts(
    program: Program, tmp_path: Path, end: str, code: int, state: str
) -> None:
    """What was set before a crash, a signal or `os._exit` is in the lake, after recovery at the latest."""
    program(f"{TRAIN}\n{end}", code=code, **OURS)
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    list(lake.recover())
    assert counts(tmp_path) == EVERY
    assert [run.state for run in lake.runs()] == [state]


def test_forked_workers_cost_no_sample(program: Program, tmp_path: Path) -> None:
    """The parent's samples before, during and after; a worker's are its parent's business, which is said."""
    done = program(
        """
        import multiprocessing
        from opentelemetry import metrics

        loss = metrics.get_meter("mine").create_gauge("training.loss")

        def work(_):
            for _ in range(10):
                loss.set(-1.0)

        if __name__ == "__main__":
            for step in range(100):
                loss.set(1.0, {"step": step})
            with multiprocessing.get_context("fork").Pool(2) as pool:
                pool.map(work, range(2))
                for step in range(100, 200):
                    loss.set(1.0, {"step": step})
        """,
        **OURS,
    )
    sql = "SELECT value, count(*) AS n, count(DISTINCT step) AS steps FROM metrics GROUP BY value"
    assert Lake(tmp_path / "lake").query(sql).to_pylist() == [{"value": 1.0, "n": 200, "steps": 200}]
    assert "this process is a worker of process" in done.stderr


def test_workers_that_begin_by_themselves_have_runs_of_their_own(program: Program, tmp_path: Path) -> None:
    """Where the parent records nothing, each forked worker's first sample begins a run of its own."""
    program(
        """
        import os
        from opentelemetry import metrics

        loss = metrics.get_meter("mine").create_gauge("training.loss")
        for worker in range(2):
            if not os.fork():
                for step in range(50):
                    loss.set(worker, {"step": step})
                raise SystemExit
        os.wait(), os.wait()
        """,
        **OURS,
    )
    sql = "SELECT run_id, count(*) AS n FROM metrics GROUP BY run_id"
    assert [row["n"] for row in Lake(tmp_path / "lake").query(sql).to_pylist()] == [50, 50]


def test_threads_that_begin_together_have_one_run(program: Program, tmp_path: Path) -> None:
    """Of many first samples, none is lost and one begins the run."""
    program(
        """
        import threading
        from opentelemetry import metrics

        loss = metrics.get_meter("mine").create_gauge("training.loss")
        gate = threading.Barrier(8)

        def work():
            gate.wait()
            for step in range(50):
                loss.set(1.0, {"step": step})

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        **OURS,
    )
    assert counts(tmp_path) == [("loss", 400)]
    assert len(Lake(tmp_path / "lake").runs()) == 1


def test_a_program_that_measures_nothing_has_no_run(program: Program, tmp_path: Path) -> None:
    """Nor has one with instruments of OpenTelemetry's instrumentations alone: no lake, not a word."""
    done = program(
        """
        from opentelemetry import metrics
        metrics.get_meter("mine").create_gauge("training.loss")
        metrics.get_meter("opentelemetry.instrumentation.requests").create_counter("requests").add(1)
        """,
        **OURS,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("switch", ["OTEL_SDK_DISABLED", "ENTRENAR_DISABLED"])
def test_switched_off(program: Program, tmp_path: Path, switch: str, monkeypatch: Any) -> None:
    """Nothing is recorded, and nothing said."""
    done = program(TRAIN, **OURS, **{switch: "true"})
    assert (done.stderr, (tmp_path / "lake").exists()) == ("", False)
    monkeypatch.setenv(switch, "true")
    assert isinstance(meter_provider(), NoOpMeterProvider)


def test_chosen_instruments(program: Program, tmp_path: Path) -> None:
    """ENTRENAR_INSTRUMENTS names those that are recorded."""
    program(TRAIN, **OURS, ENTRENAR_INSTRUMENTS="training.*, se?n")
    assert counts(tmp_path) == [("loss", 500), ("seen", 500)]


def test_bad_settings_cost_no_job(program: Program, tmp_path: Path) -> None:
    """Of a renacer.toml that is none, one warning."""
    (tmp_path / "renacer.toml").write_text("[monitor\n")
    done = program(TRAIN, **OURS)
    assert counts(tmp_path) == EVERY
    assert "recording with the defaults" in done.stderr


def test_theirs_second_stands_behind(program: Program, tmp_path: Path) -> None:
    """A provider that is set after ours was made: its reader shows the run, with one series per metric."""
    done = program(
        SHOW
        + TRAIN
        + """
metrics.set_meter_provider(MeterProvider([reader]))
metrics.get_meter("mine").create_counter("requests").add(1)
loss.set(0.5)
metrics.get_meter_provider().force_flush()
print(json.dumps(shown()))
""",
        **OURS,
        ENTRENAR_INSTRUMENTS="training.*",
    )
    assert json.loads(done.stdout) == {"training.loss": 2, "requests": 1}  # with and without the split
    assert counts(tmp_path) == [("loss", 501)]
    assert done.stderr.count("the MeterProvider that was set stays behind the recording") == 1
    assert "Overriding" not in done.stderr


def test_theirs_before_a_sample(program: Program, tmp_path: Path) -> None:
    """Ours is made when a library asks for a meter, theirs is set, and then training begins."""
    done = program(
        SHOW
        + "early = metrics.get_meter('library').create_counter('training.early')\n"
        + "metrics.set_meter_provider(MeterProvider([reader]))\n"
        + TRAIN
        + "early.add(1)\nmetrics.get_meter_provider().force_flush()\nprint(json.dumps(shown()))\n",
        **OURS,
    )
    assert json.loads(done.stdout) == {"training.loss": 1, "seconds": 1}
    assert counts(tmp_path) == sorted([*EVERY, ("early", 1)])


def test_a_second_provider_of_theirs_is_refused_as_ever(program: Program, tmp_path: Path) -> None:
    """OpenTelemetry takes one: the warning is its own."""
    done = program(
        SHOW
        + TRAIN
        + "metrics.set_meter_provider(MeterProvider([reader]))\n"
        + "metrics.set_meter_provider(MeterProvider())\n",
        **OURS,
    )
    assert done.stderr.count("Overriding of current MeterProvider is not allowed") == 1
    assert counts(tmp_path) == EVERY


def test_a_program_with_a_monitor_has_one_run(program: Program, tmp_path: Path) -> None:
    """Its own run is the record, and its plain meters are in it."""
    program(
        """
        from entrenar_otel import Monitor
        from opentelemetry import metrics
        gauge = metrics.get_meter("mine").create_gauge("training.a")
        with Monitor(model_id="digits") as monitor:
            monitor.log(loss=1.0)
            gauge.set(2.0)
        """,
        **OURS,
    )
    (run,) = Lake(tmp_path / "lake").runs()
    assert (run.model_id, counts(tmp_path)) == ("digits", [("a", 1), ("loss", 1)])


def test_the_service_is_never_unknown() -> None:
    """OTEL_SERVICE_NAME, the resource's attribute, else the script."""
    assert model_id({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a%20b"}, ["x.py"]) == "a b"
    assert model_id({}, ["/x/fine-tune.py"]) == "fine-tune"
    assert model_id({}, []) == "entrenar-otel"


def test_nothing_of_this_process_was_touched() -> None:
    """The tests above ran elsewhere: here `set_meter_provider` is OpenTelemetry's own."""
    assert not hasattr(metrics.set_meter_provider, "__wrapped__")
    assert os.environ.get("OTEL_PYTHON_METER_PROVIDER") is None
