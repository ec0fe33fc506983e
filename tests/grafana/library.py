"""Grafana's own library, @grafana/data, as it runs in its browsers: units and transformations."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.collector.process import built

_FOLDER = Path(__file__).with_name("node")


def _run(script: str, given: object = None) -> Any:
    """What a script of tests/grafana/node answers. Skips without Node."""
    modules = built("test-program", "grafana")
    done = subprocess.run(
        ["node", _FOLDER / script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NODE_PATH": modules},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def units() -> set[str]:
    """The ids of all units that it knows."""
    return set(_run("units.js"))


class Frame:
    """What a panel is given to draw: columns by their names, in order."""

    def __init__(self, fields: Sequence[dict[str, Any]]) -> None:
        self.names = [one["name"] for one in fields]
        assert len({*self.names}) == len(self.names), self.names
        self.types = {one["name"]: one["type"] for one in fields}
        self.ascends = {one["name"]: one["ascends"] for one in fields}
        self._values = {one["name"]: one["values"] for one in fields}

    def __getitem__(self, name: str) -> list[Any]:
        """The values of a column: numbers, "NaN", texts, or none."""
        values: list[Any] = self._values[name]
        return values

    def rows(self) -> list[tuple[Any, ...]]:
        """Row by row."""
        return list(zip(*(self._values[name] for name in self.names), strict=True))


def transformed(panels: Sequence[dict[str, Any]]) -> list[list[Frame]]:
    """The frames of each panel after its transformations: `targets`, each with its `answer` of Prometheus.

    An answer is the `result` of Prometheus' API, of a range or of an instant.
    """
    return [[Frame(frame["fields"]) for frame in one] for one in _run("transform.js", panels)]
