"""What is installed: ranges, extras, and what is told of an installation that lacks something."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from entrenar_otel import __version__
from entrenar_otel.doctor import versions
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
#: Extras that nobody installs to use the package.
OF_DEVELOPERS = {"frameworks", "bench", "dev", "mutation", "docs"}


def found(monkeypatch: pytest.MonkeyPatch, *required: Requirement) -> dict[str, Check]:
    monkeypatch.setattr(versions, "requirements", lambda: list(required))
    return {check.name: check for check in versions.checks()}


def test_every_extra_says_what_it_gives() -> None:
    assert set(versions.EXTRAS) == set(PROJECT["optional-dependencies"]) - OF_DEVELOPERS


def test_the_tested_pythons_are_those_of_the_classifiers() -> None:
    classifiers = " ".join(PROJECT["classifiers"])
    assert all(f"Python :: {major}.{minor}" in classifiers for major, minor in versions.TESTED_PYTHONS)
    assert classifiers.count("Python :: 3.") == len(versions.TESTED_PYTHONS)


def test_this_environment_has_no_problem() -> None:
    checks = list(versions.checks())
    assert [check for check in checks if check.level is Level.PROBLEM] == []
    assert checks[0].facts["version"] == __version__
    assert checks[1].facts["executable"] == sys.executable


def test_a_dependency_out_of_its_range_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(
        monkeypatch, Requirement("numpy", ">=999"), Requirement("rich"), Requirement("nowhere", ">=1")
    )
    assert told["dependencies"].text.startswith("1 of 3 within their tested ranges: rich ")
    assert told["numpy"].level is told["nowhere"].level is Level.PROBLEM
    assert told["numpy"].text.endswith("is installed, tested is >=999")
    assert (told["nowhere"].text, told["nowhere"].advice) == ("is missing", "pip install 'nowhere>=1'")


def test_extras_whole_old_and_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(
        monkeypatch,
        *(Requirement("numpy"), Requirement("rich", "", "view"), Requirement("httpx", ">=999", "otlp")),
        *(Requirement("nowhere", "", "gpu"), Requirement("nowhere", "", "river")),
        Requirement("typer", "", "frameworks"),
    )
    assert [told[f"[{name}]"].level.value for name in ("view", "otlp")] == ["ok", "note"]
    assert "(tested: >=999)" in told["[otlp]"].text
    missing = told["not installed"]
    assert missing.text == "[river] for river's drift detectors; [gpu] for readings of NVIDIA's GPUs"
    assert missing.advice == "pip install 'entrenar-otel[river,gpu]', with those that you want"
    assert missing.facts["missing"] == {"river": ["nowhere"], "gpu": ["nowhere"]}
    assert told["frameworks"].text.startswith("typer ")


def test_a_framework_older_than_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    told = found(monkeypatch, Requirement("typer", ">=999", "frameworks"))
    assert told["typer"].level is Level.NOTE
    assert told["typer"].text.endswith("tested from 999 on")
    assert told["dependencies"].level is Level.NOTE  # it is not installed as a package


@pytest.mark.parametrize(("core", "level"), [(object(), Level.OK), (None, Level.NOTE)])
def test_the_native_core(core: object, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(core=core, state=lambda: "its own words")
    monkeypatch.setitem(sys.modules, "entrenar_native", module)
    (check,) = (one for one in versions.checks() if one.name == "native core")
    assert (check.level, check.text, check.facts["is_on"]) == (level, "its own words", core is not None)


def test_an_installation_without_the_native_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "entrenar_native", None)
    (check,) = (one for one in versions.checks() if one.name == "native core")
    assert check.level is Level.NOTE
    assert check.text == "pure Python: this installation has no native core"


def test_pythons_that_are_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "TESTED_PYTHONS", ((3, 1), (3, 2)))
    monkeypatch.setattr(sys, "platform", "darwin")
    told = found(monkeypatch, Requirement("rich"))
    assert told["Python"].level is Level.NOTE
    assert told["Python"].text.endswith(": tested are CPython 3.1 to 3.2")
    assert told["system"].level is Level.PROBLEM


def test_metadata_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "__version__", "0.0.1")
    told = found(monkeypatch, Requirement("rich"))
    assert told["entrenar-otel"].level is Level.NOTE
    assert "described by metadata of" in told["entrenar-otel"].text
