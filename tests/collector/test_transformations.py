"""What panels draw that transform what they asked for: Grafana's library on answers of a real Prometheus."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.grafana.library import Frame, transformed

from .process import ROOT, SECONDS, Collector
from .prometheus import Prometheus
from .traffic import wait_until

_TRAINER = """
import sys
from entrenar_otel import Monitor
run_id, settings = sys.argv[1], {"quiet": True, "settings_file": None, "interval_seconds": 0.2}
monitor = Monitor(run_id, model_id="digits", **settings).start()
for line in sys.stdin:
    step, loss, *validation = map(float, line.split())
    monitor.log(step=int(step), epoch=1, loss=loss, step_duration=loss)
    for one in validation:
        monitor.log(step=int(step), loss=one, tags={"split": "validation"})
    print("logged", flush=True)
"""
#: How often dashboards ask here; as often as Prometheus scrapes.
_STEP_SECONDS = 1
#: Which runs each dashboard is shown of.
RUNS = {"run": "r", "compare": "r|s", "fleet": ".*"}


class Trainer:
    """A trainer that logs what it is told, each loss once, and waits until both of Prometheus have it.

    Which attempt it is is not asked: on a busy machine it is not known at once, and not in `instance`.
    """

    def __init__(self, folder: Path, run_id: str, asked: list[Prometheus], endpoint: str) -> None:
        self._run_id = run_id
        self._asked = asked
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "500"}
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        self._errors = folder / f"{run_id}.err"
        with self._errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _TRAINER, run_id],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                text=True,
                env=os.environ | environment | paths,
            )

    def log(self, step: int, loss: float, *validation: float) -> None:
        """Returns when each Prometheus has had it for longer than a step: each query by steps meets it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(" ".join(map(str, (step, loss, *validation))) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "logged\n", self._errors.read_text()
        split, value = ("validation", validation[-1]) if validation else ("", loss)
        of = f'run_id="{self._run_id}"'
        at_step = f"training_progress_step{{{of}}} == {step}"
        logged = f'training_loss{{{of},split="{split}"}} == {value} and on (instance) {at_step}'
        self.wait(f"count_over_time(({logged})[10m:{_STEP_SECONDS}s]) > 1")

    def wait(self, expression: str) -> None:
        for one in self._asked:
            wait_until(partial(one.query, expression))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=SECONDS)


@pytest.fixture
def train(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    made: list[Trainer] = []

    def start(*arguments: Any) -> Trainer:
        made.append(Trainer(tmp_path, *arguments))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def panels(runs: Mapping[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Those of the committed dashboards that have transformations, of these runs, by the dashboard's name."""
    found = {}
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        values = {"$run": runs[path.stem], "$model": ".*", "$rank": ".*", "$__rate_interval": "10m"}
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                for name, value in values.items():
                    target["expr"] = target["expr"].replace(name, value)
            if panel.get("transformations"):
                found[path.stem, panel["title"]] = panel
    return found


def answered(asked: Prometheus, panel: dict[str, Any], start: float, end: float) -> dict[str, Any]:
    """With what Prometheus answers to each of its queries."""
    times = {"start": str(start), "end": str(end), "step": str(_STEP_SECONDS)}
    for target in panel["targets"]:
        if target["instant"]:
            told = asked.ask("query", query=target["expr"], time=str(end))
        else:
            told = asked.ask("query_range", query=target["expr"], **times)
        target["answer"] = told["result"]
    return panel


def drawn(
    asked: Prometheus, runs: Mapping[str, str], start: float, end: float
) -> dict[tuple[str, str], Frame]:
    """What each panel draws: one frame, with everything that the panel calls by its name."""
    given = {place: answered(asked, panel, start, end) for place, panel in panels(runs).items()}
    made = dict(zip(given, transformed([*given.values()]), strict=True))
    frames = {place: one for place, (one,) in made.items()}
    for place, frame in frames.items():
        assert names_of(given[place]) <= {*frame.names}, (place, frame.names)
    return frames


def names_of(panel: dict[str, Any]) -> set[str]:
    """The columns that a panel's options and overrides mean by their names."""
    options = panel["options"]
    matchers = [one["matcher"] for one in panel["fieldConfig"]["overrides"]]
    matchers += [axis["matcher"] for one in options.get("series", ()) for axis in one.values()]
    assert {one["id"] for one in matchers} <= {"byName"}
    names = {one["options"] for one in matchers} | {one["displayName"] for one in options.get("sortBy", ())}
    return names | {options["xField"]} if "xField" in options else names


def test_panels_draw_what_was_logged(
    make_collector: Callable[..., Collector],
    make_prometheus: Callable[..., Prometheus],
    train: Callable[..., Trainer],
) -> None:
    """Two runs, of which one was killed and resumed, and then pauses: its step stays where it is."""
    began = time.time()
    collector = make_collector("one", "all-in-one.yaml", SINK_ENDPOINT="127.0.0.1:9").start()
    targets = {"training": f"127.0.0.1:{collector.ports['PROMETHEUS']}"}
    asked = [make_prometheus(version, targets) for version in (2, 3)]
    killed = train("r", asked, collector.endpoint)
    for step, loss in ((0, 1.0), (10, 0.9), (20, 0.8)):
        killed.log(step, loss)
    killed.kill()
    other = train("s", asked, collector.endpoint)
    other.log(5, 2.0)
    other.log(10, 1.5)
    resumed = train("r", asked, collector.endpoint)
    resumed.log(10, 0.5)
    resumed.log(20, 0.25, 0.75)
    resumed.log(30, 0.125)
    resumed.wait('count_over_time((training_progress_step{run_id="r"} == 30)[1h:1s]) > 3')
    end = time.time()
    for one in asked:
        frames = drawn(one, RUNS, began, end)
        check_curves(frames["run", "Loss by step"], frames["compare", "Loss by step"])
        check_tables(frames["fleet", "Runs"], frames["fleet", "Slowest ranks"])
        check_it_repeats(answered(one, panels(RUNS)["run", "Loss by step"], began, end))
        nothing = panels(dict.fromkeys(RUNS, "none"))
        empty = transformed([answered(one, panel, began, end) for panel in nothing.values()])
        assert [frame.rows() for made in empty for frame in made] == [[]] * len([*chain(*empty)])


def check_curves(trend: Frame, points: Frame) -> None:
    """Of one run its latest attempt, of several what each had last at a step."""
    assert trend.names == ["step", "train", "validation"]
    assert trend.ascends["step"]
    assert trend["step"] == [10, 20, 30]
    assert trend["train"] == [0.5, 0.25, 0.125]
    assert trend["validation"] == [None, 0.75, 0.75]  # a gauge keeps its value
    assert points.names == ["step", "r", "s"]
    assert points.types == {"step": "number", "r": "number", "s": "number"}
    assert points.rows() == [(0, 1, None), (5, None, 2), (10, 0.5, 1.5), (20, 0.25, None), (30, 0.125, None)]


def check_tables(runs: Frame, ranks: Frame) -> None:
    """A row for each run, or for each rank."""
    assert runs.names == ["Run", "Model", "State", "Epoch", "Step", "Since the last step", "Loss", "Alerts"]
    (first, second) = sorted(runs.rows())
    assert first[:5] == ("r", "digits", 1, 1, 30)
    assert second[:5] == ("s", "digits", 1, 1, 10)
    assert first[6:] == (0.125, 0)
    assert second[6:] == (1.5, 0)
    assert 0 < first[5] < second[5]
    assert ranks.names == ["Run", "Rank", "Compute"]
    means = {row[:2]: row[2] for row in ranks.rows()}
    assert means.keys() == {("r", "0"), ("s", "0")}
    assert means["s", "0"] == pytest.approx(1.5)
    assert 0 < means["r", "0"] < 1.5


def check_it_repeats(panel: dict[str, Any]) -> None:
    """The step did stay: joined alone, Grafana would draw nothing of it."""
    panel["transformations"] = panel["transformations"][:1]
    ((joined,),) = transformed([panel])
    assert not joined.ascends["step"]


def test_what_is_not_a_transformation_is_found() -> None:
    """Grafana itself leaves it out without a word."""
    with pytest.raises(AssertionError, match="partitionByValue"):
        transformed([{"targets": [], "transformations": [{"id": "partitionByValue", "options": {}}]}])
