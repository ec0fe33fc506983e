"""The command that brings in what other trackers have recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer
from entrenar_processors.counts import counted
from entrenar_processors.extras import MissingExtra

from entrenar_otel.cli.app import Options, open_lake
from entrenar_otel.cli.output import Console, complain, echo, print_json
from entrenar_otel.errors import ConfigError, EntrenarError
from entrenar_otel.redact import printable_line

if TYPE_CHECKING:
    from entrenar_otel.importers.bring_in import Brought, Outcome
    from entrenar_otel.importers.foreign_run import ForeignRun, Watcher

commands = typer.Typer()
importing = typer.Typer(help="Bring in the runs of another tracker, once each.", no_args_is_help=True)
commands.add_typer(importing, name="import")

#: Of the time that a run takes, how much it is read; then it is written.
_READING = 0.8
_WORDS: dict[Outcome, str] = {"new": "new", "changed": "brought up to date", "known": "there already"}

Rehearsal = Annotated[bool, typer.Option("--dry-run", help="Read everything, and write nothing.")]
Model = Annotated[str | None, typer.Option(help="The model's id of all these runs; by default none.")]
Folder = Annotated[str, typer.Argument(help="The folder; what is below it is found.")]


@importing.command()
def tensorboard(folder: Folder, model_id: Model = None, dry_run: Rehearsal = False) -> None:
    """Bring in event files of TensorBoard: each folder with some is a run.

    [dim]Example:[/dim] entrenar-otel import tensorboard runs/
    """
    _bring("tensorboard", folder, model_id, dry_run)


@importing.command()
def wandb(folder: Folder = "wandb", model_id: Model = None, dry_run: Rehearsal = False) -> None:
    """Bring in offline runs of W&B from their `.wandb` files; no account is needed.

    [dim]Example:[/dim] entrenar-otel import wandb wandb/
    """
    _bring("wandb", folder, model_id, dry_run)


@importing.command()
def mlflow(
    uri: Annotated[
        str, typer.Argument(help="A tracking URI (http://…, sqlite:///mlflow.db), mlflow.db, or a folder.")
    ],
    model_id: Model = None,
    dry_run: Rehearsal = False,
) -> None:
    """Bring in the runs of an MLflow server, database or folder.

    [dim]Examples:[/dim] entrenar-otel import mlflow mlflow.db · entrenar-otel import mlflow mlruns/
    """
    _bring("mlflow", uri, model_id, dry_run)


@importing.command()
def trackio(
    project: Annotated[str | None, typer.Argument(help="A project; by default all of this machine.")] = None,
    model_id: Model = None,
    dry_run: Rehearsal = False,
) -> None:
    """Bring in local projects of Trackio.

    [dim]Example:[/dim] entrenar-otel import trackio digits
    """
    _bring("trackio", project, model_id, dry_run)


def _bring(source: str, where: str | None, model_id: str | None, is_rehearsal: bool) -> None:
    from entrenar_otel.importers.bring_in import Importer

    find_runs = import_module(f"entrenar_otel.importers.{source}").find_runs
    try:
        readers: list[Callable[[Watcher], ForeignRun]] = list(find_runs(where))
    except (EntrenarError, MissingExtra, OSError):
        raise
    except Exception as error:  # the tracker's own, of a server that does not answer say
        raise ConfigError(f"{source} cannot read {where}: {error}") from None
    storage = open_lake(must_exist=False).storage
    importer = Importer(storage, is_rehearsal=is_rehearsal)
    done: list[Brought] = []
    failed: list[str] = []
    for read, watch in _shown(readers, source):
        try:
            run = read(lambda share: watch(_READING * share))  # noqa: B023 - used within the turn
            run.model_id = model_id
            done.append(importer.bring_in(run, lambda share: watch(_READING + (1 - _READING) * share)))  # noqa: B023
            run.points.forget()  # a thousand runs are no more in memory than one
        except EntrenarError:  # of the lake
            raise
        except Exception as error:  # whatever the tracker's reader raises: one run keeps no other back
            failed.append(f"{type(error).__name__}: {error}")
    if Options.json:
        print_json([_document(brought) for brought in done])
    else:
        _tell(done, source, storage.url, is_rehearsal)
    for problem in failed:
        complain(f"one run could not be read: {printable_line(problem)}")
    if failed:
        raise typer.Exit(1)


def _shown(
    readers: list[Callable[[Watcher], ForeignRun]], source: str
) -> Iterator[tuple[Callable[[Watcher], ForeignRun], Watcher]]:
    """The readers, and who is told how far each is; with a bar on stderr where somebody looks at it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("run {task.fields[number]} of {task.total:.0f}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"importing from {source}", total=len(readers), number=1)
        for at, read in enumerate(readers):
            bar.update(task, completed=at, number=at + 1)
            yield read, lambda share: bar.update(task, completed=at + share)  # noqa: B023 - within the turn


def _document(brought: Brought) -> dict[str, object]:
    run = brought.run
    return {
        "run_id": brought.run_id,
        "outcome": brought.outcome,
        "source": run.source,
        "source_id": run.source_id,
        "name": run.name,
        "state": run.state,
        "values": len(run.points),
        "left_out": dict(run.left_out),
    }


def _tell(done: list[Brought], source: str, lake: str, is_rehearsal: bool) -> None:
    for brought in done:
        values, word = counted(len(brought.run.points), "value"), _WORDS[brought.outcome]
        echo(f"{printable_line(brought.run_id)}  {values}  {word}")
    by_outcome = Counter(brought.outcome for brought in done)
    total = sum(len(brought.run.points) for brought in done)
    told = ", ".join(
        f"{by_outcome[outcome]} {word}" for outcome, word in _WORDS.items() if by_outcome[outcome]
    )
    place = f"{'would be ' if is_rehearsal else ''}in {printable_line(lake)}"
    echo(f"{counted(len(done), 'run')} of {source}, {counted(total, 'value')}, {place}: {told or 'nothing'}")
    left_out: Counter[str] = Counter()
    for brought in done:
        left_out.update(brought.run.left_out)
    if left_out:
        kinds = ", ".join(f"{count:,} × {printable_line(kind)}" for kind, count in left_out.most_common())
        echo(f"left out, since they are no numbers: {kinds}")
