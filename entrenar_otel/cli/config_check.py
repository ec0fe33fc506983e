"""renacer.toml looked at: whether it can be used, and what is in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrenar_processors.config.models import BadConfig, Config, load_config


def checked(path: Path) -> dict[str, Any]:
    """What `config check` tells of a file: `ok`, and either what is in it or all `problems`."""
    try:
        config = load_config(path)
    except BadConfig as error:
        problems = [{**asdict(one), "message": str(one)} for one in error.problems]
        return {"file": str(path), "ok": False, "problems": problems}
    return {"file": str(path), "ok": True, **contents(config), "problems": []}


def contents(config: Config) -> dict[str, Any]:
    """The names of what is checked and watched."""
    return {
        "assertions": [one.name for one in config.assertion if one.enabled],
        "assertions_off": [one.name for one in config.assertion if not one.enabled],
        "thresholds": [one.name for one in config.monitor.threshold],
        "detectors": list(config.monitor.detectors_on),
    }


def summary(told: dict[str, Any]) -> str:
    """One line.

    >>> summary({"file": "renacer.toml", **contents(Config())})
    'renacer.toml: 0 assertions, 0 thresholds, 5 detectors on'
    """
    off = f" ({len(told['assertions_off'])} more off)" if told["assertions_off"] else ""
    return (
        f"{told['file']}: {_count(told['assertions'], 'assertion')}{off}, "
        f"{_count(told['thresholds'], 'threshold')}, {_count(told['detectors'], 'detector')} on"
    )


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}" + ("" if len(names) == 1 else "s")
