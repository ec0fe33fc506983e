"""The check of a renacer.toml: whether it is valid, what is in it, and what this environment lacks for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrenar_processors.config.build import processors_of
from entrenar_processors.config.models import BadConfig, Config, load_config
from entrenar_processors.counts import counted


def checked(path: Path) -> dict[str, Any]:
    """The result of `config check`: `ok`, and either what is in the file or all its `problems`."""
    try:
        config = load_config(path)
    except BadConfig as error:
        problems = [{**asdict(problem), "message": str(problem)} for problem in error.problems]
        return {"file": str(path), "ok": False, "problems": problems}
    return {"file": str(path), "ok": True, **contents(config), "problems": []}


def contents(config: Config) -> dict[str, Any]:
    """The names of the budgets, thresholds and detectors in a file."""
    return {
        "assertions": [assertion.name for assertion in config.assertion if assertion.enabled],
        "assertions_off": [assertion.name for assertion in config.assertion if not assertion.enabled],
        "thresholds": [threshold.name for threshold in config.monitor.threshold],
        "detectors": list(config.monitor.detectors_on),
        "missing": missing_here(config),
    }


def missing_here(config: Config) -> list[str]:
    """What cannot judge in this environment, and why: a library is not installed.

    >>> missing_here(Config())
    []
    """
    missing: list[str] = []
    processors_of(config.monitor, failed=lambda name, error: missing.append(f"{name} would be off: {error}"))
    return missing


def summary(result: dict[str, Any]) -> str:
    """The result for a valid file, in one line.

    >>> summary({"file": "renacer.toml", **contents(Config())})
    'renacer.toml: 0 assertions, 0 thresholds, 6 detectors on'
    """
    off = f" ({len(result['assertions_off'])} more disabled)" if result["assertions_off"] else ""
    counts = (counted(len(result[f"{noun}s"]), noun) for noun in ("assertion", "threshold", "detector"))
    assertions, thresholds, detectors = counts
    return f"{result['file']}: {assertions}{off}, {thresholds}, {detectors} on"
