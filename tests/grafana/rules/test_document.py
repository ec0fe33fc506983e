"""The file of rules: as it is committed, the same to the byte, and with a runbook for every alert."""

from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from entrenar_processors.config.models import Config, load_config

from entrenar_otel.errors import ConfigError
from entrenar_otel.grafana.rules.document import alerts, document, groups
from tests.grafana.rules.test_promtool import SETTINGS

ROOT = Path(__file__).parents[3]


def test_the_committed_file_is_what_is_made() -> None:
    made = document(load_config(ROOT / "renacer.toml"))
    assert (ROOT / "collector-config/rules/training.yml").read_text() == made, (
        "run `entrenar-otel rules build`"
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_the_same_every_time_and_says_all(name: str) -> None:
    settings = SETTINGS[name]()
    text = document(settings)
    assert text == document(settings)
    assert yaml.safe_load(text) == {"groups": [group.as_dict() for group in groups(settings)]}
    assert "vector(" not in text


@pytest.mark.parametrize("name", SETTINGS)
def test_every_alert_has_what_a_person_needs(name: str) -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/grafana.md").read_text(), re.MULTILINE)
    anchors = {heading.strip("`").lower().replace(" ", "-") for heading in headings}
    for alert in alerts(SETTINGS[name]()):
        made = alert.as_dict()
        assert made["labels"]["severity"] in ("warning", "error", "critical")
        assert made["annotations"]["summary"]
        assert made["annotations"]["description"]
        assert alert.anchor in anchors, f"docs/grafana.md has no heading {alert.anchor}"


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *more: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'entrenar-otel\[grafana\]'"):
        document(Config())
