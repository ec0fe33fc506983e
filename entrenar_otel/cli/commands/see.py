"""Commands to see a run: in the terminal while it goes on, and as a picture."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from entrenar_otel.cli.app import SETTINGS, open_lake
from entrenar_otel.cli.output import Console, echo
from entrenar_otel.errors import ConfigError, NotMeasured

commands = typer.Typer()

Runs = Annotated[
    list[str] | None, typer.Argument(help="Run ids or unique prefixes of them; default: the latest.")
]
ConfigFile = Annotated[
    Path,
    typer.Option("--config", "-c", help="The renacer.toml with thresholds and budgets; it need not exist."),
]
Rank = Annotated[
    int | None, typer.Option("--rank", min=0, help="Whose samples are shown. Default: the lowest rank's.")
]


class Over(StrEnum):
    """The x-axes of views/model.py, which is not loaded for `--help`."""

    STEP = "step"
    EPOCH = "epoch"
    TIME = "time"


@commands.command()
def watch(
    runs: Runs = None,
    ascii_only: Annotated[bool, typer.Option("--ascii", help="Plain signs, no colours.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, for a pipe or a log of CI.")] = False,
    rank: Rank = None,
    config: ConfigFile = SETTINGS,
) -> None:
    """Watch runs in the terminal: curves, findings, budgets and progress, once a second.

    In a lake that has no run yet it waits for the first one.

    [dim]Examples:[/dim] entrenar-otel watch · entrenar-otel watch digits-7 --once --ascii
    """
    from entrenar_otel.run.settings import RunSettings
    from entrenar_otel.views.frame import frame
    from entrenar_otel.views.look import Look
    from entrenar_otel.views.watched import FirstRun, WatchedRun

    lake = open_lake()
    file = RunSettings.find(config).file
    look = Look(ascii_only=ascii_only or not _is_unicode())
    if not runs and not once and not lake.runs():
        from entrenar_otel.views.terminal import show

        show([FirstRun(lake, file, rank)], look, colours=not ascii_only)
        return
    run_ids = [lake.find_run(run) for run in runs] if runs else [lake.find_run()]
    watched = [WatchedRun(lake, run_id, file, rank) for run_id in dict.fromkeys(run_ids)]
    for run in watched:
        run.check_rank()
    if once:
        width = shutil.get_terminal_size((80, 24)).columns
        console = Console(width=width, no_color=ascii_only or None, highlight=False)
        for at, run in enumerate(watched):
            if at:
                console.print()
            for line in frame(run.view(), width, look=look):
                line.rstrip()
                console.print(line, no_wrap=True, crop=True)
        return
    from entrenar_otel.views.terminal import show

    show(watched, look, colours=not ascii_only)


@commands.command()
def plot(
    runs: Runs = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="A name that ends with .png, .svg or .pdf; or .html, to look around in."
        ),
    ] = Path("run.png"),
    metric: Annotated[
        list[str] | None, typer.Option("--metric", "-m", help="Only this metric; may be given several times.")
    ] = None,
    axis: Annotated[Over, typer.Option("--x", help="The x-axis.")] = Over.STEP,
    rank: Rank = None,
    config: ConfigFile = SETTINGS,
) -> None:
    """Draw runs as a picture: curves of every sample's extremes, findings marked, limits drawn.

    Several runs stand in the same panels, side by side. An .html is the page of `serve` with the runs in it:
    one file to zoom in and to send, which opens offline.

    [dim]Examples:[/dim] entrenar-otel plot -o run.png · entrenar-otel plot -m loss --x epoch -o loss.svg ·
    entrenar-otel plot digits-7 digits-8 -o both.html
    """
    from entrenar_otel.lake.sql.hints import some_names
    from entrenar_otel.run.settings import RunSettings
    from entrenar_otel.views.model import Axis, Panel
    from entrenar_otel.views.png import FORMATS, save
    from entrenar_otel.views.together import together
    from entrenar_otel.views.watched import WatchedRun

    if output.suffix.lower() not in (".html", *(f".{form}" for form in FORMATS)):
        raise ConfigError(f"expected a name that ends with .png, .svg, .pdf or .html, got {str(output)!r}")
    lake = open_lake()
    run_ids = list(dict.fromkeys(map(lake.find_run, runs))) if runs else [lake.find_run()]
    file = RunSettings.find(config).file
    watched = [WatchedRun(lake, run_id, file, rank) for run_id in run_ids]
    for run in watched:
        run.check_rank()
    views = [run.view() for run in watched]
    view = together(views)
    panels = [Panel(name) for name in metric] if metric else None
    told = f"run{'s' if len(run_ids) > 1 else ''} {view.run_id}"
    if Axis(axis.value) not in view.axes:
        raise NotMeasured(f"{told}: no epochs were reported; use --x step or --x time")
    for panel in panels or ():
        if not panel.lines(view):
            names = some_names(str(panel.metric), sorted({series.metric for series in view.curves}))
            raise NotMeasured(f"{panel.metric!r} was not measured in {told}; measured: {names}")
    if output.suffix.lower() == ".html":
        from entrenar_otel.page.html_file import MAX_RANKS, write_html

        # one rank was named, or whoever opens the file chooses
        others = [
            WatchedRun(lake, one.run_id, file, other).view()
            for one in views
            for other in (one.known_ranks[:MAX_RANKS] if rank is None else ())
            if other != one.rank
        ]
        write_html(output, lake, [*views, *others], metric, Axis(axis.value))
    else:
        save(view, output, panels=panels, axis=Axis(axis.value))
    echo(f"{told} drawn in {output}")


def _is_unicode() -> bool:
    """Whether the terminal's encoding has Braille and lines."""
    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        return False  # Python says UTF-8 there, whatever the terminal has (PEP 540)
    try:
        "⣿┤━▲".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
