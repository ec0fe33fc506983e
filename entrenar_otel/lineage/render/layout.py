"""Layout: where each version of a scene stands, in layers from what came first to what came of it.

After Sugiyama, Tagawa and Toda (IEEE Trans. Syst. Man Cybern. 11, 1981): layers by the longest way from a
root, edges over several layers as chains of points, order within a layer by the mean place of neighbours.
Graphviz's `dot` does the same, better, and is asked where it is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]

_SWEEPS = 24
#: Inches between two layers, and between two in one.
_GAP, _APART = 0.4, 0.25


@dataclass(frozen=True, slots=True)
class Layout:
    """The middles of boxes, the points that edges pass from box to box, where their words stand; in inches.

    x goes right and y down; `width` and `height` hold everything.
    """

    nodes: Mapping[str, Point]
    edges: Sequence[Sequence[Point]]
    words: Sequence[Point]
    width: float
    height: float
    is_across: bool


def lay_out(
    names: Sequence[str],
    edges: Sequence[tuple[str, str]],
    sizes: Mapping[str, Point],
    words: Sequence[Point],
    *,
    is_across: bool,
) -> Layout:
    """Versions in layers, across the page from the left or down from the top.

    `sizes` are widths and heights of boxes, `words` those of the words on edges, which stand in layers of
    their own between those of the boxes.

    >>> found = lay_out(["a", "b"], [("a", "b")], {"a": (1, 1), "b": (1, 1)}, [(2, 1)], is_across=True)
    >>> found.nodes, found.words
    ({'a': (0.5, 0.5), 'b': (4.3, 0.5)}, [(2.4, 0.5)])
    """
    along, beside = (0, 1) if is_across else (1, 0)
    layer = {name: 2 * level for name, level in layers(names, edges).items()}
    rows: list[list[str]] = [[] for _ in range(1 + max(layer.values(), default=0))]
    for name in names:
        rows[layer[name]].append(name)
    chains = []
    room = {name: sizes[name][beside] for name in names}
    deep = {name: sizes[name][along] for name in names}
    for at, (parent, child) in enumerate(edges):
        low, high = layer[parent], layer[child]
        between = [f"\0{at} {level}" for level in range(low + 1, high)]
        for level, bend in zip(range(low + 1, high), between, strict=True):
            rows[level].append(bend)
            room[bend], deep[bend] = (words[at][beside], words[at][along]) if level == low + 1 else (0.2, 0.0)
        chains.append([parent, *between, child])
    place = _places(rows, chains, room)
    start, middles = 0.0, []
    for row in rows:
        length = max((deep[name] for name in row), default=0.0)
        middles.append(start + length / 2)
        start += length + _GAP
    levels = {name: level for level, row in enumerate(rows) for name in row}

    def point(name: str) -> Point:
        return (middles[levels[name]], place[name]) if is_across else (place[name], middles[levels[name]])

    length = start - _GAP if rows else 0.0
    breadth = max((place[name] + room[name] / 2 for name in place), default=0.0)
    ways = [[point(name) for name in chain] for chain in chains]
    return Layout(
        nodes={name: point(name) for name in names},
        edges=ways,
        words=[way[1] if len(way) > 2 else _between(*way) for way in ways],
        width=length if is_across else breadth,
        height=breadth if is_across else length,
        is_across=is_across,
    )


def _between(one: Point, other: Point) -> Point:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2


def layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The longest way to each from a root; what is in a cycle stands one below the last that is not.

    >>> layers(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    {'a': 0, 'b': 1, 'c': 2}
    """
    below: dict[str, list[str]] = {}
    waiting = dict.fromkeys(names, 0)
    for parent, child in edges:
        below.setdefault(parent, []).append(child)
        waiting[child] += 1
    found = dict.fromkeys(names, 0)
    done = [name for name in names if not waiting[name]]
    for name in done:
        for child in below.get(name, ()):
            found[child] = max(found[child], found[name] + 1)
            waiting[child] -= 1
            if not waiting[child]:
                done.append(child)
    left = [name for name in names if waiting[name] > 0]
    for at, name in enumerate(left):
        found[name] += at
    return found


def _places(
    rows: Sequence[list[str]], chains: Sequence[Sequence[str]], room: Mapping[str, float]
) -> dict[str, float]:
    """The middle of each within its layer: near its neighbours', and apart from the next one."""
    neighbours: dict[str, list[str]] = {}
    for chain in chains:
        for one, other in pairwise(chain):
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
    place: dict[str, float] = {}
    for row in rows:
        _spread(row, dict.fromkeys(row, 0.0), room, place)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = {}
            for name in row:
                others = [place[other] for other in neighbours.get(name, ())]
                wanted[name] = sum(others) / len(others) if others else place[name]
            row.sort(key=wanted.__getitem__)
            _spread(row, wanted, room, place)
    least = min((place[name] - room[name] / 2 for name in place), default=0.0)
    return {name: at - least for name, at in place.items()}


def _spread(
    row: Sequence[str], wanted: Mapping[str, float], room: Mapping[str, float], place: dict[str, float]
) -> None:
    """Each where it is wanted, pushed apart where two do not fit; the layer's middle stays where it was."""
    if not row:
        return
    at: list[float] = []
    for number, name in enumerate(row):
        least = at[-1] + (room[row[number - 1]] + room[name]) / 2 + _APART if at else wanted[name]
        at.append(max(wanted[name], least))
    shift = sum(wanted[name] - one for name, one in zip(row, at, strict=True)) / len(row)
    place.update({name: one + shift for name, one in zip(row, at, strict=True)})
