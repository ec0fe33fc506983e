"""Graph: versions and their parents, from all that was said of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from entrenar_processors.samples import Floats

from entrenar_otel.lineage.node import LineageEdge, LineageNode
from entrenar_otel.lineage.statements import Statements
from entrenar_otel.lineage.version_id import VersionId

#: The model of a parent of which only the ids of a span are known.
UNKNOWN_MODEL = "?"


class Evaluations(NamedTuple):
    """Of each version, by its place in `LineageGraph.places` `(v,)`: how often it was evaluated, and how."""

    counts: Floats
    mean: Floats
    variance: Floats


class Places(NamedTuple):
    """The graph in whole numbers, which are the places of versions: of all at once, that is fast.

    `up` has the parents of each version, `parent` and `child` the ends of all edges `(e,)`, `rows` the
    version of each statement, `is_known` whether there are statements about a version `(v,)`.
    """

    names: list[str]
    up: list[list[int]]
    parent: np.ndarray
    child: np.ndarray
    rows: np.ndarray
    is_known: np.ndarray


class LineageGraph:
    """Versions by `MODEL@VERSION`. Ancestry is what links say: no clock is asked who came first.

    `parents` has the change type by parent of each version that has any, `children` the other way round,
    `rows` the statements about each version: a parent without any is missing.
    """

    def __init__(self, statements: Statements) -> None:
        self.statements = statements
        self.rows: dict[str, list[int]] = {}
        self.parents: dict[str, dict[str, str | None]] = {}
        self.children: dict[str, list[str]] = {}
        self.places: dict[str, int] = {}
        self._spans: dict[tuple[str, str], str] = {}
        self._conflicts: dict[str, tuple[str, str]] | None = None
        self._cycles: list[tuple[str, ...]] | None = None
        self._numbered: Places | None = None
        self._add(0)

    def grow(self, start: int) -> None:
        """Take in the statements from this row on, which were appended."""
        self._conflicts = self._cycles = self._numbered = None
        self._add(start)

    def _add(self, start: int) -> None:
        said = self.statements
        ids = said.ids
        for row in range(start, len(ids)):
            self.rows.setdefault(ids[row], []).append(row)
            self.places.setdefault(ids[row], len(self.places))
        if not start:
            self._find_spans()
        links = list(said.links(start))
        if not start and len(links) > 1:
            rank = np.empty(len(ids), np.int64)
            rank[said.order] = np.arange(len(ids))
            places = np.argsort(rank[[link.row for link in links]], kind="stable").tolist()
            links = [links[place] for place in places]
        for row, named, change, span in links:
            parent = named or (self._named(span) if span else None)
            if parent is not None:
                self._link(parent, ids[row], change)

    def _find_spans(self) -> None:
        """Both a version's own span and its run's stand for it."""
        said = self.statements
        columns = [said.column(name) for name in ("trace_id", "span_id", "parent_span_id")]
        for name, trace, own, of_run in zip(said.ids, *columns, strict=True):
            if trace:
                self._spans[trace, of_run] = self._spans[trace, own] = name

    def _named(self, span: tuple[str, str]) -> str:
        return self._spans.get(span) or f"{UNKNOWN_MODEL}@{span[0]}-{span[1]}"

    def _link(self, parent: str, child: str, change: str | None) -> None:
        parents = self.parents.setdefault(child, {})
        if parent not in parents:
            parents[parent] = change
            self.children.setdefault(parent, []).append(child)
            self.places.setdefault(parent, len(self.places))
        elif change is not None:
            parents[parent] = change

    # -- versions and edges -----------------------------------------------------------------------

    def __contains__(self, name: object) -> bool:
        return name in self.places

    def is_missing(self, name: str) -> bool:
        return name not in self.rows

    def missing(self) -> list[str]:
        """Parents of which nothing is known."""
        return [name for name in self.places if name not in self.rows]

    def edges(self, children: Iterable[str] | None = None) -> Iterator[LineageEdge]:
        """The edges to these versions, or all."""
        for child in self.parents if children is None else children:
            for parent, change in self.parents.get(child, {}).items():
                yield LineageEdge(parent, child, change)

    def node(self, name: str, reason: str | None = None) -> LineageNode:
        """All that is known of a version; `reason` says why it is missing, where it is."""
        if self.is_missing(name):
            return LineageNode(_id_of(name), is_missing=True, reason=reason)
        rows = [self.statements.row(at) for at in self.rows[name]]
        rows.sort(key=lambda row: (row["source"] == "hand", row["created_at"]))
        metrics: dict[str, list[float]] = {}
        for row in rows:
            for metric, value in {"accuracy": row["accuracy"], **_others(row)}.items():
                if value is not None and math.isfinite(value):
                    is_first = row["source"] == "hand" or metric not in metrics
                    metrics[metric] = [value] if is_first else [*metrics[metric], value]
        accuracies = metrics.pop("accuracy", [])
        return LineageNode(
            VersionId(rows[0]["model_id"], rows[0]["version"]),
            accuracy=_mean(accuracies),
            accuracies=tuple(accuracies),
            created_at=min(row["created_at"] for row in rows),
            config_hash=next((row["config_hash"] for row in reversed(rows) if row["config_hash"]), None),
            metrics={metric: sum(values) / len(values) for metric, values in metrics.items()},
            run_ids=_once(row["run_id"] for row in rows),
            states=_once(row["state"] for row in rows),
            git_commits=_once(row["git_commit"] for row in rows),
            conflict=self.conflicts.get(name),
        )

    def samples(self, name: str, metric: str) -> list[float]:
        """The values of a stored metric of a version: what was said last by hand, else those of its runs."""
        numbers, is_by_hand = self.statements.numbers(metric), self.statements.is_by_hand
        rows = [row for row in self.rows.get(name, ()) if math.isfinite(numbers[row])]
        times = self.statements.column("created_at") if len(rows) > 1 else []
        if by_hand := [row for row in rows if is_by_hand[row]]:
            rows = [max(by_hand, key=lambda row: times[row])] if len(by_hand) > 1 else by_hand
        return [float(numbers[row]) for row in rows]

    def evaluations(self, metric: str) -> Evaluations:
        """The same of all versions at once, as counts, means and variances. NaN where there are none."""
        said = self.statements
        values, is_by_hand = said.numbers(metric), said.is_by_hand
        places = self.numbered.rows
        kept = np.isfinite(values)
        count = len(self.places)
        last = np.full(count, -1)
        order = said.order
        spoken = order[(kept & is_by_hand)[order]]
        last[places[spoken]] = spoken  # of several, the last one stays
        kept &= (last[places] == -1) | (last[places] == np.arange(len(said)))
        at, values = places[kept], values[kept]
        n = np.bincount(at, minlength=count).astype(np.float64)
        with np.errstate(all="ignore"):
            mean = np.bincount(at, values, count) / n
            variance = np.bincount(at, (values - mean[at]) ** 2, count) / (n - 1)
        return Evaluations(n, mean, np.where(n > 1, variance, np.nan))

    @property
    def numbered(self) -> Places:
        """The same in numbers."""
        if self._numbered is None:
            places = self.places
            up: list[list[int]] = [[] for _ in places]
            for name, parents in self.parents.items():
                up[places[name]] = [places[parent] for parent in parents]
            counts = np.fromiter(map(len, up), np.int64, len(up))
            parent = np.fromiter((one for parents in up for one in parents), np.int64, int(counts.sum()))
            rows = np.fromiter(map(places.__getitem__, self.statements.ids), np.int64, len(self.statements))
            is_known = np.zeros(len(places), bool)
            is_known[rows] = True
            child = np.repeat(np.arange(len(up)), counts)
            self._numbered = Places(list(places), up, parent, child, rows, is_known)
        return self._numbered

    def is_ancestor_of(self, name: str) -> np.ndarray:
        """Of each version `(v,)`, whether it is that one or an ancestor of it."""
        up, waiting = self.numbered.up, [self.places[name]]
        found = bytearray(len(up))
        found[waiting[0]] = 1
        for one in waiting:
            for parent in up[one]:
                if not found[parent]:
                    found[parent] = 1
                    waiting.append(parent)
        return np.frombuffer(found, bool)

    # -- ancestry ---------------------------------------------------------------------------------

    def ancestry(self, name: str) -> list[str]:
        """A version and all that it was made from, nearest first."""
        found = {name: None}
        waiting = [name]
        for one in waiting:
            for parent in self.parents.get(one, ()):
                if parent not in found:
                    found[parent] = None
                    waiting.append(parent)
        return waiting

    def path(self, ancestor: str, name: str) -> list[str] | None:
        """The shortest way from an ancestor to a version, both included; None where there is none."""
        via: dict[str, str] = {name: name}
        waiting = [name]
        for one in waiting:
            if one == ancestor:
                way = [one]
                while way[-1] != name:
                    way.append(via[way[-1]])
                return way
            for parent in self.parents.get(one, ()):
                if parent not in via:
                    via[parent] = one
                    waiting.append(parent)
        return None

    @property
    def cycles(self) -> list[tuple[str, ...]]:
        """Versions that are their own ancestors, each as the way around, its start once more at its end."""
        if self._cycles is None:
            self._cycles = list(self._find_cycles())
        return self._cycles

    def _find_cycles(self) -> Iterator[tuple[str, ...]]:
        left = self._not_sorted()
        if not left:
            return
        import networkx

        rest = networkx.DiGraph(
            (parent, child) for child in left for parent in self.parents[child] if parent in left
        )
        for group in networkx.strongly_connected_components(rest):
            around = rest.subgraph(group)
            if around.number_of_edges() and (len(group) > 1 or networkx.number_of_selfloops(around)):
                way = [edge[0] for edge in networkx.find_cycle(around, min(group))]
                yield (*way, way[0])

    def _not_sorted(self) -> set[str]:
        """Versions that no order of parents before children has a place for (Kahn, Comm. ACM 5, 1962)."""
        waiting = {child: len(parents) for child, parents in self.parents.items()}
        done = [name for name in self.places if name not in waiting]
        for name in done:
            for child in self.children.get(name, ()):
                waiting[child] -= 1
                if not waiting[child]:
                    done.append(child)
                    del waiting[child]
        return set(waiting)

    # -- two configurations -----------------------------------------------------------------------

    @property
    def conflicts(self) -> dict[str, tuple[str, str]]:
        """Versions that were made with two configurations, and who made them with which."""
        if self._conflicts is None:
            several = {name: rows for name, rows in self.rows.items() if len(rows) > 1}
            columns = ("config_hash", "config_group", "created_at")
            hashes, groups, times = (self.statements.column(name) for name in columns)
            self._conflicts = {}
            for name, rows in several.items():
                if (pair := _differing(sorted(rows, key=times.__getitem__), hashes, groups)) is not None:
                    first, second = (self._who(row) for row in pair)
                    self._conflicts[name] = first, second
        return self._conflicts

    def _who(self, at: int) -> str:
        row = self.statements.row(at)
        who = f"run {row['run_id']}" if row["run_id"] else "by hand"
        return f"{who}: configuration {row['config_hash'] or row['config_group']}"


def _id_of(name: str) -> VersionId:
    """A parent's; links of strangers may name anything."""
    model_id, at, version = name.rpartition("@")
    return VersionId(model_id, version) if at and model_id and version else VersionId(UNKNOWN_MODEL, name)


def _differing(rows: list[int], hashes: list[Any], groups: list[Any]) -> tuple[int, int] | None:
    """Two statements that neither a hash nor a group nor another statement connects."""
    known: set[str] = set()
    waiting = [row for row in rows if hashes[row] or groups[row]]
    if not waiting:
        return None
    first = waiting[0]
    grows = True
    while grows:
        grows = False
        for row in list(waiting):
            its = {one for one in (hashes[row], groups[row]) if one}
            if not known or its & known:
                known |= its
                waiting.remove(row)
                grows = True
    return (first, waiting[0]) if waiting else None


def _others(row: dict[str, Any]) -> dict[str, float]:
    return {metric: value for metric, value in row["metrics"].items() if metric != "accuracy"}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _once(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
