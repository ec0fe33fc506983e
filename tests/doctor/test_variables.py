"""Variables that are heard, without their secrets, and those that nobody hears."""

from __future__ import annotations

import re
from pathlib import Path

import entrenar_processors
from hypothesis import given
from hypothesis import strategies as st

import entrenar_otel
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.variables import INTERNAL, OURS, checks, setting_shown

SECRET = "hunter2hunter2"


def told(**environ: str) -> dict[str, Check]:
    return {check.name: check.fit_to_show() for check in checks(environ)}


def test_every_variable_of_ours_is_known() -> None:
    """Those that stand in the source, as a whole name."""
    folders = [Path(package.__file__ or "").parent for package in (entrenar_otel, entrenar_processors)]
    text = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    used = set(re.findall(r"\bENTRENAR_[A-Z_]*[A-Z]\b", text))
    assert used == {*OURS, *INTERNAL}


def test_every_variable_of_ours_is_in_the_docs() -> None:
    """In docs/environment.md, where `…_TOKEN` stands for the name before it with another end."""
    named: set[str] = set()
    for line in (Path(__file__).parents[2] / "docs" / "environment.md").read_text().splitlines():
        first, *others = re.findall(r"`([A-Z_]+|…_[A-Z]+)`", line.partition(" | ")[0]) or [""]
        named |= {first, *(name.replace("…", first.rpartition("_")[0]) for name in others)}
    assert {name for name in named if name.startswith("ENTRENAR_")} == set(OURS)


def test_secrets_are_set_and_not_shown() -> None:
    checked = told(
        ENTRENAR_METRICS_TOKEN=SECRET,
        ENTRENAR_WEBHOOK_URL=f"https://me:{SECRET}@hooks.example.com/{SECRET}?x={SECRET}",
        ENTRENAR_APPRISE_URLS=f"slack://{SECRET}/x",
        OTEL_EXPORTER_OTLP_HEADERS=f"x={SECRET}",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"https://me:{SECRET}@collector:4317",
        OTEL_RESOURCE_ATTRIBUTES=f"api_key={SECRET}",
        HTTPS_PROXY=f"me:{SECRET}@proxy:3128",
        NO_PROXY="localhost",
    )
    assert SECRET not in str(checked)
    assert checked["ENTRENAR_*"].text == (
        "ENTRENAR_APPRISE_URLS (set), ENTRENAR_METRICS_TOKEN (set), "
        "ENTRENAR_WEBHOOK_URL=https://hooks.example.com"
    )
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=https://collector:4317" in checked["OTEL_*"].text
    assert checked["proxies"].text == "HTTPS_PROXY=http://proxy:3128, NO_PROXY=localhost"


@given(st.text(max_size=200), st.sampled_from(sorted(OURS)))
def test_any_value_can_be_shown(value: str, name: str) -> None:
    check = told(**{name: value})["ENTRENAR_*"]
    assert check.text.isprintable()
    assert len(check.text) <= 100


def test_a_long_value_is_cut() -> None:
    assert setting_shown("ENTRENAR_LAKE", "/x" * 50) == "ENTRENAR_LAKE=" + "/x" * 30 + "…"


def test_misspelt_variables_are_told_of() -> None:
    checked = told(ENTRENAR_LAEK="x", ENTRENAR_PARENT="{}", PATH="y")
    assert checked["unheard"].text == "ENTRENAR_LAEK is set, and nothing here reads it"
    assert checked["unheard"].advice == "perhaps ENTRENAR_LAKE is meant"
    assert "renacer.toml" in told(ENTRENAR_ZZZZZZZZZZZ="x")["unheard"].advice
    assert checked["ENTRENAR_*"].text == "none is set"


def test_switched_off() -> None:
    assert told(OTEL_SDK_DISABLED="true")["recording"].level is Level.NOTE
    assert "recording" not in told()
