"""Config: the settings in renacer.toml, validated, with a message for every mistake. Needs pydantic."""

from entrenar_processors.config.models import (
    Assertion,
    Config,
    config_schema,
    load_config,
    parse_config,
    parse_text,
)
from entrenar_processors.config.problems import BadConfig

__all__ = ["Assertion", "BadConfig", "Config", "config_schema", "load_config", "parse_config", "parse_text"]
