"""Foreign run: what another tracker knows of a run."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from entrenar_otel.importers.points import Points
from entrenar_otel.lake.records.runs import COMPLETED

#: Is told which share of a run has been read, or written, from 0 to 1.
Watcher = Callable[[float], None]
_NO_ID = re.compile(r"[^A-Za-z0-9_.]+")
_MAX_NAME = 80


def unwatched(_share: float) -> None:
    """Nobody looks."""


@dataclass
class ForeignRun:
    """A run of another tracker, as its own reader tells of it."""

    source: str
    """The tracker: `tensorboard`, `wandb`, …"""
    source_id: str
    """What tells it from all other runs of that tracker, wherever its files lie."""
    name: str
    """What people call it."""
    points: Points = field(default_factory=Points)
    config: dict[str, Any] = field(default_factory=dict)
    state: str = COMPLETED
    reason: str | None = None
    started_ns: int | None = None
    """Wall time in nanoseconds; without one, that of the first value."""
    ended_ns: int | None = None
    model_id: str | None = None
    git_commit: str | None = None
    argv: list[str] = field(default_factory=list)
    host: str = ""
    python: str = ""
    labels: dict[str, Any] = field(default_factory=dict)
    """What else is said of it: project, group, tags, notes, a summary."""
    left_out: Counter[str] = field(default_factory=Counter)
    """By kind: how many entries are no numbers, and stay where they are."""
    names: set[str] = field(default_factory=set)
    """What `add` was given, numbers or not."""

    @property
    def run_id(self) -> str:
        """Its id in the lake, the same each time: the tracker, the name, and a digest of `source_id`.

        >>> ForeignRun("wandb", "team/digits/1f3kq2", "golden frog").run_id
        'wandb-golden-frog-0f50eec3'
        """
        name = _NO_ID.sub("-", self.name)[:_MAX_NAME].strip("-.") or "run"
        return f"{self.source}-{name}-{self.digest[:8]}"

    @property
    def span_ns(self) -> tuple[int, int]:
        """When it began and ended: as the tracker says, and no value lies outside."""
        start = self.started_ns if self.started_ns is not None else self.points.first_ns or 0
        return start, max(self.ended_ns or 0, start, self.points.last_ns or 0)

    @property
    def digest(self) -> str:
        """SHA-256 of whose run it is, in hexadecimal digits."""
        text = f"{self.source}\0{self.source_id}".encode("utf-8", "backslashreplace")
        return hashlib.sha256(text).hexdigest()

    def add(self, name: str, value: Any, *, time_ns: int, step: int | None, epoch: float | None) -> None:
        """Add an entry: a number as a value, mappings by `outer.inner`; other things are counted by kind."""
        self.names.add(name)
        for path, leaf in _leaves(name, value):
            if (number := number_in(leaf)) is not None:
                self.points.add(path, number, time_ns=time_ns, step=step, epoch=epoch)
            elif leaf is not None:
                self.left_out[_kind(leaf)] += 1


#: Under these names people log the epoch.
EPOCHS = ("epoch", "train/epoch", "trainer/epoch", "epochs")
#: What JSON has no number for, as trackers write it.
_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def number_in(value: Any) -> float | None:
    """The value as a number, if it is one; JSON's texts for what is not finite are."""
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    if isinstance(value, bool | int | float):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return None


def epoch_in(row: Mapping[str, Any]) -> float | None:
    """The epoch that a row of numbers is of, where it was logged with them.

    >>> epoch_in({"loss": 0.5, "train/epoch": 2.5}), epoch_in({"epoch": "two"})
    (2.5, None)
    """
    found = (row[name] for name in EPOCHS if isinstance(row.get(name), int | float))
    return next(found, None)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    waiting = [(name, value)]
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, dict) and "_type" not in one:
            waiting += [(f"{path}.{key}", inner) for key, inner in reversed(one.items())]
        else:
            yield path, one


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["_type"])
    return "text" if isinstance(value, str) else "list" if isinstance(value, list) else type(value).__name__
