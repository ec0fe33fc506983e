"""The committed rules, so that their faults can be provoked within a test: the same, with shorter times."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from .process import CONFIGS

#: What stands in the rules, and what it becomes: every time that a fault has to last.
SHORTER = {
    "interval: 15s": "interval: 1s",
    "interval: 1m": "interval: 1s",
    "for: 30s": "for: 0s",
    "for: 1m": "for: 0s",
    "for: 2m": "for: 0s",
    "for: 5m": "for: 0s",
    "for: 10m": "for: 0s",
    "for: 1h": "for: 0s",
    "> 300": "> 5",  # a run that makes no step
    "entrenar_sink_lag_seconds > 60": "entrenar_sink_lag_seconds > 1",
    "entrenar_tick_duration_seconds_count[5m]": "entrenar_tick_duration_seconds_count[10s]",  # its heartbeat
    'rank=~"$rank"}[5m]': 'rank=~"$rank"}[10s]',  # the same in a dashboard
}


def fast_rules(shorter: Mapping[str, str] = SHORTER) -> str:
    """The text of the file."""
    text = (CONFIGS / "rules/training.yml").read_text()
    for long, short in shorter.items():
        text = text.replace(long, short)
    assert {rule.get("for", "0s") for rule in _rules(text)} == {"0s"}
    return text


def names() -> set[str]:
    """All alerts of the file."""
    return {rule["alert"] for rule in _rules(fast_rules()) if "alert" in rule}


def _rules(text: str) -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
