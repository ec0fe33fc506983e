"""The committed dashboards' queries, what they are known to come to, and what is wrong with the answers."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .fast_rules import SHORTER
from .process import ROOT, SECONDS
from .prometheus import Prometheus

#: Values, or what is true of them, by the values of their labels, these in the order of the names; or of all.
Known = Mapping[str, Any] | Callable[[dict[str, float]], bool]
#: Names of metrics in PromQL, those that a regular expression alternates among them.
_NAME = re.compile(
    r"\b(?!hw_name\b)(?:training|entrenar|otelcol|process|system|container|hw)_(?:\([a-z|]+\)_)?[a-z_]+"
)
_RANGE = "10m"
Tables = Callable[[Prometheus, float], "Sequence[Table]"]


@dataclass(frozen=True)
class Panel:
    """A query of a panel; `letter` is its place among the panel's."""

    dashboard: str
    title: str
    letter: str
    expression: str

    @property
    def place(self) -> str:
        return f"{self.dashboard}, {self.title} {self.letter}"

    @property
    def is_of_pipeline(self) -> bool:
        """Whether it asks for the Collector or the sink, and for no run."""
        return self.title.startswith(("Collector: ", "Sink: "))

    def filled(self, run: str) -> str:
        """With its variables filled in, and the times that a fault must last shortened."""
        text = self.expression
        for long, short in SHORTER.items():
            text = text.replace(long, short)
        values = {"$__rate_interval": _RANGE, "$__range": _RANGE, "$run": run, "$model": ".*", "$rank": ".*"}
        for name, value in values.items():
            text = text.replace(name, value)
        assert "$" not in text, text
        return text

    def renamed(self) -> Iterator[tuple[str, Panel]]:
        """Each metric that it names, and the query as it would be if that had another name."""
        for name in sorted(set(_NAME.findall(self.expression))):
            other = re.sub(rf"{re.escape(name)}(?![a-z_])", f"{name}_renamed", self.expression)
            yield f"{self.place}: {name}", Panel(self.dashboard, self.title, self.letter, other)


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of each dashboard that is committed."""
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        yield path.stem, json.loads(path.read_text())


def panels() -> Iterator[Panel]:
    """All queries of all panels."""
    for name, document in documents():
        for panel in document["panels"]:
            for target in panel.get("targets", ()):
                yield Panel(name, panel["title"], target["refId"], target["expr"])


def marks() -> Iterator[Panel]:
    """All queries of all annotations."""
    for name, document in documents():
        for annotation in document["annotations"]["list"]:
            yield Panel(name, annotation["name"], "", annotation["target"]["expr"])


def variables() -> Iterator[tuple[str, str, str]]:
    """Dashboard, variable and query of each variable that is asked for in Prometheus."""
    for name, document in documents():
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                yield name, variable["name"], variable["query"]["query"]


def label_values(asked: Prometheus, query: str) -> list[str]:
    """What Grafana makes of `label_values(selector, label)`, for all models and runs."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    assert found is not None, query
    selector, label = found.groups()
    selector = selector.replace("$model", ".*").replace("$run", ".*")
    assert "$" not in selector, query
    return [*asked.ask(f"label/{label}/values", **{"match[]": selector})]


def answer(asked: Prometheus, expression: str, at: float) -> dict[str, float]:
    """What a query comes to at that time."""
    found = asked.query(expression, time=str(at))
    made = {words(dict(labels)): float(value) for labels, value in found.items()}
    assert len(made) == len(found), (expression, found)
    return made


def words(labels: Mapping[str, str]) -> str:
    """The labels' values in the order of their names."""
    return " ".join(value for _, value in sorted(labels.items()))


def fits(found: dict[str, float], known: Known) -> bool:
    """Whether it is all that is known, and nothing else."""
    if callable(known):
        return known(found)
    return found.keys() == known.keys() and all(
        expected(found[key]) if callable(expected) else math.isclose(found[key], expected, rel_tol=1e-6)
        for key, expected in known.items()
    )


class Table:
    """What the panels are known to show: by dashboard, panel and letter; and by which run it is shown."""

    def __init__(self, known: Mapping[tuple[str, str], Mapping[str, Known]], runs: Mapping[Any, str]) -> None:
        """`runs`: what `$run` is, by dashboard, or by dashboard, panel and letter where one needs another."""
        self._known, self._runs = known, runs

    def problems(self, asked: Prometheus, given: Iterable[Panel], at: float) -> list[str]:
        """Panels that show something else than is known, or of which nothing is known."""
        return [problem for panel in given if (problem := self._problem(asked, panel, at))]

    def noticed(self, asked: Prometheus, given: Iterable[Panel], at: float) -> set[str]:
        """Which metrics of which panels could not be renamed without an answer that is wrong."""
        return {
            one
            for panel in given
            for one, other in panel.renamed()
            if self._problem(asked, other, at) and not self._problem(asked, panel, at)
        }

    def _problem(self, asked: Prometheus, panel: Panel, at: float) -> str:
        key = (panel.dashboard, panel.title)
        known = self._known.get(key, {}).get(panel.letter)
        if known is None:
            return f"{panel.place}: nothing is known of it"
        run = self._runs.get((*key, panel.letter)) or self._runs[panel.dashboard]
        found = answer(asked, panel.filled(run), at)
        return "" if fits(found, known) else f"{panel.place}: {found}, and known is {known}"


def check(both: Sequence[Prometheus], given: Sequence[Panel], tables: Tables) -> None:
    """Wait until all show what is known in each, and in the last would not if any metric had another name.

    `tables` of a Prometheus at a time: the first knows all panels; where a query finds a metric by several
    names, others know what it shows by those.
    """
    for number, asked in enumerate(both, 1):
        end = time.monotonic() + SECONDS
        while wrong := _wrong(asked, given, tables, renames=number == len(both)):
            assert time.monotonic() < end, "\n".join(wrong)


def _wrong(asked: Prometheus, given: Sequence[Panel], tables: Tables, *, renames: bool) -> list[str]:
    made = tables(asked, at := time.time())
    if (problems := made[0].problems(asked, given, at)) or not renames:
        return problems
    noticed = {one for table in made for one in table.noticed(asked, given, at)}
    renamed = {one for panel in given for one, _ in panel.renamed()}
    return [f"{one}: nobody would notice another name" for one in sorted(renamed - noticed)]
