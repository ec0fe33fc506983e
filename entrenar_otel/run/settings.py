"""What `renacer.toml` says: all of it, typed, and the few settings that every run needs at once.

pydantic takes a tenth of a second: it is only imported where there is a file, or where somebody asks for
the settings of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_otel.errors import ConfigError

if TYPE_CHECKING:
    from entrenar_processors.config.models import Assertion, Config

FILE = "renacer.toml"
#: As `entrenar_otel.lake` has it, whose import would cost a tenth of a second here.
DEFAULT_LAKE = "entrenar-lake"


@dataclass(frozen=True)
class RunSettings:
    """What a Monitor holds. `retention_days` acts only where it is written; `file` is None without a file."""

    lake: str | None = None
    interval_seconds: float = 1.0
    retention_days: float | None = None
    #: How often the machine is read; None: not at all.
    system_seconds: float | None = 10.0
    file: Config | None = None

    @classmethod
    def of(cls, config: Config) -> RunSettings:
        """The settings of this configuration."""
        monitor = config.monitor
        system = monitor.system
        return cls(
            monitor.lake,
            float(monitor.interval_seconds),
            monitor.retention_days,
            float(system.interval_seconds) if system.enabled else None,
            config,
        )

    @classmethod
    def find(cls, settings_file: str | os.PathLike[str] | None = FILE) -> RunSettings:
        """The settings in this file, or the defaults where there is none. Raises ConfigError."""
        path = _existing(settings_file)
        return cls() if path is None else cls.of(load_config(path))

    def full(self) -> Config:
        """Everything that the file says, or the defaults of everything.

        >>> RunSettings().full().monitor.andon.after_pause
        'stop'
        """
        if self.file is not None:
            return self.file
        from entrenar_processors.config.models import Config

        return Config()

    @property
    def assertions(self) -> Sequence[Assertion]:
        """The budgets that are switched on."""
        return (
            [assertion for assertion in self.file.assertion if assertion.enabled]
            if self.file is not None
            else []
        )

    @property
    def otlp(self) -> tuple[str | None, str | None]:
        """`[otlp]`: endpoint and service name."""
        if self.file is None:
            return None, None
        otlp = self.file.otlp
        return otlp.endpoint if otlp.enabled else None, otlp.service_name

    @property
    def max_backlog_bytes(self) -> int | None:
        """`[otlp] max_backlog_bytes`, None without a file."""
        return None if self.file is None else self.file.otlp.max_backlog_bytes

    def choose_lake(self, given: str | os.PathLike[str] | None) -> str:
        """The lake by precedence: code, environment, this file, the default."""
        if given is not None:
            return os.fspath(given)
        return os.environ.get("ENTRENAR_LAKE") or self.lake or DEFAULT_LAKE


def load_config(path: Path) -> Config:
    """Read a renacer.toml. Raises ConfigError with every problem: file, line, key, expected, found."""
    from entrenar_processors.config.models import BadConfig
    from entrenar_processors.config.models import load_config as load

    try:
        return load(path)
    except BadConfig as error:
        raise ConfigError(str(error)) from None


def _existing(settings_file: str | os.PathLike[str] | None) -> Path | None:
    """The file, if there is anything under its name: what is there but cannot be read is an error."""
    return Path(settings_file) if settings_file is not None and os.path.lexists(settings_file) else None
