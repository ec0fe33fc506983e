"""Commands that judge: a run against its budgets, the file that holds them, and the machine it is on."""

from __future__ import annotations

import os
import sys
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


@commands.command()
def doctor(
    cost: Annotated[
        bool, typer.Option(help="Measure what a monitor costs on this machine, some 8 s.")
    ] = True,
) -> None:
    """Look at everything a run needs here: what is installed, lake, settings, ports, and what it costs.

    Nothing is written into the lake, nothing is sent, no secret is shown. Exit code 1: there is a problem.

    [dim]Examples:[/dim] entrenar-otel doctor · entrenar-otel doctor --no-cost --json
    """
    from entrenar_otel.cli.doctor import print_report, progress
    from entrenar_otel.cli.no_pandas import do_without_pandas
    from entrenar_otel.doctor.report import examine
    from entrenar_otel.doctor.surroundings import Surroundings

    do_without_pandas()
    around = Surroundings.find(Options.lake, SETTINGS)
    with Console(stderr=True).status("") as status:
        report = examine(around, with_cost=cost, begins=lambda part: status.update(progress(part)))
    if Options.json:
        print_json(report.as_dict())
    else:
        print_report(report, Console(highlight=False))
    code = 0 if report.is_ok else 1
    if report.is_hanging:  # what hangs would keep the process at its end
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)


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
