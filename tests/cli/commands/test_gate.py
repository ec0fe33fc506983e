"""`ci` and `config` as commands: exit codes, and what becomes of files that are missing or invalid."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
BUDGET = '[[assertion]]\nname = "a"\ntype = "span_count"\nmax_spans = 10_000\n'
BAD = "[monitor]\nlake = 3\n[monitor.spike]\nwidow = [1]\n"

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[assertion]\n", "renacer.toml"),
        ('[[assertion]]\nname = "a"\ntype = "span_count"\n', "max_spans"),
        ('[[assertion]]\nname = "a"\ntype = "custom"\nexpression = "open(1) < 2"\n', "expected one of p50"),
        (f'{BUDGET}span_name_pattern = "("\n', "regular"),
    ],
)
def test_an_invalid_file_is_no_gate(text: str, told: str, cli: Cli) -> None:
    """Exit code 2, and what is wrong in one message."""
    Path("renacer.toml").write_text(text)
    answer = cli("ci")
    assert (answer.code, told in answer.err, "Traceback" in answer.err) == (2, True, False)


def test_what_cannot_be_judged(runs: None, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no lake, no such run: exit code 2. No assertions: nothing to judge, 0, no run needed."""
    missing = cli("ci")
    assert (missing.code, "no settings file renacer.toml" in missing.err) == (2, True)
    Path("renacer.toml").write_text(BUDGET)
    unknown = cli("ci", "nothing")
    assert (unknown.code, "no run 'nothing'" in unknown.err) == (2, True)
    assert cli("ci", "digits-7").code == 0
    monkeypatch.setenv("ENTRENAR_LAKE", "nowhere")
    assert cli("ci").code == 2
    Path("renacer.toml").write_text("[monitor]\n")
    empty = cli("ci")
    assert (empty.code, empty.out) == (0, "no [[assertion]] in renacer.toml: nothing to judge\n")
    assert json.loads(cli("ci", "-f", "json").out)["budgets"] == []
    assert ET.fromstring(cli("ci", "-f", "junit").out).get("tests") == "0"


def test_config_check_of_no_file(cli: Cli) -> None:
    """To check what is not there is an error, not the defaults."""
    gone = "gone.toml: expected a file, found none\n"
    assert cli("config", "check", "gone.toml") == (2, "", gone)
    usual = cli("config", "check")
    assert (usual.code, usual.out) == (2, "")
    assert usual.err.startswith("renacer.toml: expected a file, found none\nWithout one, the defaults hold")


def test_other_commands_say_the_same(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not go on with half of a file."""
    monkeypatch.delenv("ENTRENAR_LAKE")  # else the file is not asked
    Path("renacer.toml").write_text(BAD)
    checked, answer = cli("config", "check"), cli("ls")
    assert len(checked.err.splitlines()) == 2
    assert answer == (2, "", f"error: {checked.err}")


def test_the_schema_is_the_committed_one(cli: Cli) -> None:
    """Printed so that it can be redirected into a file."""
    committed = (ROOT / "docs" / "renacer.schema.json").read_text(encoding="utf-8")
    assert cli("config", "schema") == (0, committed, "")
