"""Commands that only look: runs, their spans, events and alerts, queries and exports."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from entrenar_processors.counts import counted

from entrenar_otel.cli.app import Options, Run, open_lake
from entrenar_otel.cli.output import Console, complain, echo, print_json

commands = typer.Typer()

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]


class QueryFormat(StrEnum):
    """What `query` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Sort(StrEnum):
    """What `ls` sorts by: the orders of lake/listing.py, which is not loaded for `--help`."""

    STARTED = "started"
    TOOK = "took"
    LOSS = "loss"
    STATE = "state"
    MODEL = "model"
    RUN = "run"


class ExportFormat(StrEnum):
    """What `export` writes."""

    JSON = "json"
    CSV = "csv"
    PROMETHEUS = "prometheus"
    PARQUET = "parquet"


@commands.command("ls")
def list_runs(
    limit: Annotated[int, typer.Option("-n", "--limit", help="Only the first N.", min=1)] = 20,
    sort: Annotated[Sort, typer.Option(help="By what: newest, longest, or least loss first.")] = Sort.STARTED,
    reverse: Annotated[bool, typer.Option("--reverse", "-r", help="The other way round.")] = False,
    where: Annotated[
        str | None,
        typer.Option(
            "--filter",
            help="Words and comparisons, as on the page: crashed lr>0.01 alerts>0. Or a condition in SQL "
            "over the columns of runs, loss, alerts, took, model, and settings by name.",
        ),
    ] = None,
) -> None:
    """List the runs of a lake, newest first.

    [dim]Examples:[/dim] entrenar-otel ls -n 5 · entrenar-otel ls --sort loss --filter state=completed
    entrenar-otel ls --filter "crashed vit alerts>0" · entrenar-otel ls --filter "lr < 0.01 OR loss < 0.5"
    """
    from entrenar_otel.cli.tables import print_runs
    from entrenar_otel.lake.listing import listed

    lake = open_lake()
    runs = listed(lake, where=where, order=sort.value, reverse=reverse, limit=limit)
    if Options.json:
        print_json(runs)
    elif runs:
        print_runs(runs, Console())
    else:
        echo(f"no run in {lake.url}" + (f" meets --filter {where}" if where else " yet"))


@commands.command()
def show(
    run: Run = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Only this metric, or 'layers.0.*'; may be given several times."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every metric, however many there are; --json has them anyway.")
    ] = False,
) -> None:
    """Show one run: what was trained, how it ended, and the statistics of every metric.

    Of a run with very many metrics, those that people look at first, and how many others there are.

    [dim]Examples:[/dim] entrenar-otel show · entrenar-otel show digits-7 --json ·
    entrenar-otel show -m loss -m "layers.0.*"
    """
    from entrenar_otel.cli.tables import MOST_METRICS, show_run
    from entrenar_otel.lake.details import run_details

    lake = open_lake()
    most = None if Options.json or metric or everything else MOST_METRICS
    details = run_details(lake, lake.find_run(run), metric or (), most)
    if Options.json:
        print_json(details)
    else:
        show_run(details, Console())


@commands.command()
def spans(run: Run = None) -> None:
    """Show what a run did and when: its spans as a tree, with their events, beside a timeline.

    [dim]Examples:[/dim] entrenar-otel spans · entrenar-otel spans digits-7 --json
    """
    from entrenar_otel.cli.spans import show_spans, spans_of

    lake = open_lake()
    run_id = lake.find_run(run)
    rows = spans_of(lake, run_id)
    if Options.json:
        print_json(rows)
    else:
        show_spans(run_id, rows, Console())


@commands.command()
def events(
    run: Run = None,
    limit: Annotated[int, typer.Option("-n", "--limit", help="Only the newest N.", min=1)] = 50,
) -> None:
    """Show what happened in a run: findings, alerts, warnings and all other events, newest last.

    [dim]Example:[/dim] entrenar-otel events digits-7 -n 20
    """
    from entrenar_otel.cli.events import events_of, print_events, span_names

    lake = open_lake()
    run_id = lake.find_run(run)
    rows = events_of(lake, run_id, limit)
    if Options.json:
        print_json(rows)
    else:
        print_events(rows, span_names(lake, run_id), Console())


@commands.command()
def alerts(
    run: Run = None,
    limit: Annotated[int, typer.Option("-n", "--limit", help="Only the newest N.", min=1)] = 100,
) -> None:
    """Show the alerts of a run: what was abnormal, when, where, and what was done.

    [dim]Example:[/dim] entrenar-otel alerts digits-7
    """
    from entrenar_otel.cli.alerts import alerts_of, show_alerts

    lake = open_lake()
    rows = alerts_of(lake, lake.find_run(run), limit)
    if Options.json:
        print_json(rows)
    else:
        show_alerts(rows, Console())


@commands.command()
def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="One SELECT over metrics, metrics_latest, runs, events, alerts, spans, curves, summaries; "
            "- reads standard input."
        ),
    ],
    form: Annotated[QueryFormat, typer.Option("--format", "-f", help="The format.")] = QueryFormat.TABLE,
    output: Output = None,
    run: Annotated[str | None, typer.Option(help="Only this run (faster in a large lake).")] = None,
    memory: Annotated[
        str | None,
        typer.Option(help="At most this much memory, such as 8GB. Default: ENTRENAR_QUERY_MEMORY, 2GB."),
    ] = None,
    spill: Annotated[
        str | None,
        typer.Option(help="At most this much temporary disk. Default: ENTRENAR_QUERY_SPILL, 2GB."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(help="At most this long, such as 1h. Default: ENTRENAR_QUERY_TIMEOUT, 10m."),
    ] = None,
) -> None:
    """Query a lake in SQL; what is being recorded right now is included.

    [dim]Examples:[/dim]
    entrenar-otel query "SELECT metric, avg(value) FROM metrics GROUP BY metric"
    entrenar-otel query -f csv "SELECT step, value FROM metrics WHERE metric = 'loss'"
    """
    from entrenar_otel.cli.tables import print_table
    from entrenar_otel.exporters import export_table
    from entrenar_otel.lake.sql.hints import unknown_metrics
    from entrenar_otel.lake.sql.limits import Limits, whole_process

    lake = open_lake()
    statement, run_id = sys.stdin.read() if sql == "-" else sql, lake.find_run(run) if run else None
    with whole_process(Limits.of(memory, spill, timeout)):
        table = lake.query(statement, run_id=run_id, memory=memory, spill=spill, timeout=timeout)
        if not table.num_rows and (hint := unknown_metrics(statement, lake.metric_names(run_id))):
            complain(hint)
    if Options.json:
        form = QueryFormat.JSON
    if form is QueryFormat.TABLE and output is None:
        print_table(table, Console())
        return
    text = export_table(table, "csv" if form is QueryFormat.TABLE else form.value, output)
    _print_export(text, f"{counted(table.num_rows, 'row')} written to {output}")


@commands.command()
def export(
    run: Run = None,
    form: Annotated[ExportFormat, typer.Option("--format", "-f", help="The format.")] = ExportFormat.JSON,
    output: Output = None,
) -> None:
    """Export all metrics of a run.

    [dim]Examples:[/dim] entrenar-otel export -f csv -o run.csv · entrenar-otel export digits-7 -f prometheus
    """
    from entrenar_otel.exporters import export_run

    lake = open_lake()
    run_id = lake.find_run(run)
    text = export_run(lake, run_id, form.value, output)
    _print_export(text, f"run {run_id} written to {output}")


def _print_export(text: str | None, done: str) -> None:
    """What was exported, or that it is in a file."""
    if text is None:
        echo(done)
    else:
        echo(text, end="", for_machines=True)
