"""Picture: a lineage as PNG or SVG, by matplotlib: boxes for versions, arrows for what was changed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from entrenar_processors.counts import counted
from entrenar_processors.extras import MissingExtra

from entrenar_otel.lineage.render.graphviz import lay_out_with_graphviz
from entrenar_otel.lineage.render.layout import Layout, Point, lay_out, layers
from entrenar_otel.lineage.render.scene import Mark, Scene, SceneEdge, SceneNode
from entrenar_otel.views.look import DIM, INK, PAPER, RULE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 130
#: Inches: of a sign at the size of titles and of words, a line, around the text of a box, around it all.
_TITLE_SIGN, _SIGN, _LINE, _PAD, _MARGIN = 0.098, 0.076, 0.19, 0.14, 0.35
#: Longer texts are cut.
_MOST_SIGNS = 40
#: With more layers, they go down the page.
_MOST_ACROSS = 6
_HEAD = 0.55


class _Box(NamedTuple):
    fill: str
    line: str
    text: str
    style: str = "solid"


_BOXES = {
    Mark.MADE: _Box("#e8f1fa", "#2a6fa8", INK),
    Mark.STOPPED: _Box("#fff3cd", "#8a6d00", INK),
    Mark.MISSING: _Box(PAPER, RULE, DIM, "dashed"),
    Mark.CONFLICT: _Box("#fde0dc", "#c62828", INK),
}
_WORSE, _EDGE, _BETTER = "#c62828", "#5f6b76", "#2e7d32"


def to_picture(scene: Scene, form: str) -> bytes:
    """The content of a file, `png` or `svg`; the same scene gives the same. Raises MissingExtra."""
    figure = draw(scene)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sign that no font has becomes a box
        import matplotlib

        with matplotlib.rc_context({"svg.hashsalt": "lineage"}):
            metadata: Any = {"Date": None} if form == "svg" else None
            figure.savefig(file, format=form, dpi=_DPI, facecolor=PAPER, metadata=metadata)
    return file.getvalue()


def draw(scene: Scene) -> Figure:
    """The figure; it belongs to no window and to no `pyplot`. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a picture of a lineage", "matplotlib", "view") from None
    found = _laid_out(scene)
    wide = max(found.width + 2 * _MARGIN, 5.2)
    high = found.height + 2 * _MARGIN + _HEAD
    figure = Figure(figsize=(wide, high), facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    left = (wide - found.width) / 2
    axes.set_xlim(-left, wide - left)
    axes.set_ylim(found.height + _MARGIN, -_MARGIN - _HEAD)
    text = _Text(axes)
    text.put((-left + 0.2, -_HEAD - 0.1), _title(scene), size=13, weight="bold", ha="left")
    text.put((-left + 0.2, -_HEAD + 0.17), _facts(scene), size=8.5, color=DIM, ha="left")
    nodes = {node.name: node for node in scene.nodes}
    for edge, points, at in zip(scene.edges, found.edges, found.words, strict=True):
        start, end = (_size(nodes[name]) for name in (edge.parent, edge.child))
        _draw_edge(axes, text, edge, _Way.of(points, start, end, found.is_across), at)
    for node in scene.nodes:
        _draw_node(axes, text, node, found.nodes[node.name])
    return figure


def _laid_out(scene: Scene) -> Layout:
    names = [node.name for node in scene.nodes]
    edges = [(edge.parent, edge.child) for edge in scene.edges]
    sizes = {node.name: _size(node) for node in scene.nodes}
    is_across = max(layers(names, edges).values(), default=0) < _MOST_ACROSS
    words = [_size_of_words(edge) for edge in scene.edges]
    found = lay_out_with_graphviz(names, edges, sizes, words, is_across=is_across)
    return found or lay_out(names, edges, sizes, words, is_across=is_across)


def _size_of_words(edge: SceneEdge) -> Point:
    words = _words(edge)
    return max((len(word) * _SIGN for word in words), default=0.2) + 0.1, max(len(words), 1) * _LINE


def _title(scene: Scene) -> str:
    models = sorted({node.name.rpartition("@")[0] for node in scene.nodes})
    return f"Lineage of {_cut(', '.join(models))}" if models else "No versions"


def _facts(scene: Scene) -> str:
    facts = [counted(len(scene.nodes), "version")]
    if any(edge.effect for edge in scene.edges):
        facts.append("numbers are accuracies; red where it fell")
    if scene.left_out:
        facts.append(f"{scene.left_out:,} older ones are left out")
    if scene.cycles:
        facts.append(f"{counted(len(scene.cycles), 'cycle')}: a version is its own ancestor")
    return "  ·  ".join(facts)


def _lines(node: SceneNode) -> list[str]:
    return [_cut(part) for part in (node.value, node.note) if part]


def _words(edge: SceneEdge) -> list[str]:
    return [_cut(part) for part in (edge.change, edge.effect) if part]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SIGNS else text[: _MOST_SIGNS - 1] + "…"


def _size(node: SceneNode) -> Point:
    wide = max([len(_cut(node.title)) * _TITLE_SIGN, *(len(line) * _SIGN for line in _lines(node))])
    return max(0.9, wide + 2 * _PAD), (1 + len(_lines(node))) * _LINE + 1.6 * _PAD


class _Text:
    """Puts texts that are nothing but text: no formulas."""

    def __init__(self, axes: Any) -> None:
        self._axes = axes

    def put(self, at: Point, text: str, **style: Any) -> None:
        given = {"ha": "center", "va": "center", "color": INK, "usetex": False, **style}
        self._axes.text(*at, text, **given).set_parse_math(False)


def _draw_node(axes: Any, text: _Text, node: SceneNode, middle: Point) -> None:
    from matplotlib.patches import FancyBboxPatch

    wide, high = _size(node)
    box = _BOXES[node.mark]
    x, y = middle
    axes.add_patch(
        FancyBboxPatch(
            (x - wide / 2, y - high / 2),
            wide,
            high,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor=box.fill,
            edgecolor=box.line,
            linewidth=1.3,
            linestyle=box.style,
            zorder=3,
        )
    )
    lines = _lines(node)
    top = y - len(lines) * _LINE / 2
    text.put((x, top), _cut(node.title), size=11, weight="bold", color=box.text, zorder=4)
    for at, line in enumerate(lines, start=1):
        is_note = line == _cut(node.note)
        text.put((x, top + at * _LINE), line, size=9, color=box.line if is_note else box.text, zorder=4)


def _draw_edge(axes: Any, text: _Text, edge: SceneEdge, way: _Way, middle: Point) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    colour = _WORSE if edge.is_worse else _EDGE
    points, codes = way.curve()
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points, codes),
            arrowstyle="-|>,head_length=5,head_width=2.6",
            linewidth=2.4 if edge.is_source else 1.3,
            color=colour,
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )
    x, y = middle
    words = _words(edge)
    for at, word in enumerate(words):
        is_effect = word == edge.effect and at == len(words) - 1
        ink = DIM if not is_effect else _WORSE if edge.is_worse else _BETTER
        place = (x, y + (at - (len(words) - 1) / 2) * _LINE)
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}
        text.put(
            place, word, size=8.5, color=ink, zorder=5, bbox=box, weight="bold" if is_effect else "normal"
        )


class _Way(NamedTuple):
    """The points of an edge, from box to box, each piece leaving and arriving along the layers."""

    points: Sequence[Point]
    is_across: bool

    @classmethod
    def of(cls, points: Sequence[Point], start: Point, end: Point, is_across: bool) -> _Way:
        """From the side of the box of size `start` to that of size `end`."""
        along = 0 if is_across else 1
        first, last = points[0], points[-1]
        sign = 1 if last[along] >= first[along] else -1
        return cls(
            [
                _moved(first, along, sign * start[along] / 2),
                *points[1:-1],
                _moved(last, along, -sign * (end[along] / 2 + 0.02)),
            ],
            is_across,
        )

    def curve(self) -> tuple[list[Point], list[int]]:
        """Points and codes of matplotlib's path: cubic Bézier curves."""
        points, codes = [self.points[0]], [1]
        along = 0 if self.is_across else 1
        for one, other in pairwise(self.points):
            half = (other[along] - one[along]) / 2
            points += [_moved(one, along, half), _moved(other, along, -half), other]
            codes += [4, 4, 4]
        return points, codes


def _moved(point: Point, along: int, by: float) -> Point:
    return (point[0] + by, point[1]) if along == 0 else (point[0], point[1] + by)
