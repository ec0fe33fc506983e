"""What `renacer.toml` says about recording: the `[monitor]` keys that this package reads."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_otel.errors import ConfigError

FILE = "renacer.toml"


@dataclass(frozen=True)
class MonitorConfig:
    """`[monitor]`: lake, heartbeat, retention. `retention_days` acts only where it is written."""

    lake: str | None = None
    interval_seconds: float = 1.0
    retention_days: float | None = None

    def choose_lake(self, given: str | os.PathLike[str] | None) -> str:
        """The lake by precedence: code, environment, this file, the default."""
        if given is not None:
            return os.fspath(given)
        return os.environ.get("ENTRENAR_LAKE") or self.lake or "entrenar-lake"


def load_config(path: Path) -> MonitorConfig:
    """Read a renacer.toml. Raises ConfigError with the file, the key, what was expected and found."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    table = document.get("monitor", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: monitor: expected a table, got {table!r}")
    return MonitorConfig(
        lake=_text(path, table, "lake"),
        interval_seconds=_positive(path, table, "interval_seconds") or 1.0,
        retention_days=_positive(path, table, "retention_days"),
    )


def find_config(settings_file: str | os.PathLike[str] | None = FILE) -> MonitorConfig:
    """The configuration in this file, or the defaults where there is none (or None is asked for)."""
    if settings_file is None:
        return MonitorConfig()
    path = Path(settings_file)
    return load_config(path) if path.is_file() else MonitorConfig()


def _text(path: Path, table: dict[str, Any], key: str) -> str | None:
    value = table.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigError(f"{path}: monitor.{key}: expected a folder or URL as text, got {value!r}")
    return value


def _positive(path: Path, table: dict[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise ConfigError(f"{path}: monitor.{key}: expected a number above 0, got {value!r}")
    return float(value)
