"""Lineage: what the command `lineage` prints and writes, and its group, in which `show` needs no name."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from entrenar_otel.cli.output import echo, print_json
from entrenar_otel.errors import ConfigError

if TYPE_CHECKING:
    from entrenar_otel.lineage.lineage import Lineage

#: The command that is meant where a model, an option or nothing stands.
_USUAL = "show"


class LineageFormat(StrEnum):
    """What `lineage` makes."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    PNG = "png"
    JSON = "json"
    OPENLINEAGE = "openlineage"


class BlameFormat(StrEnum):
    """What `lineage blame` prints."""

    TEXT = "text"
    JSON = "json"


class Better(StrEnum):
    """Which values of a metric are good."""

    LESS = "less"
    MORE = "more"


class LineageGroup(TyperGroup):
    """A group that takes what is none of its commands for arguments of `show`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, "-h", "--help"):
            args = [_USUAL, *args]
        return super().parse_args(ctx, args)


def format_of(form: LineageFormat | None, output: Path | None, as_json: bool) -> LineageFormat:
    """The format that was asked for, by name or by the end of a file's name."""
    if form is not None:
        return form
    if output is not None and (end := output.suffix.lower().lstrip(".")) in list(LineageFormat):
        return LineageFormat(end)
    return LineageFormat.JSON if as_json else LineageFormat.TEXT


def write_lineage(lineage: Lineage, model: str | None, form: LineageFormat, output: Path | None) -> None:
    """Print a lineage, or write it into a file. Raises LineageError, MissingExtra, ConfigError, OSError."""
    made = _made(lineage, model, form)
    if output is not None:
        if isinstance(made, bytes):
            output.write_bytes(made)
        else:
            output.write_text(made + "\n", encoding="utf-8")
        verb = "drawn in" if form in (LineageFormat.PNG, LineageFormat.SVG) else "written to"
        echo(f"lineage{f' of {model}' if model else ''} {verb} {output}")
        return
    if isinstance(made, bytes):
        if sys.stdout.isatty():
            raise ConfigError("a PNG is nothing for a terminal: name a file with --output")
        with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as stream:
            stream.write(made)
        return
    echo(made, for_machines=form is not LineageFormat.TEXT)


def _made(lineage: Lineage, model: str | None, form: LineageFormat) -> str | bytes:
    from entrenar_otel.lineage import render

    return render.render(lineage, form.value, model)


def print_blame(found: Any, form: BlameFormat) -> None:
    """Print which change made a metric worse."""
    if form is BlameFormat.JSON:
        print_json(found.as_dict())
    else:
        echo(str(found))
