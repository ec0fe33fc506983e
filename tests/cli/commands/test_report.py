"""The command report: printed, written, as JSON; and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor

Cli = Callable[..., Any]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with one run that learned."""
    with Monitor("digits-7", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        for step in range(60):
            monitor.log(loss=2.0 * 0.95**step, step=step)
    return tmp_path / "lake"


def test_it_is_printed_or_written(lake: Path, tmp_path: Path, cli: Cli) -> None:
    """As Markdown on the terminal; by the name's end in a file."""
    answer = cli("report", "--lake", str(lake))
    assert answer.code == 0
    assert answer.out.startswith("# Post-mortem of run digits-7\n\nRun digits-7 completed at step 59")
    page = tmp_path / "report.html"
    answer = cli("report", "dig", "-o", str(page), "--lake", str(lake))
    assert (answer.code, answer.out) == (0, f"post-mortem of run digits-7 written to {page}\n")
    assert page.read_text().startswith("<!doctype html>")


def test_json_is_for_programs(lake: Path, cli: Cli) -> None:
    """Summary, causes, recommendations."""
    known = json.loads(cli("report", "--json", "--lake", str(lake)).out)
    assert (known["run_id"], known["state"], known["causes"]) == ("digits-7", "completed", [])
    assert len(known["summary"]) == 3
    assert known["convergence"][0]["curve"] == "loss"


def test_what_it_refuses(lake: Path, cli: Cli) -> None:
    """Another kind of file, and a run that is not there: one message each."""
    answer = cli("report", "-o", "report.pdf", "--lake", str(lake))
    assert (answer.code, answer.out) == (2, "")
    assert "expected a report's name that ends with .md or .html, got 'report.pdf'" in answer.err
    answer = cli("report", "other", "--lake", str(lake))
    assert answer.code == 1
    assert "no run 'other'" in answer.err
