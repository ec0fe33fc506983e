"""Command that starts a program."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from entrenar_otel.cli.app import Options
from entrenar_otel.cli.output import complain

commands = typer.Typer()


@commands.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
)
def run(
    command: Annotated[
        list[str], typer.Argument(help="The program and its arguments.", metavar="-- PROGRAM…")
    ],
    run_id: Annotated[
        str | None, typer.Option(help="The run's id. Default: the launcher's, or a new one.")
    ] = None,
    model_id: Annotated[str | None, typer.Option(help="What is trained. Default: the script's name.")] = None,
) -> None:
    """Start a program and record it, without a line of ours in it: plain OpenTelemetry meters, and its end.

    Exit code: the program's own; 86 where AndonStop ended the run, which no launcher should start again.

    [dim]Examples:[/dim] entrenar-otel run -- python train.py --lr 0.1
    [dim]         [/dim] entrenar-otel run -- torchrun --nproc-per-node 2 train.py
    """
    from entrenar_otel.launch.program import CannotStart, end_as
    from entrenar_otel.launch.run import run_program

    try:
        ended = run_program(command, os.environ, run_id=run_id, model_id=model_id, lake=Options.lake)
    except CannotStart as error:
        complain(f"entrenar-otel run: {error}")
        raise typer.Exit(error.code) from None
    end_as(ended)
