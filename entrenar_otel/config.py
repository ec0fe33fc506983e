"""What `renacer.toml` says about recording: the `[monitor]` keys that this package reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_otel.errors import ConfigError

if TYPE_CHECKING:
    from entrenar_processors.config import Config

FILE = "renacer.toml"


@dataclass(frozen=True)
class MonitorConfig:
    """`[monitor]`: lake, heartbeat, retention. `retention_days` acts only where it is written."""

    lake: str | None = None
    interval_seconds: float = 1.0
    retention_days: float | None = None

    file: Any = None

    def full(self) -> Config:
        """All of the file, or the defaults."""
        from entrenar_processors.config import Config

        return self.file if self.file is not None else Config()

    @property
    def otlp(self) -> tuple[str | None, str | None]:
        """`[otlp]`: endpoint and service name."""
        return (
            (self.file.otlp.endpoint, self.file.otlp.service_name) if self.file is not None else (None, None)
        )

    def choose_lake(self, given: str | os.PathLike[str] | None) -> str:
        """The lake by precedence: code, environment, this file, the default."""
        if given is not None:
            return os.fspath(given)
        return os.environ.get("ENTRENAR_LAKE") or self.lake or "entrenar-lake"


def load_config(path: Path) -> MonitorConfig:
    """Read a renacer.toml. Raises ConfigError with the file, the key, what was expected and found."""
    from entrenar_processors.config import BadConfig
    from entrenar_processors.config import load_config as load

    try:
        config = load(path)
    except BadConfig as error:
        raise ConfigError(str(error)) from None
    one = config.monitor
    return MonitorConfig(one.lake, one.interval_seconds, one.retention_days, config)


def find_config(settings_file: str | os.PathLike[str] | None = FILE) -> MonitorConfig:
    """The configuration in this file, or the defaults where there is none (or None is asked for)."""
    if settings_file is None:
        return MonitorConfig()
    path = Path(settings_file)
    return load_config(path) if path.is_file() else MonitorConfig()
