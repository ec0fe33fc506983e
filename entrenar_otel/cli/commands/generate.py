"""Commands that make files for others from renacer.toml: Prometheus's rules, Grafana's dashboards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrenar_otel.cli.app import SETTINGS
from entrenar_otel.cli.output import complain, echo
from entrenar_otel.errors import ConfigError

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

#: Where the repository has the files.
RULES = Path("collector-config/rules/training.yml")
DASHBOARDS = Path("dashboards")

commands = typer.Typer()
rules_commands = typer.Typer(
    help="Make the rules by which Prometheus watches runs, from renacer.toml.", no_args_is_help=True
)
dashboards_commands = typer.Typer(
    help="Make the dashboards for Grafana, with the limits of renacer.toml.", no_args_is_help=True
)
commands.add_typer(dashboards_commands, name="dashboards")
commands.add_typer(rules_commands, name="rules")

_Settings = Annotated[
    Path | None, typer.Option("--config", "-c", help="The settings file. Default: ./renacer.toml, if any.")
]
_Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit code 1 where a file is not what it would be.")
]


@dashboards_commands.command("build")
def build_dashboards(
    config: _Settings = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder.")] = DASHBOARDS,
    check: _Check = False,
) -> None:
    """Write the dashboards Run, Fleet and Compare as JSON, to be imported into Grafana or provisioned.

    [dim]Examples:[/dim] entrenar-otel dashboards build -o /etc/grafana/dashboards ·
    entrenar-otel dashboards build --check
    """
    from entrenar_otel.grafana.dashboards.document import documents

    made = {output / name: text for name, text in documents(_settings(config)).items()}
    _put(made, "dashboards build", check=check)


@rules_commands.command("build")
def build_rules(
    config: _Settings = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file.")] = RULES,
    check: _Check = False,
) -> None:
    """Write a rule file for Prometheus: alerts of renacer.toml, of runs that went quiet, and of the pipeline.

    What each alert means, and what to do about it, is in docs/grafana.md.

    [dim]Examples:[/dim] entrenar-otel rules build -o /etc/prometheus/rules/training.yml ·
    entrenar-otel rules build --check
    """
    from entrenar_otel.grafana.rules.document import document

    _put({output: document(_settings(config))}, "rules build", check=check)


def _settings(file: Path | None) -> Config:
    """Raises ConfigError. Without a file the defaults hold, as they do for a run."""
    from entrenar_processors.config.models import BadConfig, Config, load_config

    if file is None and not SETTINGS.is_file():
        return Config()
    try:
        return load_config(file or SETTINGS)
    except BadConfig as error:
        raise ConfigError(str(error)) from None


def _put(made: Mapping[Path, str], command: str, *, check: bool) -> None:
    from entrenar_otel.grafana.artefacts import differing, put

    stale = differing(made)
    words = {path: ("changed" if path.exists() else "new") if path in stale else "unchanged" for path in made}
    if check and stale:
        for path in stale:
            complain(f"{path} is not what `entrenar-otel {command}` makes: run that")
        raise typer.Exit(1)
    if not check:
        put(made)
    for path in made:
        echo(f"{path}: {'as it is made' if check else words[path]}")
