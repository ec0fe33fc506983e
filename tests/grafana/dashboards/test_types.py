"""Every dashboard and every panel is what Grafana's own types say, and what is not is found."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from entrenar_processors.config.models import Config, parse_text

from entrenar_otel.grafana.dashboards.document import documents
from tests.grafana.library import units
from tests.grafana.typescript import problems

ROOT = Path(__file__).parents[3]
#: What Grafana reads and its schema does not have: (part, key) → why it is there.
KNOWN = {
    ("annotations", "titleFormat"): "of annotations that Prometheus answers: read by its data source",
    ("annotations", "textFormat"): "of annotations that Prometheus answers: read by its data source",
    ("templating", "definition"): "what the list of variables shows of a query: written by its editor",
}
LIMITS = """
[[monitor.threshold]]
name = "limits"
metric = "loss"
min = 1
max = 10
[monitor.drift]
threshold = 0.01
"""


def without(
    dashboard: dict[str, Any], known: Iterable[tuple[str, str]] = tuple(KNOWN)
) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """A copy without what is known, and what of it was there."""
    made, seen = copy.deepcopy(dashboard), set()
    for part, key in known:
        for one in made[part]["list"]:
            if one.pop(key, None) is not None:
                seen.add((part, key))
    return made, seen


def committed() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "dashboards").glob("*.json"))}


def test_every_dashboard_fits(tmp_path: Path) -> None:
    """Those that are committed, and those of other settings; each known difference is still one."""
    made = committed()
    for name, settings in (("none", Config()), ("limits", parse_text(LIMITS))):
        texts = documents(settings)
        made |= {f"{key} with {name}": json.loads(text) for key, text in texts.items()}
    fitting = {name: without(dashboard) for name, dashboard in made.items()}
    assert problems(tmp_path, {name: one for name, (one, _) in fitting.items()}) == []
    assert set.union(*(seen for _, seen in fitting.values())) == set(KNOWN)


GONE = object()
#: What is broken: (part, where in it, by what, words of what is found). A part is a kind of panel.
BROKEN: Mapping[str, tuple[str, str, Any, str]] = {
    "name of an option": ("stat", "options graphStyle", "none", "'\"graphStyle\"' does not exist"),
    "enum of an option": ("stat", "options graphMode", "bars", '"bars"\' is not assignable'),
    "type of an option": ("state-timeline", "options rowHeight", "0.8", "'string' is not assignable"),
    "option of another kind": ("heatmap", "options xField", "step", "'\"xField\"' does not exist"),
    "no option": ("xychart", "options mapping", GONE, "'mapping' is missing"),
    "kind": ("trend", "type", "trends", "does not satisfy the constraint"),
    "type of a unit": ("timeseries", "fieldConfig defaults unit", 5, "'number' is not assignable"),
    "name of a setting": (
        "timeseries",
        "fieldConfig defaults custom lineWidht",
        1,
        "'\"lineWidht\"' does not exist",
    ),
    "enum of a setting": (
        "timeseries",
        "fieldConfig defaults custom showPoints",
        "some",
        '"some"\' is not assignable',
    ),
    "no setting": ("table", "fieldConfig defaults custom cellOptions", GONE, "'cellOptions' is missing"),
    "threshold": (
        "stat",
        "fieldConfig defaults thresholds mode",
        "relative",
        '"relative"\' is not assignable',
    ),
    "override's name": (
        "table",
        "fieldConfig overrides 0 properties 0 id",
        "units",
        '"units"\' is not assignable',
    ),
    "override's value": ("table", "fieldConfig overrides 0 properties 0 value", 5, "not assignable"),
    "transformation": ("table", "transformations 0 id", "merged", '"merged"\' is not assignable'),
    "transformation's option": (
        "trend",
        "transformations 0 options mode",
        "left",
        '"left"\' is not assignable',
    ),
    "format of a query": ("table", "targets 0 format", "rows", '"rows"\' is not assignable'),
    "no query": ("table", "targets 0 expr", GONE, "'expr' is missing"),
    "place": ("row", "gridPos w", "24", "'string' is not assignable"),
    "variable": ("templating", "refresh", 9, "'9' is not assignable"),
    "key of a variable": ("templating", "auto_min", "10s", "'\"auto_min\"' does not exist"),
    "annotation": ("annotations", "expr", "up", "'\"expr\"' does not exist"),
    "cursor": ("dashboard", "graphTooltip", 7, "'7' is not assignable"),
}


def broken(kind: str, where: str, value: object) -> dict[str, Any]:
    """The first committed dashboard that has such a part, with this in it."""
    for whole in committed().values():
        made, _ = without(whole)
        lists = {name: made[name]["list"] for name in ("templating", "annotations")} | {"dashboard": [made]}
        part: Any = next(
            iter(lists.get(kind) or [one for one in made["panels"] if one["type"] == kind]), None
        )
        if part is None:
            continue
        *path, key = [int(word) if word.isdigit() else word for word in where.split()]
        for word in path:
            part = part[word]
        if value is GONE:
            del part[key]
        else:
            part[key] = value
        return made
    raise AssertionError(f"no dashboard has {kind}")


def test_what_does_not_fit_is_found(tmp_path: Path) -> None:
    """Each of them, and nothing else, and with words that say what it is."""
    copies = {name: broken(kind, where, value) for name, (kind, where, value, _) in BROKEN.items()}
    expected = {name: words for name, (*_, words) in BROKEN.items()}
    for one in KNOWN:  # and a difference, if it were not known
        copies[one[1]] = without(committed()["run"], {*KNOWN} - {one})[0]
        expected[one[1]] = f"'\"{one[1]}\"' does not exist"
    told = problems(tmp_path, copies)
    assert {name for name, *_ in told} == set(expected)
    for name, words in expected.items():
        assert any(words in said for found, _, said in told if found == name), (name, told)
        parts = {part for found, part, _ in told if found == name}
        assert len(parts) == 1 or name not in BROKEN, (name, told)


def used_units(part: Any) -> Iterator[str]:
    """Every unit that is anywhere in it."""
    if isinstance(part, dict):
        if isinstance(unit := part.get("unit"), str):
            yield unit
        if part.get("id") == "unit":
            yield part["value"]
    for one in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from used_units(one)


def test_every_unit_is_one_of_grafanas() -> None:
    """To its types a unit is any text; what it does not know is shown behind the number."""
    used = set(used_units(committed()))
    assert {"s", "percentunit", "bytes"} < used
    assert used <= units()
