"""Scene: what all renderings show of a lineage, each version and each edge in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from entrenar_otel.lineage.node import LineageNode
from entrenar_otel.lineage.words import signed
from entrenar_otel.redact import printable_line
from entrenar_otel.views.numbers import number

if TYPE_CHECKING:
    from entrenar_otel.lineage.lineage import Lineage


class Mark(StrEnum):
    """What is to be seen of a version at once."""

    MADE = "made"
    STOPPED = "stopped"
    MISSING = "missing"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class SceneNode:
    """A version: `title` is its name where it stands, `value` its accuracy, `note` what is odd about it."""

    name: str
    title: str
    value: str
    note: str
    mark: Mark
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class SceneEdge:
    """A change: what it was, and what became of the accuracy; `is_worse` where that fell."""

    parent: str
    child: str
    change: str
    effect: str
    is_worse: bool = False
    is_source: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Versions in their order, with edges between them; `left_out` older ones are not there.

    All texts are one printable line; each rendering escapes what its own language reads as a sign.
    """

    nodes: tuple[SceneNode, ...]
    edges: tuple[SceneEdge, ...]
    cycles: tuple[tuple[str, ...], ...] = ()
    left_out: int = 0


def scene_of(
    lineage: Lineage,
    model: str | None = None,
    *,
    most: int | None = None,
    source: tuple[str, str] | None = None,
) -> Scene:
    """Everything of a lineage, or of a model and its ancestors, at most the newest `most` versions.

    `source` is an edge to point at. Raises LineageError.
    """
    names = lineage.names(model)
    left_out = 0
    if most is not None and len(names) > most:
        left_out = len(names) - most
        names = _newest(lineage, names, most)
    is_one_model = len({name.rpartition("@")[0] for name in names}) == 1
    nodes = {name: lineage.node(name) for name in names}
    shown = {name: _node(name, node, is_one_model) for name, node in nodes.items()}
    edges = tuple(
        _edge(edge.parent_id, edge.child_id, edge.change_type, shown, source)
        for edge in lineage.graph.edges(names)
        if edge.parent_id in shown
    )
    own = set(names)
    cycles = tuple(way for way in lineage.cycles if own.intersection(way))
    return Scene(tuple(shown.values()), edges, cycles, left_out)


def _newest(lineage: Lineage, names: Sequence[str], most: int) -> list[str]:
    """The last of them by when they were made; missing ones go first."""
    nodes = {name: min(lineage.graph.rows.get(name, [-1])) for name in names}
    times = lineage.graph.statements.column("created_at")
    latest = sorted(names, key=lambda name: (nodes[name] >= 0, str(times[nodes[name]])))[-most:]
    kept = set(latest)
    return [name for name in names if name in kept]


def _node(name: str, node: LineageNode, is_one_model: bool) -> SceneNode:
    mark, note = Mark.MADE, ""
    if node.conflict:
        mark, note = Mark.CONFLICT, "two configurations"
    elif node.is_missing:
        mark, note = Mark.MISSING, f"missing: {node.reason}" if node.reason else "missing"
    elif set(node.states) == {"stopped"}:
        mark, note = Mark.STOPPED, "stopped"
    several = len(node.accuracies)
    value = "" if node.accuracy is None or node.conflict else number(node.accuracy)
    if value and several > 1:
        value += f" (mean of {several})"
    title = node.id.version if is_one_model else name
    accuracy = None if node.conflict else node.accuracy
    return SceneNode(name, printable_line(title), value, printable_line(note), mark, accuracy)


def _edge(
    parent: str,
    child: str,
    change: str | None,
    shown: dict[str, SceneNode],
    source: tuple[str, str] | None,
) -> SceneEdge:
    before, after = shown[parent].accuracy, shown[child].accuracy
    effect = None if before is None or after is None else after - before
    return SceneEdge(
        parent,
        child,
        printable_line(change or ""),
        "" if effect is None else signed(effect) if effect else "±0",
        is_worse=effect is not None and effect < 0,
        is_source=source == (parent, child),
    )
