"""The dashboards: as they are committed, the same to the byte, with what a person needs on every panel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors.config.models import Config, load_config, parse_text

from entrenar_otel.grafana.dashboards.document import documents

ROOT = Path(__file__).parents[3]
NAMES = ("run.json", "fleet.json", "compare.json")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return {name: json.loads(text) for name, text in documents(load_config(ROOT / "renacer.toml")).items()}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Without the rows' headings."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def test_the_committed_files_are_what_is_made() -> None:
    texts = documents(load_config(ROOT / "renacer.toml"))
    committed = {path.name: path.read_text() for path in (ROOT / "dashboards").glob("*.json")}
    assert committed == texts, "run `entrenar-otel dashboards build`"


def test_they_are_the_same_every_time() -> None:
    assert documents(Config()) == documents(Config())
    assert all("vector(" not in text for text in documents(Config()).values())


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_is(name: str, made: dict[str, Any]) -> None:
    for panel in panels(made[name]):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["title"], panel
        assert len(panel["description"]) > 10, panel["title"]
        assert panel["description"].endswith((".", "`.")), panel["title"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_the_grid_without_gaps(name: str, made: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in made[name]["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not taken & cells, panel["title"]
        taken |= cells
    bottom = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(bottom)}
    ids = [panel["id"] for panel in made[name]["panels"]]
    assert len({*ids}) == len(ids)


@pytest.mark.parametrize("name", NAMES)
def test_every_query_of_runs_takes_each_process_once(name: str, made: dict[str, Any]) -> None:
    """A restart makes a second instance; and only the runs that are chosen are asked for."""
    for panel in panels(made[name]):
        for target in panel["targets"]:
            expr = target["expr"]
            if "training_" in expr or "entrenar_" in expr.replace("entrenar_sink_", ""):
                assert "max by (" in expr, expr
                assert 'run_id=~"$run"' in expr, expr
                assert expr.count("(") == expr.count(")"), expr


def test_limits_of_the_settings_are_drawn() -> None:
    text = """
[[monitor.threshold]]
name = "floor"
metric = "accuracy"
min = 0.8
[[monitor.threshold]]
name = "ceiling"
metric = "loss"
max = 10
[[monitor.threshold]]
name = "lower ceiling"
metric = "loss"
max = 5
[monitor.drift]
threshold = 0.01
"""
    run = json.loads(documents(parse_text(text))["run.json"])
    drawn = {panel["title"]: panel["fieldConfig"]["defaults"] for panel in panels(run)}

    def steps(title: str) -> list[tuple[float | None, str]]:
        return [(step["value"], step["color"]) for step in drawn[title]["thresholds"]["steps"]]

    assert steps("Accuracy") == [(None, "red"), (0.8, "green")]
    assert steps("Loss") == [(None, "green"), (5, "red")]
    assert steps("Drift, p-value") == [(None, "red"), (0.01, "green")]
    assert drawn["Loss"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}
    assert "thresholdsStyle" not in drawn["Learning rate"]["custom"]
