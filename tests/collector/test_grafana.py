"""Panels of runs, variables and alerts on real runs of known values: by a Collector, Prometheus 2 and 3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.otlp_kills import Sink
from tests.ports import free_port
from tests.sink.wire import ended, logs, resource, started

from .dashboards import Table, check, label_values, marks, panels, variables, words
from .fast_rules import fast_rules
from .known_runs import Facts, table_after_kills, table_of_other_names, table_of_runs
from .process import Collector
from .prometheus import Both, Prometheus
from .trainers import ENDS, FULL, KNOWN, PAUSED, SCRAPED, Trainer

RUNS = {"r", "done", "stopped", "bad", "paused", "full", "scraped"}


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    made: list[Trainer] = []

    def start(name: str, script: str, **environment: str) -> Trainer:
        made.append(Trainer(tmp_path / f"trainer-{name}", script, environment))
        return made[-1]

    yield start
    for one in made:
        one.kill()


class Stage:
    """Runs of all kinds, and two that see them."""

    def __init__(self, start: Callable[..., Trainer], both: Both, **environment: str) -> None:
        self.both, self.began = both, time.time()
        self.ranks = [
            start(
                f"r-{rank}",
                KNOWN,
                RANK=rank,
                WORLD_SIZE="2",
                STEP_SECONDS=seconds,
                ENTRENAR_SYSTEM_METRICS="0",  # it tells what is known of a machine itself
                **environment,
            )
            for rank, seconds in (("0", "0.25"), ("1", "0.4"))
        ]
        self.ends = start("ends", ENDS, **environment)
        self.paused = start("paused", PAUSED, **environment)
        self.full = start("full", FULL, **environment | {"ENTRENAR_OTLP_SAMPLES": "off"})

    def first_half(self) -> None:
        """All are seen before anything happens to them: rates and changes begin there."""
        for one in self.ranks:
            one.tell()
            one.told()
        for one in (self.ends, self.paused, self.full):
            one.told()
        self.both.finds('training_progress_step{run_id="r"} == 99', 2)
        self.both.finds('entrenar_export_failures_total{run_id="r"}', 2)
        self.both.finds('training_run_state{run_id=~"done|paused|full|scraped"} == 1', 4)
        self.both.fires("TrainingLost")

    def provoke(self) -> Facts:
        """The second half, and what goes wrong with the others; returns what is known by it."""
        self.paused.tell()
        self.full.tell()
        self.ends.tell()  # completes
        assert self.ends.told() == ["stopped"]
        self.both.finds('training_run_state{run_id="done"} == 4', 1)
        self.both.finds('training_run_state{run_id="stopped"} == 1', 1)
        self.ends.tell()  # its loss is NaN
        assert self.ends.told() == ["stopped"]
        self.both.fires("nonfinite_loss", "stopped")
        self.ends.tell()
        assert self.ends.told() == ["bad"]
        self.both.finds('training_run_state{run_id="bad"} == 1', 1)
        self.ends.tell()
        assert self.ends.told() == ["ended"]
        dropped = float(self.full.told()[0])
        self.both.finds(f'entrenar_recorder_dropped_total{{run_id="full"}} == {dropped}', 1)
        for one in self.ranks:
            one.tell()
        halves = [[float(word) for word in one.told()] for one in self.ranks]
        for expression, count in (
            ('training_progress_step{run_id="r"} == 199', 2),
            ('training_samples_total{run_id="r"} == 2 * 100 * 32', 2),
            ('training_nonfinite_total{run_id="r"} == 2', 2),
            ('training_alert_active{run_id="r"} == 1', 6),
            ('training_budget_usage{run_id="r",budget="spans"} == 0.5', 2),
            ('training_alert_active{run_id=~"paused|full|scraped"} == 1', 4),
            ('training_run_state{run_id="paused"} == 2', 1),
            ('training_run_state{run_id="stopped"} == 3', 1),
            ('training_run_state{run_id="bad"} == 5', 1),
            ('entrenar_export_failures_total{run_id="r"} >= 2', 2),
            ("entrenar_sink_run_crashed_timestamp_seconds", 1),
        ):
            self.both.finds(expression, count)
        first, last = min(begin for begin, _ in halves), max(end for _, end in halves)
        return Facts(began=self.began, last_step=(first, last), dropped=dropped)


def check_variables(asked: Prometheus) -> None:
    known = {"model": ["digits"], "run": sorted(RUNS), "rank": ["0", "1"]}
    for dashboard, name, query in variables():
        assert label_values(asked, query) == known[name], (dashboard, name)
        assert label_values(asked, query.replace("training_run_state", "training_run_states")) == []


def check_annotations(asked: Prometheus, facts: Facts) -> None:
    """Over the time of the test, as Grafana asks for them: of all runs."""
    for panel in marks():
        seen = in_range(asked, panel.filled(".*"), facts.began)
        if panel.title == "Alerts":
            assert {"ERROR digits too_high 0 paused", "ERROR digits nonfinite_loss 0 stopped"} <= {*seen}
        else:
            states = {run: seen.get(f"digits 0 {run}", set()) for run in ("done", "stopped", "paused", "bad")}
            assert [max(values, default=0) for values in states.values()] == [4, 3, 2, 5], seen
        for name, other in panel.renamed():
            assert in_range(asked, other.filled(".*"), facts.began) == {}, (panel.title, name)


def in_range(asked: Prometheus, expression: str, start: float) -> dict[str, set[float]]:
    """The values of each series, every second: a step of five may miss what lasts a second."""
    found = asked.ask("query_range", query=expression, start=str(start), end=str(time.time()), step="1")
    return {words(one["metric"]): {float(value) for _, value in one["values"]} for one in found["result"]}


def check_recorded(asked: Prometheus) -> None:
    name = "run:training_step_duration_seconds"
    for quantile in (0.5, 0.9, 0.99):
        found = asked.value(f'{name}:quantile5m{{run_id="r",quantile="{quantile}"}}')
        assert found == pytest.approx(0.2 + 0.3 * quantile)  # of a bucket from 0.2 to 0.5 s
    slowest = asked.query(f"{name}:slowest5m")
    assert [dict(labels)["rank"] for labels in slowest] == ["1"]
    assert [float(value) for value in slowest.values()] == [pytest.approx(0.32)]


def check_alerts(both: Both) -> None:
    """Those that are provoked, by the run that it was done to."""
    both.fires("TrainingCrashed", "bad")
    both.fires("TrainingStopped", "stopped")
    both.fires("TrainingStalled", "r", "full", "scraped")
    both.fires("TrainingAlert", "r", "paused", "full", "scraped")  # of another renacer.toml
    both.fires("nonfinite_other", "r")
    both.fires("MonitoringLosesSamples", "r", "full")
    for one in both.asked:
        assert "r" in one.firing("MonitoringCannotSend")


def test_runs(
    make_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
    train: Callable[..., Trainer],
    tmp_path: Path,
) -> None:
    http, page = (f"127.0.0.1:{free_port()}" for _ in range(2))
    sink = Sink(tmp_path, http)
    try:
        sink.start()
        collector = make_collector("one", "all-in-one.yaml", SINK_ENDPOINT=f"127.0.0.1:{sink.port}").start()
        targets = {"training": f"127.0.0.1:{collector.ports['PROMETHEUS']}", "page": page, "sink": http}
        both = Both([make_prometheus(version, targets, rules=fast_rules()) for version in (2, 3)])
        scraped = train(
            "scraped",
            SCRAPED,
            OTEL_METRICS_EXPORTER="prometheus",
            OTEL_EXPORTER_PROMETHEUS_PORT=page.rpartition(":")[2],
        )
        stage = Stage(
            train,
            both,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_METRIC_EXPORT_INTERVAL="500",
            ENTRENAR_OTLP_SAMPLES="blocks",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{free_port()}",  # nobody is there
            OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="1",
        )
        stage.first_half()
        facts = stage.provoke()
        check_alerts(both)
        of_runs = [panel for panel in panels() if not panel.is_of_pipeline and panel.title != "Lost"]
        check(
            both.asked,
            of_runs,
            lambda one, at: [table_of_runs(one, facts, at), table_of_other_names()],
        )
        for one in both.asked:
            check_variables(one)
            check_annotations(one, facts)
            check_recorded(one)
        stage.full.kill()  # on the Collector's page its series stay, on its own they go
        scraped.kill()
        both.fires("TrainingLost", "full", "scraped")
        both.fires("TrainingStalled", "r")
        crash = logs([started(), ended("crashed")], resource("full"))  # as after five minutes
        headers = {"Content-Type": "application/x-protobuf"}
        assert httpx.post(f"http://{http}/v1/logs", content=crash, headers=headers).status_code == 200
        both.fires("TrainingCrashed", "bad", "full")
        both.fires("TrainingLost", "scraped")
        after = [
            panel for panel in panels() if panel.title in ("Lost", "Running", "Stalled", "Crashed today")
        ]
        check(both.asked, after, lambda _one, _at: [table_after_kills()])
    finally:
        if sink.is_alive:
            sink.end()


def test_a_panel_of_which_nothing_is_known() -> None:
    asked: Any = None  # is not asked
    problems = Table({}, {}).problems(asked, [*panels()], 0)
    assert len(problems) == len([*panels()]) > 60
    assert problems[0] == "compare, Loss A: nothing is known of it"
