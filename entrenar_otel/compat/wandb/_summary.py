"""Summary: `run.summary`, of each metric one number, and what the program sets itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from entrenar_otel.compat.wandb._by_attribute import ByAttribute


class Definition(NamedTuple):
    """What `define_metric` said of the metrics of a name, in which `*` stands for anything."""

    name: str
    step_metric: str | None
    summaries: tuple[str, ...]
    """Of `min`, `max`, `mean`, `last`, `first`, `best`, `none`."""
    goal: str | None

    def matches(self, name: str) -> bool:
        return self.name == name or ("*" in self.name and fnmatchcase(name, self.name))


#: Of two values of a metric, the one that counts; the number of those before it is given.
_CHOOSE: dict[str, Callable[[float, float, int], float]] = {
    "min": lambda old, new, _n: new if not old <= new else old,
    "max": lambda old, new, _n: new if not old >= new else old,
    "mean": lambda old, new, n: old + (new - old) / (n + 1),
    "last": lambda _old, new, _n: new,
    "first": lambda old, _new, _n: old,
}


class Summary(ByAttribute):
    """As `run.summary`: the last value of each metric, or what `define_metric` asked for; and what was set.

    >>> summary = Summary()
    >>> summary.define(Definition("val/*", None, ("min",), None))
    >>> for loss in (0.5, 0.3, 0.4): summary.take({"loss": loss, "val/loss": loss})
    >>> summary["best"] = 1
    >>> dict(summary)
    {'loss': 0.4, 'val/loss.min': 0.3, 'best': 1}
    """

    def __init__(self) -> None:
        super().__init__("the summary", {})
        object.__setattr__(self, "own", {})  # what the program has set itself
        object.__setattr__(self, "_definitions", [])
        object.__setattr__(self, "_kept", {})

    def define(self, definition: Definition) -> None:
        """Metrics of this name are summed up so from now on; the latest definition counts."""
        self._definitions.insert(0, definition)
        self._kept.clear()

    def step_metric_of(self, name: str) -> str | None:
        """The metric that is the x-axis of this one."""
        return next((d.step_metric for d in self._definitions if d.step_metric and d.matches(name)), None)

    def take(self, metrics: Mapping[str, float]) -> None:
        """A row was logged."""
        for name, value in metrics.items():
            kinds = self._kept.get(name)
            if kinds is None:
                kinds = self._kept[name] = [[kind, key, 0] for kind, key in self._keys(name)]
            for entry in kinds:
                kind, key, count = entry
                old = self._values.get(key, value) if count else value
                self._values[key] = value if math.isnan(old) else _CHOOSE[kind](old, value, count)
                entry[2] += 1

    def _keys(self, name: str) -> list[tuple[str, str]]:
        definition = next((d for d in self._definitions if d.summaries and d.matches(name)), None)
        if definition is None:
            return [("last", name)]
        kinds = [kind for kind in definition.summaries if kind in (*_CHOOSE, "best")]
        least = "max" if (definition.goal or "").startswith("max") else "min"
        return [
            (least if kind == "best" else kind, name if kind == "last" else f"{name}.{kind}")
            for kind in kinds
        ]

    def update(self, given: Any = (), /, **more: Any) -> None:
        """Set several."""
        for key, value in {**dict(given), **more}.items():
            self[key] = value

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[key] = self.own[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self.own.pop(key, None)
