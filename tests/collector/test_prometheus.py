"""A run in a real Prometheus, a 2 and a 3: by way of the Collector as from the run's own page."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.ports import free_port

from .process import SECONDS, Collector
from .prometheus import Labels, Prometheus
from .traffic import wait_until

_TRAINER = """
import sys
from entrenar_otel import Monitor
first, steps = map(int, sys.argv[1:])
monitor = Monitor(quiet=True, model_id="digits", settings_file=None).start()
for step in range(first, first + steps):
    monitor.log(step=step, loss=1 / (step + 1), learning_rate=0.125, samples=32, step_duration=step / 64)
    monitor.log(step=step, accuracy=step / 64, tags={"split": "validation"})
monitor.log(step=first + steps, loss=float("nan"), tags={"split": "odd"})
print("logged", flush=True)
sys.stdin.read()
monitor.close()
"""
#: Says by which route a series came, not what it is of.
ROUTE = ("job", "instance", "route")
#: Of a scrape; of a resource, which a run's own page does not have.
NOT_OURS = ("up", "target_info", "scrape_")
#: Changes from scrape to scrape, so that its values need not be the same by both routes.
MOVING = ("entrenar_overhead", "entrenar_tick_duration_seconds")


class Trainer:
    """A trainer whose values are known, and which has logged all of them; ends with its standard input."""

    def __init__(self, errors: Path, endpoint: str, first: int, steps: int, **more: str) -> None:
        self._errors = errors
        environment = {
            "ENTRENAR_RUN_ID": "r",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        with errors.open("wb") as told:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _TRAINER, str(first), str(steps)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
                env=os.environ | environment | more,
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"logged\n", errors.read_text()

    def end(self) -> None:
        """End the run in order."""
        self._process.communicate(timeout=SECONDS)
        assert self._process.returncode == 0, self._errors.read_text()

    def kill(self) -> None:
        """Kill it, however far it is."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Starts a trainer in the working folder of the test; returns when it has logged."""
    made: list[Trainer] = []

    def start(endpoint: str, first: int = 0, steps: int = 20, **more: str) -> Trainer:
        made.append(Trainer(tmp_path / f"{len(made)}.err", endpoint, first, steps, **more))
        return made[-1]

    yield start
    for one in made:
        one.kill()


@pytest.fixture
def one_collector(make_collector: Callable[..., Collector]) -> Callable[..., Collector]:
    """Starts a Collector as in docs/collector.md; the sink behind it is away, as it may be."""
    return lambda *more: make_collector("one", "all-in-one.yaml", *more, SINK_ENDPOINT="127.0.0.1:9").start()


def series_of(asked: Prometheus, route: str) -> dict[Labels, str]:
    """What has come by a route: labels, the name among them, and value."""
    found = asked.query(f'{{route="{route}"}}').items()
    ours = {
        frozenset(one for one in labels if one[0] not in ROUTE): value
        for labels, value in found
        if not dict(labels)["__name__"].startswith(NOT_OURS)
    }
    assert len(ours) == sum(not dict(labels)["__name__"].startswith(NOT_OURS) for labels, _ in found)
    return ours


def still(found: dict[Labels, str]) -> dict[Labels, str]:
    """Without the values that move."""
    return {labels: "" if dict(labels)["__name__"].startswith(MOVING) else v for labels, v in found.items()}


def the_same_by_both(asked: Prometheus) -> dict[Labels, str]:
    """What has come by both routes, once it is the same."""
    end = time.monotonic() + SECONDS
    while True:
        pulled, pushed = series_of(asked, "pull"), series_of(asked, "push")
        if still(pulled) == still(pushed):
            return pushed
        assert time.monotonic() < end, still(pulled).items() ^ still(pushed).items()
        time.sleep(0.1)


def value(found: dict[Labels, str], name: str, **more: str) -> float:
    labels = {"__name__": name, "run_id": "r", "model_id": "digits", "rank": "0", **more}
    return float(found[frozenset(labels.items())])


def test_by_the_collector_as_from_the_runs_own_page(
    train: Callable[..., Trainer],
    one_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
) -> None:
    """All series: names, labels and values; in a Prometheus 2 and a 3."""
    collector, port = one_collector(), free_port()
    run = train(
        collector.endpoint,
        OTEL_METRICS_EXPORTER="prometheus,otlp",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
    )
    routes = {"pull": f"127.0.0.1:{port}", "push": f"127.0.0.1:{collector.ports['PROMETHEUS']}"}
    asked = [make_prometheus(version, routes) for version in (2, 3)]
    before = [what_is_logged(one) for one in asked]
    run.end()
    for one, found in zip(
        asked, before, strict=True
    ):  # told by the Collector alone: the run's own page is gone
        wait_until(partial(is_completed, one))
        after = series_of(one, "push")
        assert after.keys() == found.keys()
        assert value(after, "training_samples_total") == 640


def what_is_logged(asked: Prometheus) -> dict[Labels, str]:
    """All series, which are right."""
    wait_until(lambda: len(asked.query("training_progress_step == 20")) == 2)
    found = the_same_by_both(asked)
    assert len(found) > 60
    assert value(found, "training_loss") == 1 / 20
    assert math.isnan(value(found, "training_loss", split="odd"))
    assert value(found, "training_accuracy", split="validation") == 19 / 64
    assert value(found, "training_learning_rate") == 0.125
    assert value(found, "training_samples_total") == 640
    assert value(found, "training_step_duration_seconds_count") == 20
    assert value(found, "training_step_duration_seconds_sum") == sum(range(20)) / 64
    assert value(found, "training_step_duration_seconds_bucket", le="0.1") == 7
    assert value(found, "training_run_state") == 1
    assert value(found, "training_nonfinite_total", metric="loss") == 1
    return found


def is_completed(asked: Prometheus) -> bool:
    return asked.value('training_run_state{route="push"}') == 4


def test_an_attempt_after_a_kill_and_another_rank(
    train: Callable[..., Trainer],
    one_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
) -> None:
    """Ranks do not overwrite each other; attempts of one are one series by `max by (run_id, rank)`."""
    collector = one_collector()
    asked = make_prometheus(3, {"push": f"127.0.0.1:{collector.ports['PROMETHEUS']}"})
    world = {"WORLD_SIZE": "2"}
    first = train(collector.endpoint, RANK="0", **world)
    other = train(collector.endpoint, 100, RANK="1", **world)
    steps = "max by (run_id, rank) (training_progress_step)"
    ranks = [frozenset({("run_id", "r"), ("rank", rank)}) for rank in ("0", "1")]
    wait_until(lambda: asked.query(steps) == dict(zip(ranks, ("20", "120"), strict=True)))
    assert asked.value('training_samples_total{rank="0"}') == 640
    first.kill()
    second = train(collector.endpoint, 20, 30, RANK="0", **world)
    wait_until(lambda: asked.query(steps) == dict(zip(ranks, ("50", "120"), strict=True)))
    assert set(asked.query('training_samples_total{rank="0"}').values()) == {"640", "960"}
    second.end(), other.end()
    wait_until(
        lambda: (
            set(asked.query("max by (run_id, rank) (training_run_state)").items())
            == {(rank, "4") for rank in ranks}
        )
    )


def test_a_series_goes_some_time_after_its_run(
    train: Callable[..., Trainer], one_collector: Callable[..., Collector], tmp_path: Path
) -> None:
    """The hour of the configuration, shortened; a run that logs nothing new keeps its own."""
    shorter = tmp_path / "shorter.yaml"
    shorter.write_text("exporters: {prometheus: {metric_expiration: 3s}}")
    collector = one_collector(shorter)

    def shown() -> set[str]:
        return {one.labels["run_id"] for one in collector.samples() if one.name == "training_loss"}

    ended = train(collector.endpoint, ENTRENAR_RUN_ID="ended")
    train(collector.endpoint, ENTRENAR_RUN_ID="lives")
    wait_until(lambda: shown() == {"ended", "lives"})
    ended.end()
    wait_until(lambda: shown() == {"lives"})
