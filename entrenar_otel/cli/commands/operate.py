"""Commands that change something: a run in progress, or what is kept of those that are over; and the demo."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from entrenar_processors.counts import counted
from rich.text import Text

from entrenar_otel.cli.app import SETTINGS, Options, open_lake
from entrenar_otel.cli.output import Console, complain, echo, print_json
from entrenar_otel.errors import ConfigError, LakeError
from entrenar_otel.redact import printable_line

if TYPE_CHECKING:
    from entrenar_otel.andon.remote import Answer
    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.recover import Recovered

commands = typer.Typer()

#: A full disk, a quota that is used up, a folder that is not to be written.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

OneRun = Annotated[str, typer.Argument(help="A run id, or the start or end of one.")]
Reason = Annotated[str, typer.Option(help="Why; it is recorded with the run.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for the run to accept the command.", min=0.0)]


@commands.command()
def stop(run: OneRun, reason: Reason = "", wait: Wait = 10.0) -> None:
    """Stop a run on this host: its next `log` raises AndonStop, and what it recorded is kept.

    [dim]Example:[/dim] entrenar-otel stop digits-7 --reason "wrong data"
    """
    _command("stop", run, reason, wait)


@commands.command()
def pause(run: OneRun, reason: Reason = "", wait: Wait = 10.0) -> None:
    """Pause a run on this host at its next `log`, until `resume`, `stop` or its time limit.

    [dim]Example:[/dim] entrenar-otel pause digits-7
    """
    _command("pause", run, reason, wait)


@commands.command()
def resume(run: OneRun, reason: Reason = "", wait: Wait = 10.0) -> None:
    """Resume a paused run.

    [dim]Example:[/dim] entrenar-otel resume digits-7
    """
    _command("resume", run, reason, wait)


def _command(name: str, run: str, reason: str, wait_seconds: float) -> None:
    from entrenar_otel.andon.remote import give
    from entrenar_otel.recording.process.control import Command

    lake = open_lake()
    run_id = lake.find_run(run)
    answers = give(lake, run_id, Command(name), reason, wait_seconds)
    if Options.json:
        print_json([{"run_id": run_id, "command": name, **vars(answer)} for answer in answers])
    else:
        for answer in answers:
            outcome = _outcome(name, answer, wait_seconds)
            echo(f"{name}: run {printable_line(run_id)}, rank {answer.rank} {outcome}")
    if not all(answer.taken for answer in answers):
        raise typer.Exit(1)


def _outcome(name: str, answer: Answer, wait_seconds: float) -> str:
    from entrenar_processors.durations import text_of

    if not answer.taken:
        return f"did not accept the command within {text_of(wait_seconds)}"
    return "was not paused" if name == "resume" and not answer.was_paused else "accepted the command"


@commands.command()
def recover(
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also take for dead what is not seen to live and was not heard of for ten minutes. Samples "
            "that such a process still records may be lost, so be sure that it is dead.",
        ),
    ] = False,
    send: Annotated[
        bool,
        typer.Option(
            "--send",
            help="Then send what waits on this host to be sent by OTLP to OTEL_EXPORTER_OTLP_ENDPOINT.",
        ),
    ] = False,
) -> None:
    """Recover what killed processes left on this host into the lake, and mark their runs as crashed.

    What may belong to a living process is left alone: one of another host, boot or container, or one whose
    lock is gone. A new run does this too, in the background, but never by force.
    [dim]Example:[/dim] entrenar-otel recover
    """
    lake = open_lake(must_exist=False)
    try:
        recovered = lake.recover(force=force)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise LakeError(
            f"{lake.url} cannot be written ({os.strerror(error.errno or 0)}). Nothing is lost: what was "
            f"recorded stays in {lake.live} until a call of this gets it into the lake"
        ) from None
    _show_recovered(lake, recovered)
    if send:
        _send(lake)


def _send(lake: Lake) -> None:
    from entrenar_otel.run.send_backlog import send_backlog

    sent = send_backlog(lake.live, SETTINGS)
    if not Options.json:
        echo(f"sent {counted(sent.samples, 'sample')} in {counted(sent.requests, 'request')}")
    if sent.refused:
        complain(f"refused, and left out: {printable_line(sent.refused)}")
    if sent.bytes_left:
        why = f": {printable_line(sent.problem)}" if sent.problem else ""
        complain(f"{sent.bytes_left:,} bytes wait still in {lake.live}{why}")
        raise typer.Exit(1)


def _show_recovered(lake: Lake, recovered: list[Recovered]) -> None:
    if Options.json:
        print_json([{**vars(segment), "path": str(segment.path)} for segment in recovered])
        return
    for segment in recovered:
        process = f"{printable_line(segment.run_id)} (attempt {segment.attempt}, rank {segment.rank})"
        echo(f"recovered {counted(segment.rows, 'row')} of run {process}")
        if segment.spans:
            verb = "was" if len(segment.spans) == 1 else "were"
            echo(f"  ended {counted(len(segment.spans), 'span')} that {verb} open when the process died")
        if segment.damage:
            Console(soft_wrap=True).print(Text(f"  damaged: {segment.damage}", style="yellow"))
    if not recovered:
        echo(f"nothing to recover for {lake.url} in {lake.live}")


@commands.command()
def prune(
    older_than: Annotated[
        str, typer.Option(help="How long ago the run must have ended, such as 12h, 7d or 1h30m.")
    ] = "7d",
    run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove; without it, only show what would be removed.")
    ] = False,
) -> None:
    """Remove the full-rate rows of old runs; summaries, down-sampled curves and run records stay.

    [dim]Example:[/dim] entrenar-otel prune --older-than 30d --yes
    """
    lake = open_lake()
    age = parse_age(older_than)
    run_id = lake.find_run(run) if run else None
    runs = lake.prune(age, run_id) if yes else lake.prunable(age, run_id)
    if Options.json:
        print_json(
            [{"run_id": run.run_id, "ended_at": run.ended_at, "bytes": run.size_bytes, "removed": yes}
             for run in runs]
        )  # fmt: skip
        return
    if not runs:
        echo(
            f"nothing to prune in {lake.url}: no run that ended {older_than} ago or earlier "
            "still has full-rate rows"
        )
        return
    verb = "removed" if yes else "would remove"
    for ended in runs:
        echo(
            f"{verb} {ended.size_bytes:>12,} B  {printable_line(ended.run_id)}"
            f"  (ended {ended.ended_at:%Y-%m-%d %H:%M} UTC)"
        )
    total = sum(run.size_bytes for run in runs)
    hint = "" if yes else "; nothing was removed: add --yes to remove them"
    echo(f"{counted(len(runs), 'run')}, {total:,} bytes{hint}")


def parse_age(text: str) -> timedelta:
    """The age that `--older-than` names. Raises ConfigError.

    >>> parse_age("1h30m")
    datetime.timedelta(seconds=5400)
    """
    from entrenar_processors.durations import BadDuration, parse_seconds

    try:
        return timedelta(seconds=parse_seconds(text))
    except BadDuration as error:
        raise ConfigError(f"--older-than: {error}") from None


@commands.command()
def demo(
    epochs: Annotated[int, typer.Option(help="Epochs to train.", min=1, max=200)] = 12,
) -> None:
    """Train a real model on real data under the monitor, and look at the run.

    [dim]Example:[/dim] entrenar-otel demo --lake demo-lake
    """
    from entrenar_otel.cli.demo import run_demo
    from entrenar_otel.lake.details import run_details

    location = Options.lake or os.environ.get("ENTRENAR_LAKE") or "demo-lake"
    monitor = run_demo(location, epochs, Console(stderr=Options.json))
    if Options.json:
        print_json(run_details(monitor.lake, monitor.run_id))
