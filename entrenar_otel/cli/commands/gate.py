"""Commands that judge: a run against its budgets, and the file that holds them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from entrenar_otel.cli.app import SETTINGS, Options, Run, open_lake
from entrenar_otel.cli.output import Console, complain, echo, print_error, print_json
from entrenar_otel.errors import LakeError, RunError

commands = typer.Typer()
config_commands = typer.Typer(
    help="Check renacer.toml (thresholds, budgets, detectors), or print its JSON Schema.",
    no_args_is_help=True,
)
commands.add_typer(config_commands, name="config")


class GateFormat(StrEnum):
    """What `ci` prints."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"


@commands.command()
def ci(
    run: Run = None,
    config: Annotated[
        Path, typer.Option("--config", "-c", help=r"The file with the \[\[assertion]] tables.")
    ] = SETTINGS,
    form: Annotated[GateFormat, typer.Option("--format", "-f", help="The format.")] = GateFormat.TABLE,
    strict: Annotated[bool, typer.Option(help="Fail on a budget that was not measured, too.")] = False,
) -> None:
    """Judge a run against its budgets: latency, spans, memory, anti-patterns, and your own conditions.

    Exit code 0: no budget with fail_on_violation is exceeded; 1: one is; 2: there is no such run, or the
    settings file or the lake is missing or invalid.
    What was not measured is reported as such, and fails nothing unless --strict is given.

    [dim]Examples:[/dim] entrenar-otel ci · entrenar-otel ci digits-7 --format junit > budgets.xml
    """
    from entrenar_otel.cli.ci import as_junit, judge, load_assertions, show_gate

    assertions = load_assertions(config)
    try:
        gate = judge(
            open_lake(settings_file=config) if assertions else None,
            run,
            assertions,
            str(config),
            strict=strict,
        )
    except (RunError, LakeError) as error:  # 1 means a violation, and nothing else
        print_error(error)
        raise typer.Exit(2) from None
    if Options.json or form is GateFormat.JSON:
        print_json(gate.as_dict())
    elif form is GateFormat.JUNIT:
        echo(as_junit(gate), end="", for_machines=True)
    else:
        show_gate(gate, Console())
    if not gate.is_passed:
        raise typer.Exit(1)


@config_commands.command("check")
def check_config(
    file: Annotated[Path, typer.Argument(help="The file to check.")] = SETTINGS,
) -> None:
    """Check a renacer.toml: print what is in it, or all its problems by line (exit code 2).

    What this environment lacks for it, such as scipy for drift, is named; the file is valid all the same.

    [dim]Examples:[/dim] entrenar-otel config check · entrenar-otel config check other.toml --json
    """
    from entrenar_otel.cli.config_check import checked, summary

    result = checked(file)
    if Options.json:
        print_json(result)
    elif result["ok"]:
        echo(summary(result))
        for line in result["missing"]:
            complain(line)
    else:
        for problem in result["problems"]:
            complain(problem["message"])
        if file == SETTINGS and not file.exists():
            complain("Without one, the defaults hold (docs/alerts.md); name another file: config check FILE")
    if not result["ok"]:
        raise typer.Exit(2)


@config_commands.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of renacer.toml, for editors.

    [dim]Example:[/dim] entrenar-otel config schema > renacer.schema.json
    """
    from entrenar_processors.config.models import config_schema

    print_json(config_schema())
