"""Render: a lineage as text, Mermaid, DOT, a picture, what Grafana's node graph reads, or OpenLineage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from entrenar_otel.errors import LineageError

if TYPE_CHECKING:
    from entrenar_otel.lineage.lineage import Lineage

Format = Literal["text", "mermaid", "dot", "svg", "png", "json", "openlineage"]
#: A picture with more versions shows none of them.
_MOST_IN_PICTURE = 60


def render(lineage: Lineage, form: str, model: str | None = None) -> str | bytes:
    """All versions, or those of a model with their ancestors; a PNG as bytes, all else as text.

    A picture has the newest 60. Raises LineageError, MissingExtra.
    """
    from entrenar_otel.lineage.render.scene import scene_of

    if form == "openlineage":
        from entrenar_otel.lineage.openlineage import events_of

        return "\n".join(json.dumps(event, ensure_ascii=False) for event in events_of(lineage, model))
    if form in ("svg", "png"):
        from entrenar_otel.lineage.render.picture import to_picture

        made = to_picture(scene_of(lineage, model, most=_MOST_IN_PICTURE), form)
        return made.decode() if form == "svg" else made
    scene = scene_of(lineage, model)
    if form == "text":
        from entrenar_otel.lineage.render.text import to_text

        return to_text(scene)
    if form == "mermaid":
        from entrenar_otel.lineage.render.mermaid import to_mermaid

        return to_mermaid(scene)
    if form == "dot":
        from entrenar_otel.lineage.render.dot import to_dot

        return to_dot(scene)
    if form == "json":
        from entrenar_otel.lineage.render.grafana import to_grafana

        return json.dumps(to_grafana(scene), indent=2, ensure_ascii=False, allow_nan=False)
    raise LineageError(
        f"expected a format of text, mermaid, dot, svg, png, json or openlineage, got {form!r}"
    )
