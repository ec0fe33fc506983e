"""The rules as a file for Prometheus, the same to the byte whenever it is made."""

from __future__ import annotations

from typing import Any

from entrenar_processors.config.models import Config

from entrenar_otel.errors import ConfigError
from entrenar_otel.grafana.rules.judged import judged
from entrenar_otel.grafana.rules.pipeline import models, pipeline
from entrenar_otel.grafana.rules.quiet import quiet
from entrenar_otel.grafana.rules.recorded import recorded
from entrenar_otel.grafana.rules.rule import Alert, Group

_HEAD = "# Made of renacer.toml by `entrenar-otel rules build`; docs/grafana.md says what each alert means.\n"


def groups(settings: Config) -> list[Group]:
    """All rules by these settings.

    >>> [group.name for group in groups(Config())]
    ['training-quiet', 'training-judged', 'training-models', 'training-pipeline', 'training-steps']
    """
    return [quiet(), judged(settings), models(), pipeline(), recorded()]


def alerts(settings: Config) -> list[Alert]:
    """All alerts by these settings."""
    return [rule for group in groups(settings) for rule in group.rules if isinstance(rule, Alert)]


def document(settings: Config) -> str:
    """The text of the file. Raises ConfigError without PyYAML."""
    try:
        import yaml
    except ImportError:
        raise ConfigError("writing rules needs PyYAML: pip install 'entrenar-otel[grafana]'") from None

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        """Texts of several lines as blocks, sequences indented."""

        def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
            return super().increase_indent(flow, False)

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    made = {"groups": [group.as_dict() for group in groups(settings)]}
    return _HEAD + str(yaml.dump(made, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1 << 20))
