"""Text: a lineage as a tree for a terminal, in which an only child stands straight below its parent.

A version with several parents stands below the first of them and names the others.
"""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_otel.lineage.render.scene import Mark, Scene, SceneEdge, SceneNode

_SIGNS = {Mark.MADE: "●", Mark.STOPPED: "◐", Mark.MISSING: "○", Mark.CONFLICT: "!"}


def to_text(scene: Scene) -> str:
    """The tree; a line per version.

    >>> from entrenar_otel.lineage.render.scene import SceneEdge, SceneNode
    >>> nodes = [SceneNode(f"m@{at}", str(at), "0.9", "", Mark.MADE) for at in (1, 2, 3)]
    >>> edges = [SceneEdge("m@1", f"m@{at}", "tune", "") for at in (2, 3)]
    >>> print(to_text(Scene(tuple(nodes), tuple(edges))))
    ● 1  accuracy 0.9
    ├─● 2  accuracy 0.9  tune
    └─● 3  accuracy 0.9  tune
    """
    lines = list(_Tree(scene).lines())
    if scene.left_out:
        lines.append(f"… {scene.left_out:,} older versions are left out")
    lines += [f"! links make a version its own ancestor: {' → '.join(way)}" for way in scene.cycles]
    return "\n".join(lines) or "no versions"


class _Tree:
    def __init__(self, scene: Scene) -> None:
        self.nodes = {node.name: node for node in scene.nodes}
        self.above: dict[str, list[SceneEdge]] = {}
        for edge in scene.edges:
            self.above.setdefault(edge.child, []).append(edge)
        self.below: dict[str, list[SceneEdge]] = {}
        for node in scene.nodes:
            if node.name in self.above:
                first = self.above[node.name][0]
                self.below.setdefault(first.parent, []).append(first)
        self.done: set[str] = set()

    def lines(self) -> Iterator[str]:
        roots = [name for name in self.nodes if name not in self.above]
        for name in (*roots, *self.nodes):  # what is in a cycle has no root
            if name not in self.done:
                yield from self._tree(name)

    def _tree(self, root: str) -> Iterator[str]:
        waiting: list[tuple[str, SceneEdge | None, str, str]] = [(root, None, "", "")]
        while waiting:
            name, edge, first, rest = waiting.pop()
            if name in self.done:
                continue
            self.done.add(name)
            yield first + self._line(self.nodes[name], edge)
            edges = [below for below in self.below.get(name, ()) if below.child not in self.done]
            for at, below in enumerate(reversed(edges)):
                if len(edges) == 1:
                    waiting.append((below.child, below, rest, rest))
                else:
                    branch, line = ("└─", "  ") if at == 0 else ("├─", "│ ")
                    waiting.append((below.child, below, rest + branch, rest + line))

    def _line(self, node: SceneNode, edge: SceneEdge | None) -> str:
        parts = [f"{_SIGNS[node.mark]} {node.title}"]
        if node.value:
            parts.append(f"accuracy {node.value}")
        if edge is not None:
            parts += [edge.effect, edge.change]
        others = [self.nodes[one.parent].title for one in self.above.get(node.name, ()) if one is not edge]
        if others:
            parts.append(f"{'also ' if edge else ''}from {', '.join(others)}")
        if edge is not None and edge.is_source:
            parts.append("◀ the regression's source")
        parts.append(node.note)
        return "  ".join(part for part in parts if part)
