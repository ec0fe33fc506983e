"""`rules build` and `dashboards build` as commands: what they write, what they compare, exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]
THRESHOLD = '[[monitor.threshold]]\nname = "too high"\nmetric = "loss"\nmax = 10\n'


def test_rules_are_written_and_compared(cli: Cli) -> None:
    path = Path("collector-config/rules/training.yml")
    missing = cli("rules", "build", "--check")
    assert missing.code == 1
    assert f"{path} is not what `entrenar-otel rules build` makes: run that" in missing.err
    assert cli("rules", "build").out == f"{path}: new\n"
    assert "alert: TrainingStalled" in path.read_text()
    assert [path.name for path in path.parent.iterdir()] == ["training.yml"]
    assert cli("rules", "build").out == f"{path}: unchanged\n"
    same = cli("rules", "build", "--check")
    assert (same.code, same.out) == (0, f"{path}: as it is made\n")
    path.write_text(path.read_text() + "\n")
    assert cli("rules", "build", "--check").code == 1
    assert cli("rules", "build").out == f"{path}: changed\n"


def test_rules_are_those_of_the_settings(cli: Cli) -> None:
    Path("renacer.toml").write_text(THRESHOLD)
    assert cli("rules", "build").code == 0
    assert "alert: too high" in Path("collector-config/rules/training.yml").read_text()
    Path("other.toml").write_text(THRESHOLD.replace("high", "far"))
    assert cli("rules", "build", "--config", "other.toml", "-o", "out.yml").out == "out.yml: new\n"
    assert "alert: too far" in Path("out.yml").read_text()


def test_settings_that_are_missing_or_invalid(cli: Cli) -> None:
    missing = cli("rules", "build", "--config", "none.toml")
    assert (missing.code, "none.toml: expected a file, found none" in missing.err) == (2, True)
    Path("renacer.toml").write_text("[monitor]\nlake = 3\n")
    invalid = cli("rules", "build")
    assert (invalid.code, "renacer.toml:2" in invalid.err) == (2, True)
    assert not Path("collector-config").exists()


def test_where_nothing_can_be_written(cli: Cli) -> None:
    Path("file").write_text("")
    answer = cli("rules", "build", "-o", "file/rules.yml")
    assert (answer.code, "Traceback" in answer.err) == (1, False)


def test_dashboards_are_written_and_compared(cli: Cli) -> None:
    assert cli("dashboards", "build", "--check").code == 1
    assert cli("dashboards", "build").out.splitlines() == [
        f"dashboards/{name}.json: new" for name in ("run", "fleet", "compare")
    ]
    assert cli("dashboards", "build", "--check").code == 0
    Path("dashboards/fleet.json").unlink()
    missing = cli("dashboards", "build", "--check")
    assert (missing.code, missing.err.count("dashboards build")) == (1, 1)
