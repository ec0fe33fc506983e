"""entrenar-otel: look at runs, ask them questions, export, recover and prune them."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from entrenar_otel._version import __version__
from entrenar_otel.errors import ConfigError, EntrenarError, LakeError, RunError

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

app = typer.Typer(
    name="entrenar-otel",
    help="Look at training runs, ask them questions in SQL, export, recover and prune them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

config_app = typer.Typer(
    help="Check renacer.toml, the one home of thresholds, or print its JSON Schema.", no_args_is_help=True
)
app.add_typer(config_app, name="config")


class Options:
    """What the global options said."""

    lake: str | None = None
    json: bool = False


class QueryFormat(StrEnum):
    """How `query` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class ExportFormat(StrEnum):
    """What `export` writes."""

    JSON = "json"
    CSV = "csv"
    PROMETHEUS = "prometheus"
    PARQUET = "parquet"


class GateFormat(StrEnum):
    """How `ci` prints."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"


Run = Annotated[
    str | None, typer.Argument(help="A run id or a unique beginning of one; the latest by default.")
]
OneRun = Annotated[str, typer.Argument(help="A run id or a unique beginning of one.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the run.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the run to take the command.", min=0.0)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"entrenar-otel {__version__}")
        raise typer.Exit


@app.callback()
def options(
    lake: Annotated[
        str | None,
        typer.Option(
            help="The lake: a folder or URL. Default: ENTRENAR_LAKE, renacer.toml, ./entrenar-lake."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Global options may stand before or behind the command."""
    Options.lake, Options.json = lake, as_json


def open_lake(*, must_exist: bool = True, settings_file: Path = Path("renacer.toml")) -> Lake:
    """The lake that the options, the environment or the settings file name. Raises ConfigError."""
    from entrenar_otel.lake import DEFAULT_LAKE, Lake
    from entrenar_otel.run.settings import RunSettings

    location = (
        Options.lake
        or os.environ.get("ENTRENAR_LAKE")
        or RunSettings.find(settings_file).lake
        or DEFAULT_LAKE
    )
    lake = Lake(location)
    if must_exist and lake.storage.is_local and not os.path.isdir(lake.url):
        raise ConfigError(f"no lake at {lake.url}: name one with --lake, or record a run first")
    return lake


def print_json(value: Any) -> None:
    """Print a value as JSON, which every parser takes: no NaN, no Infinity."""
    from entrenar_processors.plain import plain

    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


@app.command()
def demo(
    epochs: Annotated[int, typer.Option(help="Epochs to train.", min=1, max=200)] = 12,
) -> None:
    """Train a real model on real data under the monitor, and look at the run.

    [dim]Example:[/dim] entrenar-otel demo --lake demo-lake
    """
    from entrenar_otel.cli.demo import run_demo
    from entrenar_otel.lake.overview import run_details

    location = Options.lake or os.environ.get("ENTRENAR_LAKE") or "demo-lake"
    monitor = run_demo(location, epochs, Console(stderr=Options.json))
    if Options.json:
        print_json(run_details(monitor.lake, monitor.run_id))


@app.command("ls")
def list_runs(
    limit: Annotated[int, typer.Option("-n", "--limit", help="The newest N.", min=1)] = 20,
) -> None:
    """List the runs of a lake, newest first.

    [dim]Example:[/dim] entrenar-otel ls -n 5
    """
    from entrenar_otel.cli.tables import runs_table
    from entrenar_otel.lake.overview import runs_of

    runs = runs_of(open_lake())[:limit]
    if Options.json:
        print_json(runs)
    else:
        console = Console()
        console.print(runs_table(runs, console.width))


@app.command()
def show(run: Run = None) -> None:
    """Show one run: what it was, how it ended, the statistics of every metric.

    [dim]Examples:[/dim] entrenar-otel show · entrenar-otel show digits-7 --json
    """
    from entrenar_otel.cli.tables import show_run
    from entrenar_otel.lake.overview import run_details

    lake = open_lake()
    details = run_details(lake, lake.find_run(run))
    if Options.json:
        print_json(details)
    else:
        show_run(details, Console())


@app.command()
def spans(run: Run = None) -> None:
    """Show what a run did when: its spans as a tree, with their events, beside a time line.

    [dim]Examples:[/dim] entrenar-otel spans · entrenar-otel spans digits-7 --json
    """
    from entrenar_otel.cli.spans import show_spans, spans_of

    lake = open_lake()
    run_id = lake.find_run(run)
    found = spans_of(lake, run_id)
    if Options.json:
        print_json(found)
    else:
        show_spans(run_id, found, Console())


@app.command()
def events(
    run: Run = None,
    limit: Annotated[int, typer.Option("-n", "--limit", help="The newest N.", min=1)] = 50,
) -> None:
    """Show what happened in a run: findings, alerts, warnings and whatever else was noted, newest last.

    [dim]Example:[/dim] entrenar-otel events digits-7 -n 20
    """
    from entrenar_otel.cli.events import events_of, events_table, span_names

    lake = open_lake()
    run_id = lake.find_run(run)
    found = events_of(lake, run_id, limit)
    if Options.json:
        print_json(found)
    else:
        console = Console()
        console.print(events_table(found, span_names(lake, run_id), console.width))


@app.command()
def ci(
    run: Run = None,
    config: Annotated[
        Path, typer.Option("--config", "-c", help=r"The file with the \[\[assertion]] tables.")
    ] = Path("renacer.toml"),
    form: Annotated[GateFormat, typer.Option("--format", "-f", help="How to print it.")] = GateFormat.TABLE,
) -> None:
    """Judge a run by its budgets: latency, spans, memory, anti-patterns, and conditions of your own.

    Exit code 0: all are kept; 1: one that has fail_on_violation is exceeded; 2: the file is wrong. What
    was not measured is said to be so, and fails nothing.

    [dim]Examples:[/dim] entrenar-otel ci · entrenar-otel ci digits-7 --format junit > budgets.xml
    """
    from entrenar_otel.cli.ci import as_junit, judge, load_assertions, show_gate

    assertions = load_assertions(config)
    gate = judge(open_lake(settings_file=config) if assertions else None, run, assertions, str(config))
    if Options.json or form is GateFormat.JSON:
        print_json(gate.as_dict())
    elif form is GateFormat.JUNIT:
        typer.echo(as_junit(gate), nl=False)
    else:
        show_gate(gate, Console())
    if not gate.is_passed:
        raise typer.Exit(1)


@app.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="One SELECT over metrics, runs, events, spans, curves, summaries; - reads standard input."
        ),
    ],
    form: Annotated[QueryFormat, typer.Option("--format", "-f", help="How to print it.")] = QueryFormat.TABLE,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run (quicker in a large lake).")] = None,
) -> None:
    """Ask a question in SQL; what is being recorded right now is in the answer.

    [dim]Examples:[/dim]
    entrenar-otel query "SELECT metric, avg(value) FROM metrics GROUP BY metric"
    entrenar-otel query -f csv "SELECT step, value FROM metrics WHERE metric = 'loss'"
    """
    from entrenar_otel.cli.tables import print_table
    from entrenar_otel.exporters import export_table

    lake = open_lake()
    table = lake.query(sys.stdin.read() if sql == "-" else sql, run_id=lake.find_run(run) if run else None)
    if Options.json:
        form = QueryFormat.JSON
    if form is QueryFormat.TABLE and output is None:
        print_table(table, Console())
        return
    text = export_table(table, "csv" if form is QueryFormat.TABLE else form.value, output)
    typer.echo(f"{table.num_rows} rows written to {output}" if text is None else text, nl=text is None)


@app.command()
def export(
    run: Run = None,
    form: Annotated[ExportFormat, typer.Option("--format", "-f", help="The format.")] = ExportFormat.JSON,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
) -> None:
    """Export all metrics of a run.

    [dim]Examples:[/dim] entrenar-otel export -f csv -o run.csv · entrenar-otel export digits-7 -f prometheus
    """
    from entrenar_otel.exporters import export_run

    lake = open_lake()
    run_id = lake.find_run(run)
    text = export_run(lake, run_id, form.value, output)
    typer.echo(f"run {run_id} written to {output}" if text is None else text, nl=text is None)


@app.command()
def recover() -> None:
    """Bring in what killed processes left behind on this host, and close their runs.

    A new run does this too, in the background. [dim]Example:[/dim] entrenar-otel recover
    """
    lake = open_lake(must_exist=False)
    done = lake.recover()
    if Options.json:
        print_json([{**vars(one), "path": str(one.path)} for one in done])
        return
    for one in done:
        typer.echo(
            f"recovered {one.rows:,} rows of run {one.run_id} (attempt {one.attempt}, rank {one.rank})"
        )
        if one.spans:
            typer.echo(f"  ended {len(one.spans):,} spans that were open when the process died")
        if one.damage:
            typer.secho(f"  damaged: {one.damage}", fg=typer.colors.YELLOW)
    if not done:
        typer.echo(f"nothing to recover for {lake.url} in {lake.live}")


@app.command()
def alerts(
    run: Run = None,
    limit: Annotated[int, typer.Option("-n", "--limit", help="The newest N.", min=1)] = 100,
) -> None:
    """Show what was abnormal in a run: when, where, what was done, and where its incidents lie.

    [dim]Example:[/dim] entrenar-otel alerts digits-7
    """
    from entrenar_otel.cli.alerts import alerts_of, show_alerts

    lake = open_lake()
    found = alerts_of(lake, lake.find_run(run), limit)
    if Options.json:
        print_json(found)
        return
    show_alerts(found, Console())


@app.command()
def stop(run: OneRun, reason: Reason = "", wait: Wait = 10.0) -> None:
    """Stop a run of this host: its next `log` raises AndonStop, and what it recorded is kept.

    [dim]Example:[/dim] entrenar-otel stop digits-7 --reason "wrong data"
    """
    _command("stop", run, reason, wait)


@app.command()
def pause(run: OneRun, reason: Reason = "", wait: Wait = 10.0) -> None:
    """Pause a run of this host at its next `log`, until `resume`, `stop` or its time limit.

    [dim]Example:[/dim] entrenar-otel pause digits-7
    """
    _command("pause", run, reason, wait)


@app.command()
def resume(run: OneRun, reason: Reason = "", wait: Wait = 10.0) -> None:
    """Let a paused run go on.

    [dim]Example:[/dim] entrenar-otel resume digits-7
    """
    _command("resume", run, reason, wait)


def _command(name: str, run: str, reason: str, wait: float) -> None:
    from entrenar_otel.andon.remote import give
    from entrenar_otel.recording.control import Command

    lake = open_lake()
    run_id = lake.find_run(run)
    answers = give(lake, run_id, Command(name), reason, wait)
    if Options.json:
        print_json([{"run_id": run_id, "command": name, **vars(one)} for one in answers])
    for one in answers if not Options.json else ():
        said = "took it" if one.taken else f"has not taken it within {wait:g} s"
        if name == "resume" and one.taken and not one.was_paused:
            said = "was not paused"
        typer.echo(f"{name}: run {run_id}, rank {one.rank} {said}")
    if not all(one.taken for one in answers):
        raise typer.Exit(1)


@app.command()
def prune(
    older_than: Annotated[str, typer.Option(help="Age since the run's end: 12h, 7d, 4w.")] = "7d",
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do it; without, only show what would go.")
    ] = False,
) -> None:
    """Remove full-rate rows of old runs; summaries, down-sampled curves and run records stay.

    [dim]Example:[/dim] entrenar-otel prune --older-than 30d --yes
    """
    lake = open_lake()
    age = parse_age(older_than)
    run_id = lake.find_run(run) if run else None
    found = lake.prune(age, run_id) if yes else lake.prunable(age, run_id)
    if Options.json:
        print_json(
            [{"run_id": one.run_id, "ended_at": one.ended_at, "bytes": one.size_bytes, "removed": yes}
             for one in found]
        )  # fmt: skip
        return
    for one in found:
        typer.echo(
            f"{'removed' if yes else 'would remove'} {one.size_bytes:>12,} B  {one.run_id}"
            f"  (ended {one.ended_at:%Y-%m-%d %H:%M} UTC)"
        )
    total = sum(one.size_bytes for one in found)
    hint = "" if yes or not found else "; nothing was removed, do it with --yes"
    typer.echo(f"{len(found)} runs, {total:,} bytes{hint}")


@config_app.command("check")
def check_config(
    file: Annotated[Path, typer.Argument(help="The file to check.")] = Path("renacer.toml"),
) -> None:
    """Check a renacer.toml: one line on what is in it, or every problem with its line, and exit code 2.

    [dim]Examples:[/dim] entrenar-otel config check · entrenar-otel config check other.toml --json
    """
    from entrenar_otel.cli.config_check import checked, summary

    told = checked(file)
    if Options.json:
        print_json(told)
    elif told["ok"]:
        typer.echo(summary(told))
    else:
        for problem in told["problems"]:
            typer.echo(problem["message"], err=True)
    if not told["ok"]:
        raise typer.Exit(2)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of renacer.toml, for editors.

    [dim]Example:[/dim] entrenar-otel config schema > renacer.schema.json
    """
    from entrenar_processors.config.models import config_schema

    print_json(config_schema())


def parse_age(text: str) -> timedelta:
    """`12h`, `7d`, `4w` as a time span.

    >>> parse_age("7d").days
    7
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", text.strip())
    if found is None:
        raise ConfigError(f"expected an age such as 12h, 7d or 4w, got {text!r}")
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[found[2]]
    try:
        return timedelta(seconds=float(found[1]) * seconds)
    except OverflowError:
        raise ConfigError(f"expected an age such as 12h, 7d or 4w, got {text!r}") from None


def hoist_globals(arguments: list[str]) -> list[str]:
    """Move `--lake X` and `--json` in front of the command, so that they may stand anywhere.

    >>> hoist_globals(["ls", "--lake", "x", "-n", "3"])
    ['--lake', 'x', 'ls', '-n', '3']
    """
    front, rest, waiting = [], [], list(arguments)
    while waiting:
        one = waiting.pop(0)
        if one == "--":
            rest += [one, *waiting]
            break
        if one == "--lake" and waiting:
            front += [one, waiting.pop(0)]
        elif one == "--json" or one.startswith("--lake="):
            front.append(one)
        else:
            rest.append(one)
    return front + rest


def main() -> None:
    """The console script. Exit codes: 0 done, 1 nothing found or not possible, 2 wrong call or query."""
    import logging

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        app(hoist_globals(sys.argv[1:]), prog_name="entrenar-otel")
    except EntrenarError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[red]error:[/red] {_escaped(str(error))}"
        )
        sys.exit(1 if isinstance(error, RunError | LakeError) else 2)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        typer.secho(f"error: {error}", fg=typer.colors.RED, err=True)
        sys.exit(1)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
