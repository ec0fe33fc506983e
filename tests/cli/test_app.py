"""What all commands share: global options anywhere, and JSON that every parser takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor

Cli = Callable[..., Any]


def test_json_everywhere_and_global_options_anywhere(
    runs: None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--json and --lake stand before or behind the command, and give what every JSON parser takes."""
    monkeypatch.setenv("ENTRENAR_LAKE", "elsewhere")

    def strict(text: str) -> Any:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    before, behind = cli("--json", "--lake", "lake", "ls"), cli("ls", "--lake=lake", "--json")
    assert before == behind
    assert [run["run_id"] for run in strict(before.out)] == ["other [/bold]", "digits-8", "digits-7"]
    assert strict(before.out)[2]["config"] == {"lr": 0.1, "clip": "Infinity"}
    assert len(strict(cli("ls", "-n", "1", "--json", "--lake", "lake").out)) == 1
    shown = strict(cli("show", "digits-7", "--json", "--lake", "lake").out)
    loss = next(one for one in shown["metrics"] if one["metric"] == "loss")
    assert (loss["count"], loss["last"], loss["nonfinite"], len(loss["curve"])) == (20, 0.05, 0, 20)
    assert loss["mean"] == pytest.approx(sum(1 / (i + 1) for i in range(20)) / 20)
    assert strict(cli("query", "SELECT 1 a, 'nan'::DOUBLE b", "--json", "--lake", "lake").out) == [
        {"a": 1, "b": "NaN"}
    ]
    dry = strict(cli("prune", "--json", "--older-than", "0s", "--lake", "lake").out)
    assert {one["removed"] for one in dry} == {False}
    assert strict(cli("recover", "--json", "--lake", "lake").out) == []


def test_runs_that_could_not_be_where_they_belong(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no lake, but runs went to the second choice, that is named."""
    monkeypatch.delenv("ENTRENAR_LAKE", raising=False)
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "state" / "live"))
    assert cli("ls").err.endswith("or record a run first\n")
    second = tmp_path / "state" / "lake"
    with Monitor("r", lake=second, quiet=True) as monitor:
        monitor.log(loss=1.0)
    assert cli("ls").err.endswith(f". Runs that could not write there are in {second}\n")
    assert repr(monitor.lake) == f"<Lake {second}>"
