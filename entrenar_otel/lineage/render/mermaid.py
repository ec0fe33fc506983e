"""Mermaid: a lineage as a flowchart, which GitHub, GitLab and documentation sites draw."""

from __future__ import annotations

from entrenar_otel.lineage.render.scene import Mark, Scene, SceneNode

_CLASSES = {
    Mark.STOPPED: "classDef stopped fill:#fff3cd,stroke:#8a6d00,color:#222",
    Mark.MISSING: "classDef missing fill:#fff,stroke:#999,color:#666,stroke-dasharray:4",
    Mark.CONFLICT: "classDef conflict fill:#fde0dc,stroke:#c62828,color:#222",
}
#: Signs that Mermaid, Markdown or HTML would read, as entities of Mermaid's own: `#` and the number.
_ENTITIES = {ord(sign): f"#{ord(sign)};" for sign in '"#;<>&`*{}\\%$'}


def to_mermaid(scene: Scene) -> str:
    """The flowchart, from left to right.

    >>> from entrenar_otel.lineage.render.scene import SceneNode
    >>> print(to_mermaid(Scene((SceneNode("m@1", "1", "0.9", "", Mark.MADE),), ())))
    flowchart LR
      v0["1<br/>0.9"]
    """
    places = {node.name: f"v{at}" for at, node in enumerate(scene.nodes)}
    lines = ["flowchart LR"]
    lines += [f'  {places[node.name]}["{_label(node)}"]{_class(node)}' for node in scene.nodes]
    worse = []
    for at, edge in enumerate(scene.edges):
        words = "<br/>".join(_escaped(word) for word in (edge.change, edge.effect) if word)
        label = f'|"{words}"|' if words else ""
        lines.append(f"  {places[edge.parent]} -->{label} {places[edge.child]}")
        if edge.is_worse:
            worse.append(str(at))
    if worse:
        lines.append(f"  linkStyle {','.join(worse)} stroke:#c62828")
    marks = {node.mark for node in scene.nodes}
    lines += [f"  {text}" for mark, text in _CLASSES.items() if mark in marks]
    return "\n".join(lines)


def _label(node: SceneNode) -> str:
    return "<br/>".join(_escaped(part) for part in (node.title, node.value, node.note) if part)


def _class(node: SceneNode) -> str:
    return f":::{node.mark}" if node.mark in _CLASSES else ""


def _escaped(text: str) -> str:
    return text.translate(_ENTITIES)
