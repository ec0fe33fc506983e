"""The application: what all commands share, which are the global options and the lake."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from entrenar_otel._version import __version__
from entrenar_otel.cli.output import echo, end_unread
from entrenar_otel.errors import ConfigError
from entrenar_otel.redact import printable_text

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: The settings file that is read where none is named.
SETTINGS = Path("renacer.toml")
#: What the check of a value says first, and nobody needs.
_NOISE = "Value error, "


class Commands(TyperGroup):
    """The commands. What is wrong with a call, which may quote it, is told in printable text."""

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _printable_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, *arguments: Any, **more: Any) -> Any:
        with _printable_errors():
            try:
                return super().invoke(*arguments, **more)
            except BrokenPipeError:  # typer would end with 1
                end_unread()


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and isinstance(message := getattr(error, "message", None), str):
            vars(error)["message"] = printable_text(message.removeprefix(_NOISE))
        raise


app = typer.Typer(
    name="entrenar-otel",
    cls=Commands,
    help="Inspect, query, export, control, judge, recover and prune training runs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Run = Annotated[str | None, typer.Argument(help="A run id, or the start or end of one; default: the latest.")]


class Options:
    """The global options of this call."""

    lake: str | None = None
    json: bool = False


def _version(wanted: bool) -> None:
    if wanted:
        echo(f"entrenar-otel {__version__}")
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
    """Keep the global options, which may stand before or after the command."""
    Options.lake, Options.json = lake, as_json


def open_lake(*, must_exist: bool = True, settings_file: Path = SETTINGS) -> Lake:
    """The lake named by the options, the environment or the settings file. Raises ConfigError."""
    from entrenar_otel.cli.no_pandas import do_without_pandas

    do_without_pandas()
    from entrenar_otel.lake import Lake
    from entrenar_otel.recording.live_folder import SECOND_LAKE
    from entrenar_otel.run.settings import RunSettings

    # The file is read only where it decides: an invalid one does not keep anybody from a lake by name.
    named = Options.lake or os.environ.get("ENTRENAR_LAKE")
    lake = Lake(named or RunSettings.find(settings_file).choose_lake(None))
    if must_exist and lake.storage.is_local and not os.path.isdir(lake.url):
        second = lake.live.parent / SECOND_LAKE
        there = f". Runs that could not write there are in {second}" if second.is_dir() else ""
        raise ConfigError(f"no lake at {lake.url}: name one with --lake, or record a run first{there}")
    return lake
