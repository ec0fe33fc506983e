"""`lineage` as a command: what it prints and writes, and clear words for what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lineage import Lineage

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def versions() -> None:
    made = Lineage.open("lake")
    made.add_node("digits", "1.0.0", 0.85)
    made.add_node("digits", "1.1.0", 0.8, parents=["digits@1.0.0"], change_type="tune\x1b[31m")


def test_show_needs_no_name(cli: Cli) -> None:
    expected = "● 1.0.0  accuracy 0.85\n● 1.1.0  accuracy 0.8  −0.05  tune?[31m\n"
    for arguments in ((), ("digits",), ("show",), ("show", "digits"), ("--format", "text", "digits")):
        assert cli("lineage", *arguments) == (0, expected, "")


def test_files(cli: Cli) -> None:
    """The end of the name says the format; `--format` wins."""
    for name, start in (
        ("a.png", b"\x89PNG"),
        ("a.svg", b"<?xml"),
        ("a.dot", b"digraph"),
        ("a", b"\xe2\x97\x8f"),
    ):
        verb = "drawn in" if name in ("a.png", "a.svg") else "written to"
        assert cli("lineage", "-o", name) == (0, f"lineage {verb} {name}\n", "")
        assert Path(name).read_bytes().startswith(start)
    assert cli("lineage", "-o", "a.txt", "-f", "mermaid").code == 0
    assert Path("a.txt").read_text().startswith("flowchart LR")
    assert len(json.loads(cli("lineage", "--json").out)["nodes"]) == 2


def test_blame(cli: Cli) -> None:
    answer = cli("lineage", "blame", "digits@1.1.0")
    assert answer.code == 0
    assert answer.out.startswith("digits@1.0.0 → digits@1.1.0 (tune?[31m): accuracy 0.85 → 0.8 (−5.9 %)\n")
    found = json.loads(cli("lineage", "blame", "digits@1.1.0", "--format", "json").out)
    assert (found["source"]["child"], found["source"]["effect"]) == ("digits@1.1.0", pytest.approx(-0.05))
    assert (
        json.loads(cli("lineage", "blame", "digits@1.1.0", "--tolerance", "0.1", "--json").out)["source"]
        is None
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["digit"], "no versions of a model 'digit' in"),
        (["blame", "digits@1.1"], "no version 'digits@1.1' in"),
        (["blame", "digits"], "expected MODEL@VERSION"),
        (["blame", "digits@1.1.0", "-m", "loss"], "no version has a metric 'loss'"),
        (["blame"], "Missing argument"),
        (["-f", "xml"], "'xml' is not one of"),
    ],
)
def test_what_goes_wrong_is_one_message(arguments: list[str], told: str, cli: Cli) -> None:
    answer = cli("lineage", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert "Traceback" not in answer.err
