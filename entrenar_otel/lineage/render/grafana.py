"""Grafana: a lineage as the two frames of its node graph panel, for a JSON data source such as Infinity."""

from __future__ import annotations

from typing import Any

from entrenar_otel.lineage.render.scene import Mark, Scene

_COLOURS = {
    Mark.MADE: "#2a8fd8",
    Mark.STOPPED: "#b8860b",
    Mark.MISSING: "#8a8a8a",
    Mark.CONFLICT: "#c62828",
}


def to_grafana(scene: Scene) -> dict[str, Any]:
    """`nodes` and `edges`, with the fields that the panel reads."""
    return {
        "nodes": [
            {
                "id": node.name,
                "title": node.title,
                "subtitle": node.note,
                "mainstat": node.accuracy,
                "secondarystat": node.mark.value,
                "color": _COLOURS[node.mark],
            }
            for node in scene.nodes
        ],
        "edges": [
            {
                "id": f"{edge.parent} → {edge.child}",
                "source": edge.parent,
                "target": edge.child,
                "mainstat": edge.change,
                "secondarystat": edge.effect,
                "color": _COLOURS[Mark.CONFLICT if edge.is_worse else Mark.MISSING],
            }
            for edge in scene.edges
        ],
    }
