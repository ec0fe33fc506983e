"""DOT: a lineage for Graphviz."""

from __future__ import annotations

from entrenar_otel.lineage.render.scene import Mark, Scene, SceneNode

_STYLES = {
    Mark.MADE: "",
    Mark.STOPPED: ' fillcolor="#fff3cd" color="#8a6d00"',
    Mark.MISSING: ' style="rounded,dashed" color="#999999" fontcolor="#666666"',
    Mark.CONFLICT: ' fillcolor="#fde0dc" color="#c62828"',
}


def to_dot(scene: Scene) -> str:
    """The graph, from left to right.

    >>> from entrenar_otel.lineage.render.scene import SceneNode
    >>> print(to_dot(Scene((SceneNode("m@1", "1", "", "", Mark.MADE),), ())).splitlines()[4])
      v0 [label="1"];
    """
    places = {node.name: f"v{at}" for at, node in enumerate(scene.nodes)}
    lines = [
        "digraph lineage {",
        "  rankdir=LR;",
        '  node [shape=box style="rounded,filled" fillcolor="#e8f1fa" color="#2a6fa8" fontname="Helvetica"];',
        '  edge [fontname="Helvetica" fontsize=10 color="#666666"];',
    ]
    lines += [f'  {places[node.name]} [label="{_label(node)}"{_STYLES[node.mark]}];' for node in scene.nodes]
    for edge in scene.edges:
        label = "\\n".join(_escaped(word) for word in (edge.change, edge.effect) if word)
        worse = ' color="#c62828" fontcolor="#c62828"' if edge.is_worse else ""
        lines.append(f'  {places[edge.parent]} -> {places[edge.child]} [label="{label}"{worse}];')
    return "\n".join([*lines, "}"])


def _label(node: SceneNode) -> str:
    return "\\n".join(_escaped(part) for part in (node.title, node.value, node.note) if part)


def _escaped(text: str) -> str:
    """Within quotes, a backslash begins an escape, and an ampersand an entity of HTML."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
