"""`compare` as a command: text at two widths, JSON, Markdown, groups, production, and what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.text import Text

from entrenar_otel import Monitor
from entrenar_otel.cli.output import Console
from entrenar_otel.cli.sections import Section, cell, print_markdown, print_sections

Cli = Callable[..., Any]


@pytest.fixture
def two_versions(lake_of: Callable[..., None]) -> None:
    """Three runs of each version, of which 2.0.0 is better by 0.05, with a name that steers terminals."""
    lake_of("two-versions", _write_two_versions)


def _write_two_versions() -> None:
    for version, gain in (("1.0.0", 0.0), ("2.0.0", 0.05)):
        for seed in range(3):
            random = np.random.default_rng([seed, len(version) + round(gain * 100)])
            config = {"lr": round(0.1 + gain, 2), "seed": seed, "note": "\x1b[31mred [/bold]"}
            settings: dict[str, Any] = {"model_id": "digits", "version": version, "config": config}
            with Monitor(f"r{version}-{seed}", lake="lake", quiet=True, **settings) as monitor:
                offset = random.normal(0, 0.002)
                for step in range(60):
                    monitor.log(
                        loss=1 - gain - offset + random.normal(0, 0.01), step=step, **{"o|dd`\x1b[2J": 1.0}
                    )
                monitor.log(accuracy=0.8 + gain + offset, tags={"split": "validation"}, step=59)


@pytest.mark.parametrize("columns", [80, 120])
def test_text_for_people(columns: int, two_versions: None, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any width whole lines, with the verdicts; nothing steers the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    answer = cli("compare", "digits@1.0.0", "digits@2.0.0")
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    (accuracy,) = [line for line in lines if line.startswith("accuracy validation") and "better" in line]
    assert "+6." in accuracy
    assert "Settings that differ" in lines
    assert any(line.split() == ["lr", "0.1", "0.15"] for line in lines)
    assert "\x1b[2J" not in answer.out
    assert "\x1b[31m" not in answer.out
    header = next(line for line in lines if line.startswith("metric"))
    assert ("interval" in header.split()) == (columns > 80)


def test_json_has_all(two_versions: None, cli: Cli) -> None:
    for arguments in (("--json", "compare"), ("compare", "-f", "json")):
        answer = cli(*arguments, "digits@1.0.0", "digits@2.0.0")
        found = json.loads(answer.out)
        assert found["metrics"][0]["name"] == "accuracy validation"
        assert found["metrics"][0]["verdict"] == "better"
        assert found["a"]["run_ids"] == ["r1.0.0-0", "r1.0.0-1", "r1.0.0-2"]


def test_markdown_for_a_pull_request(two_versions: None, cli: Cli) -> None:
    """Tables with as many cells in each row, whatever the names."""
    answer = cli("compare", "digits@1.0.0", "digits@2.0.0", "-f", "markdown")
    assert answer.code == 0
    assert "### Metrics\n\n| metric | A | B | B − A | % | interval | p | verdict |\n" in answer.out
    lines = answer.out.splitlines()
    start = lines.index("### Metrics") + 2
    table = lines[start : lines.index("", start)]
    assert len(table) == 5
    assert {line.replace("\\|", "").count("|") for line in table} == {9}
    assert "o\\|dd\\`" in answer.out


def test_groups(two_versions: None, cli: Cli) -> None:
    answer = cli("compare", "--group-by", "config.lr", "-m", "accuracy")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "digits: 6 runs in 2 groups by config.lr"
    assert "accuracy validation, more is better" in lines
    rows = [line.split() for line in lines if line.startswith("0.1")]
    assert [(row[0], row[1], row[-1]) for row in rows] == [("0.15", "3", "best"), ("0.1", "3", "worse")]
    found = json.loads(cli("compare", "--group-by", "config.lr,version", "-f", "json").out)
    assert [group["name"] for group in found["groups"]] == ["lr=0.1, version=1.0.0", "lr=0.15, version=2.0.0"]
    assert (
        "### accuracy validation, more is better"
        in cli("compare", "--group-by", "version", "-f", "markdown").out
    )


def test_production(two_versions: None, cli: Cli) -> None:
    with Monitor("live", lake="lake", quiet=True) as monitor:
        for value in np.random.default_rng(9).normal(0.5, 0.01, 1_000):
            monitor.log(loss=float(value), latency=1.0)
    answer = cli("compare", "digits@1.0.0", "live", "--serving")
    assert answer.code == 0
    (loss,) = [line for line in answer.out.splitlines() if line.startswith("loss ")]
    assert "too few values" in loss  # 180 of training
    assert "only in production: latency" in answer.out
    nothing = cli("compare", "digits@1.0.0", "live", "--serving", "-m", "accuracy")
    assert "no metric is on both sides" in nothing.out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["digits@1.0.0"], 2, "expected A and B"),
        ([], 2, "expected A and B"),
        (["digits@1.0.0", "digits@3"], 1, "no run or version 'digits@3'"),
        (["digits@1.0.0", "r2.0.0-0", "-m", "f1"], 2, "'f1' was not measured"),
        (["--group-by", "lr"], 1, "expected something to group runs by, got 'lr'"),
        (["a", "b", "--serving"], 1, "no run or version 'a'"),
        (["a", "b", "--value", "mean"], 2, "'mean' is not one of"),
    ],
)
def test_what_goes_wrong(arguments: list[str], code: int, told: str, two_versions: None, cli: Cli) -> None:
    answer = cli("compare", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert told in " ".join(answer.err.split())
    assert "Traceback" not in answer.err


def test_many_metrics_are_cut_to_what_is_certain(cli: Cli) -> None:
    for run_id, shift in (("a", 0.0), ("b", 1.0)):
        random = np.random.default_rng(len(run_id) + round(shift))
        with Monitor(run_id, lake="lake", quiet=True) as monitor:
            for _ in range(400):
                values = {f"m{at:02}": float(random.normal()) for at in range(40)}
                monitor.log(values | {"z_moved": float(random.normal(5 * shift))})
    out = cli("compare", "a", "b").out
    assert "z_moved" in out
    assert "21 more metrics, none of them significant" in out


def test_sections_wrap_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    sections = [Section("Title", lines=[Text("word " * 30), cell("a\nb")])]
    print_sections(sections, Console(width=40))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Title"
    assert lines[1].startswith("· word")
    assert lines[2].startswith("  word")
    assert max(map(len, lines)) <= 40
    print_markdown([*sections, Section("", lines=[cell("<b>&")])])
    assert capsys.readouterr().out.endswith("- \\<b\\>&amp;\n")
