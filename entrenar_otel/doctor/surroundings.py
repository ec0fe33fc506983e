"""Surroundings: the settings that a run started here would have, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from entrenar_otel.errors import ConfigError
from entrenar_otel.run.settings import DEFAULT_LAKE, FILE, RunSettings


@dataclass(frozen=True)
class Surroundings:
    """The environment, the settings file, and the lake that was named on the command line."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    lake_option: str | None = None
    settings_file: Path = Path(FILE)
    settings: RunSettings = field(default_factory=RunSettings)
    #: Why the settings file cannot be used; the defaults stand for it.
    settings_problem: str | None = None

    @classmethod
    def find(cls, lake_option: str | None = None, settings_file: Path = Path(FILE)) -> Surroundings:
        """Those of this process. Nothing is raised: an invalid settings file is a problem to be told."""
        settings, why = RunSettings(), None
        try:
            settings = RunSettings.find(settings_file)
        except (ConfigError, OSError) as error:
            why = str(error)
        return cls(dict(os.environ), lake_option, settings_file, settings, why)

    @property
    def lake(self) -> tuple[str, str]:
        """The lake by precedence, and what says so.

        >>> Surroundings(environ={"ENTRENAR_LAKE": "s3://bucket/lake"}).lake
        ('s3://bucket/lake', 'ENTRENAR_LAKE')
        """
        if self.lake_option:
            return self.lake_option, "--lake"
        if given := self.environ.get("ENTRENAR_LAKE"):
            return given, "ENTRENAR_LAKE"
        if self.settings.lake:
            return self.settings.lake, str(self.settings_file)
        return DEFAULT_LAKE, "the default"

    @property
    def otlp_environ(self) -> dict[str, str]:
        """The environment as exporters see it: `[otlp]` of the settings file where no variable is set."""
        endpoint, service = self.settings.otlp
        file = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": service}
        return {name: value for name, value in file.items() if value is not None} | dict(self.environ)
