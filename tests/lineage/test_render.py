"""Render: every format of the same lineage, with names that each language could misread."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from entrenar_otel.errors import LineageError
from entrenar_otel.lineage import Lineage
from entrenar_otel.lineage.render import render
from entrenar_otel.lineage.render.graphviz import lay_out_with_graphviz
from entrenar_otel.lineage.render.layout import lay_out
from entrenar_otel.lineage.render.picture import draw
from entrenar_otel.lineage.render.scene import scene_of

HOSTILE = 'x"]; <b>&amp;</b> $y^2$ `z` \\N %%{init} #quot; | \x1b[31m\n--> {a}'


@pytest.fixture
def lineage() -> Lineage:
    """A fork, a merge with another model, a missing parent and hostile words."""
    made = Lineage.open("lake")
    made.add_node("digits", "1.0.0", 0.85)
    made.add_node("digits", "1.1.0", 0.875, parents=["digits@1.0.0"], change_type="more_data")
    made.add_node("digits", "1.2.0", 0.8, parents=["digits@1.1.0", "gone@1"], change_type="tune")
    made.add_node("digits", "1.3.0", parents=["digits@1.1.0"], change_type=HOSTILE)
    return made


def test_text(lineage: Lineage) -> None:
    text = str(render(lineage, "text"))
    assert text.splitlines()[:3] == [
        "● digits@1.0.0  accuracy 0.85",
        "● digits@1.1.0  accuracy 0.875  +0.025  more_data",
        "├─● digits@1.2.0  accuracy 0.8  −0.075  tune  also from gone@1",
    ]
    assert text.splitlines()[-1] == "○ gone@1  missing"
    assert text.replace("\n", "").isprintable()
    assert len(text.splitlines()) == 5


def test_text_of_cycles_and_of_nothing(lineage: Lineage) -> None:
    other = Lineage.open("lake")
    lineage.add_node("m", "1", parents=["m@2"])
    other.add_node("m", "2", parents=["m@1"])
    lineage.refresh()
    text = str(render(lineage, "text", "m"))
    assert text.splitlines()[-1] == "! links make a version its own ancestor: m@1 → m@2 → m@1"
    assert len(text.splitlines()) == 3
    assert len(draw(scene_of(lineage, "m")).axes) == 1
    assert render(Lineage.open("empty"), "text") == "no versions"
    with pytest.raises(LineageError, match="expected a format of text"):
        render(lineage, "pdf")


def test_a_long_chain_is_no_recursion() -> None:
    """And stays at the left margin."""
    made = Lineage.open("lake")
    for at in range(1, 40):
        made.add_node("m", str(at), 0.5, parents=[f"m@{at - 1}"] if at > 1 else [])
    lines = str(render(made, "text")).splitlines()
    assert [line.split()[1] for line in lines] == [str(at) for at in range(1, 40)]
    scene = scene_of(made, most=10)
    assert ([node.title for node in scene.nodes], scene.left_out) == ([str(at) for at in range(30, 40)], 29)


def test_mermaid(lineage: Lineage) -> None:
    """Within quotes stand only signs that mean nothing there; the rest are entities."""
    text = str(render(lineage, "mermaid"))
    assert text.startswith("flowchart LR\n")
    assert '  v0["digits@1.0.0<br/>0.85"]' in text
    (hostile,) = re.findall(r'-->\|"(x.*)"\| v\d$', text, flags=re.M)
    assert not set('"`<>{}&%$') & set(hostile)
    assert len(text.splitlines()) == 1 + 5 + 4 + 2


def test_dot(lineage: Lineage) -> None:
    text = str(render(lineage, "dot"))
    (hostile,) = re.findall(r'-> v\d \[label="((?:[^"\\]|\\.)*)"\];$', text, flags=re.M)[-1:]
    assert hostile.startswith('x\\"]; <b>&amp;amp;</b>')
    assert "\\\\N" in hostile
    assert text.count("{") - hostile.count("{") == text.count("}") - hostile.count("}") == 1


def test_grafana(lineage: Lineage) -> None:
    """The fields of the node graph panel, and every edge's ends are nodes."""
    frames = json.loads(render(lineage, "json"))
    ids = {node["id"] for node in frames["nodes"]}
    assert {"id", "title", "mainstat", "secondarystat"} <= frames["nodes"][0].keys()
    assert {"id", "source", "target", "mainstat"} <= frames["edges"][0].keys()
    assert all({edge["source"], edge["target"]} <= ids for edge in frames["edges"])
    missing = next(node for node in frames["nodes"] if node["id"] == "gone@1")
    assert (missing["mainstat"], missing["secondarystat"]) == (None, "missing")


def test_pictures(lineage: Lineage, tmp_path: Path) -> None:
    """The same file each time; SVG is XML whatever names say."""
    png, svg = render(lineage, "png"), render(lineage, "svg")
    assert (png, svg) == (render(lineage, "png"), render(lineage, "svg"))
    assert isinstance(png, bytes)
    Path("a.png").write_bytes(png)
    high, wide = imread("a.png").shape[:2]
    assert wide > high > 100
    assert ET.fromstring(str(svg)).tag.endswith("svg")
    texts = [text.get_text() for text in draw(scene_of(lineage)).axes[0].texts]
    assert texts[0] == "Lineage of digits, gone"
    assert {"digits@1.0.0", "more_data", "+0.025", "−0.075", "missing"} <= set(texts)


@pytest.mark.parametrize("is_across", [True, False])
def test_boxes_are_apart(is_across: bool) -> None:
    """No two boxes overlap, and all lie within the picture."""
    names = [str(at) for at in range(30)]
    edges = [(str(at // 3), str(at)) for at in range(1, 30)] + [("0", "29"), ("1", "20"), ("2", "11")]
    sizes = {name: (1.0 + int(name) % 3, 0.5) for name in names}
    found = lay_out(names, edges, sizes, [(0.8, 0.3)] * len(edges), is_across=is_across)
    boxes = [(*found.nodes[name], *sizes[name]) for name in names]
    for at, (x, y, wide, high) in enumerate(boxes):
        assert wide / 2 - 1e-9 <= x <= found.width - wide / 2 + 1e-9
        assert high / 2 - 1e-9 <= y <= found.height - high / 2 + 1e-9
        for other_x, other_y, other_wide, other_high in boxes[:at]:
            apart = abs(x - other_x) >= (wide + other_wide) / 2 or abs(y - other_y) >= (high + other_high) / 2
            assert apart


def test_graphviz_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it says is taken; where it fails there is our own layout. The answer is Graphviz 2.42's."""
    names, edges, sizes = ["a", "b"], [("a", "b")], {"a": (1.0, 0.5), "b": (1.0, 0.5)}

    def ask() -> Any:
        return lay_out_with_graphviz(names, edges, sizes, [(0.5, 0.2)], is_across=False)

    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask() is None
    program = tmp_path / "dot"
    shape = '"" solid box black lightgrey'
    answer = "\n".join(
        (
            "graph 1 1 1.9",
            f"node 0 0.5 1.65 1 0.5 {shape}",
            f"node 1 0.5 0.25 1 0.5 {shape}",
            f"node w0 0.5 0.95 0.5 0.2 {shape}",
            "edge 0 w0 4 0.5 1.4 0.5 1.3 0.5 1.2 0.5 1.05 solid black",
            "edge w0 1 4 0.5 0.85 0.5 0.75 0.5 0.6 0.5 0.5 solid black",
            "stop",
        )
    )
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    found = ask()
    assert found.nodes == {"a": (0.5, 0.25), "b": (0.5, 1.65)}
    assert found.words == [pytest.approx((0.5, 0.95))]
    program.write_text("#!/bin/sh\necho nonsense\n")
    assert ask() is None
    program.write_text("#!/bin/sh\nexit 1\n")
    assert ask() is None


def test_of_an_unknown_model(lineage: Lineage) -> None:
    with pytest.raises(LineageError, match=r"no versions of a model 'digit' in .*; close to it: digits"):
        render(lineage, "text", "digit")
