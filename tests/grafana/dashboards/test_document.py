"""The dashboards: as they are committed, the same to the byte, with what a person needs on every panel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from entrenar_processors.config.models import Config, load_config, parse_text

import entrenar_otel.cli.main  # noqa: F401  (it puts the commands together)
from entrenar_otel.cli.app import app
from entrenar_otel.grafana.dashboards.document import documents
from entrenar_otel.grafana.dashboards.page import GRAFANA
from entrenar_otel.grafana.links import PICTURE

ROOT = Path(__file__).parents[3]
DOCS = "https://github.com/entrenar-otel/entrenar-otel/blob/main/docs"
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


@pytest.mark.parametrize("seed", ["1", "2"])
def test_they_are_the_same_in_every_process(seed: str, tmp_path: Path) -> None:
    """However Python orders its sets: dashboards and rules, to the byte."""
    program = Path(sys.executable).with_name("entrenar-otel")
    rules = ROOT / "collector-config/rules/training.yml"
    for more in (("dashboards", "build", "-o", ROOT / "dashboards"), ("rules", "build", "-o", rules)):
        done = subprocess.run(
            [program, *more, "--check", "--config", ROOT / "renacer.toml"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


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
        assert panel["pluginVersion"] == GRAFANA


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
[[monitor.threshold]]
name = "by another name"
metric = "grad_norm"
max = 7
[monitor.drift]
threshold = 0.01
"""
    run = json.loads(documents(parse_text(text))["run.json"])
    drawn = {panel["title"]: panel["fieldConfig"]["defaults"] for panel in panels(run)}

    def steps(title: str) -> list[tuple[float | None, str]]:
        return [(step["value"], step["color"]) for step in drawn[title]["thresholds"]["steps"]]

    assert steps("Accuracy") == [(None, "red"), (0.8, "green")]
    assert steps("Loss") == [(None, "green"), (5, "red")]
    assert steps("Loss by step") == steps("Loss")
    assert steps("Gradient norm") == [(None, "green"), (7, "red")]
    assert steps("Drift, p-value") == [(None, "red"), (0.01, "green")]
    assert drawn["Loss"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}
    assert drawn["Loss by step"]["custom"]["thresholdsStyle"] == {"mode": "dashed"}
    assert "thresholdsStyle" not in drawn["Learning rate"]["custom"]


def test_the_slowest_rank_comes_first(made: dict[str, Any]) -> None:
    """And of runs those that go on: their states are numbers."""
    order = {
        one["title"]: one["options"]["sortBy"] for one in panels(made["fleet.json"]) if one["type"] == "table"
    }
    assert order == {
        "Runs": [{"displayName": "State", "desc": False}],
        "Slowest ranks": [{"displayName": "Compute", "desc": True}],
    }


def test_they_are_of_the_grafana_that_they_are_checked_by() -> None:
    """And that docker-compose.yml starts."""
    libraries = json.loads((ROOT / "tests/grafana/node/package.json").read_text())["dependencies"]
    assert {libraries["@grafana/data"], libraries["@grafana/schema"]} == {GRAFANA}
    assert f"grafana/grafana:{GRAFANA}}}" in (ROOT / "docker-compose.yml").read_text()


def commands(text: str) -> set[str]:
    """The commands that a description tells a person to try."""
    return set(re.findall(r"`entrenar-otel ([^`]+)`", text))


def test_what_a_panel_tells_to_do_can_be_done(made: dict[str, Any]) -> None:
    """Commands are those that there are, with these options; links lead to a heading of docs/."""
    texts = [str(one["description"]) for name in NAMES for one in panels(made[name])]
    links = [one["url"] for name in NAMES for panel in panels(made[name]) for one in panel.get("links", ())]
    told = set().union(*map(commands, texts))
    assert {"plot $run -o run.png", "plot RUN -o run.png", "alerts $run"} <= told
    for command in told:
        name, run, *options = command.split()
        assert run in ("$run", "RUN"), command
        given = app_commands()[name]
        assert options == [] or options[0] in given, command
    links += [link for text in texts for link in re.findall(r"\]\((\S+?)\)", text)]
    assert len({*links}) >= 5
    for link in links:
        page, _, heading = link.removeprefix(f"{DOCS}/").partition("#")
        assert heading in headings(ROOT / "docs" / page), link
    by_step = [one for name in NAMES for one in panels(made[name]) if one["title"] == "Loss by step"]
    assert [one["links"][0]["url"] for one in by_step] == [PICTURE] * 2


def app_commands() -> dict[str, set[str]]:
    """The options of each command."""
    group: Any = typer.main.get_command(app)
    return {
        name: {option for one in command.params for option in one.opts}
        for name, command in group.commands.items()
    }


def headings(page: Path) -> set[str]:
    """As a link names them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {heading.strip("`").lower().replace(" ", "-") for heading in found}
