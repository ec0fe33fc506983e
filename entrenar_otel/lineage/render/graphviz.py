"""Graphviz: the layout of a scene by its `dot`, where that is installed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from entrenar_otel.lineage.render.layout import Layout, Point

_TIMEOUT_SECONDS = 20.0


def lay_out_with_graphviz(
    names: Sequence[str],
    edges: Sequence[tuple[str, str]],
    sizes: Mapping[str, Point],
    words: Sequence[Point],
    *,
    is_across: bool,
) -> Layout | None:
    """As `lay_out`; None where there is no `dot`, or it does not answer as it should."""
    if (program := shutil.which("dot")) is None or not names:
        return None
    text = _question(names, edges, sizes, words, is_across)
    try:
        done = subprocess.run(
            [program, "-Tplain"],
            input=text,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
        )
        return _answer(done.stdout, names, edges, is_across)
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, IndexError):
        return None  # ours is good enough


def _question(
    names: Sequence[str],
    edges: Sequence[tuple[str, str]],
    sizes: Mapping[str, Point],
    words: Sequence[Point],
    is_across: bool,
) -> str:
    """The graph in DOT with numbers for names; the words on an edge are a box on its way."""
    places = {name: at for at, name in enumerate(names)}
    lines = [
        "digraph {",
        f"rankdir={'LR' if is_across else 'TB'}; ranksep=0.35; nodesep=0.25;",
        'node [shape=box fixedsize=true label=""];',
    ]
    for name in names:
        wide, high = sizes[name]
        lines.append(f"{places[name]} [width={wide:.3f} height={high:.3f}];")
    for at, ((parent, child), (wide, high)) in enumerate(zip(edges, words, strict=True)):
        lines.append(f"w{at} [width={wide:.3f} height={high:.3f}];")
        lines.append(f"{places[parent]} -> w{at} -> {places[child]};")
    return "\n".join([*lines, "}"])


def _answer(text: str, names: Sequence[str], edges: Sequence[tuple[str, str]], is_across: bool) -> Layout:
    """What `dot -Tplain` says: inches, y upwards; the points of an edge are those of Bézier curves."""
    width = height = 0.0
    middles: dict[str, Point] = {}
    curves: dict[tuple[str, str], list[Point]] = {}
    for line in text.splitlines():
        kind, *words = shlex.split(line)
        if kind == "graph":
            width, height = float(words[1]), float(words[2])
        elif kind == "node":
            middles[words[0]] = float(words[1]), height - float(words[2])
        elif kind == "edge":
            count = int(words[2])
            numbers = [float(word) for word in words[3 : 3 + 2 * count]]
            points = [(x, height - y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
            curves[words[0], words[1]] = points[3:-1:3]
    nodes = {name: middles[str(at)] for at, name in enumerate(names)}
    places = {name: str(at) for at, name in enumerate(names)}
    on_edges = [middles[f"w{at}"] for at in range(len(edges))]
    chains = [
        [
            nodes[parent],
            *curves[places[parent], f"w{at}"],
            on_edges[at],
            *curves[f"w{at}", places[child]],
            nodes[child],
        ]
        for at, (parent, child) in enumerate(edges)
    ]
    return Layout(nodes, chains, on_edges, width, height, is_across)
