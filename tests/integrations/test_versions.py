"""Versions: the ranges are those that are promised and installed; another version is warned of."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from entrenar_otel.integrations import versions
from entrenar_otel.integrations.versions import TESTED, check_version

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_said", set())


def test_the_oldest_are_what_the_extra_promises() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(one.split(">=") for one in project["optional-dependencies"]["frameworks"])
    assert {package: tested.oldest for package, tested in TESTED.items()} == bounds


@pytest.mark.parametrize("package", sorted(TESTED))
def test_what_the_lanes_install_is_the_end_of_a_range(package: str) -> None:
    """In the two environments of `make test-frameworks`; elsewhere whatever is there is within no promise."""
    lane = re.search(r"\.venv-frameworks(-oldest)?", sys.prefix)
    if lane is None:
        assert TESTED[package].oldest  # nothing is promised here
        return
    try:
        found = version(package)
    except PackageNotFoundError:  # an environment that is only for some of them
        return
    end = TESTED[package].oldest if lane[1] else TESTED[package].newest
    assert f"{found}.".startswith(f"{end}.")


@pytest.mark.parametrize(
    ("found", "expected"),
    [("4.45.2", "older"), ("4.46", None), ("4.46.0", None), ("5.0.0rc1", None), ("5.24.9", None),
     ("5.25", "newer"), ("6.0.0", "newer")],
)  # fmt: skip
def test_another_version_is_said_once(
    found: str, expected: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert [check_version("transformers", found) for _ in range(2)] == [expected is None] * 2
    assert caplog.text.count("than what entrenar-otel is tested with (4.46 to 5.24)") == (
        expected is not None
    )
    if expected is not None:
        assert f"transformers {found} is {expected} than" in caplog.text


def test_another_build_has_the_range_of_its_package(caplog: pytest.LogCaptureFixture) -> None:
    assert check_version("xgboost", "3.2.1")
    assert not check_version("xgboost", "1.7")
    assert "pip install 'xgboost>=2.1.2'" in caplog.text


def test_a_version_that_nobody_knows_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_package: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(versions, "version", missing)
    assert check_version("keras")
