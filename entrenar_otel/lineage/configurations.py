"""Configurations: in which settings the runs of two versions differ, and at which commits they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from entrenar_otel.compare.settings import WITHHELD, Setting, differences, without_seeds

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lineage.graph import LineageGraph

NO_RUN = "not recorded by a run"
_WITHHELD = "withheld: it leaves the machine of its run with ENTRENAR_OTLP_CONFIG=1"
_CONFIGS = "SELECT run_id, config FROM runs WHERE list_contains(?, run_id) ORDER BY attempt, rank DESC"


class Configurations:
    """Those of some versions' runs, read at once. Raises QueryError."""

    def __init__(self, lake: Lake, graph: LineageGraph, names: Sequence[str]) -> None:
        self._nodes = {name: graph.node(name) for name in dict.fromkeys(names)}
        ids = list(dict.fromkeys(run for node in self._nodes.values() for run in node.run_ids))
        self._configs: dict[str, Any] = {}
        if ids:
            rows = lake.query(_CONFIGS, [ids]).to_pylist()
            self._configs = {row["run_id"]: _parsed(row["config"]) for row in rows}

    def difference(self, a: str, b: str) -> tuple[tuple[Setting, ...] | None, str | None]:
        """The settings that differ without seeds; else None, and why they are not known."""
        sides = []
        for name in (a, b):
            node = self._nodes.get(name)
            configs = [self._configs[run] for run in node.run_ids if run in self._configs] if node else []
            if WITHHELD in configs:
                return None, _WITHHELD
            plain = [without_seeds(config) for config in configs if isinstance(config, Mapping)]
            if not plain:
                return None, f"{name} was {NO_RUN}"
            sides.append(plain)
        return tuple(differences(*sides)), None

    def commits(self, name: str) -> tuple[str, ...]:
        """Those at which a version was made."""
        node = self._nodes.get(name)
        return node.git_commits if node else ()


def _parsed(config: Any) -> Any:
    if isinstance(config, str):
        try:
            return json.loads(config)
        except ValueError:
            return config
    return config
