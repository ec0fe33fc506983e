"""Sections: tables with a heading and remarks, as text for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from entrenar_otel.cli.grid import Column, print_grid
from entrenar_otel.cli.output import Console, echo
from entrenar_otel.redact import printable_line


@dataclass
class Section:
    """A heading, a table (none without columns) and lines below it."""

    title: str
    columns: Sequence[Column] = ()
    rows: list[list[Text]] = field(default_factory=list)
    lines: list[Text] = field(default_factory=list)


def cell(text: str, style: str = "") -> Text:
    """A text from a lake as a cell: one line, which steers no terminal."""
    return Text(printable_line(text), style=style)


def print_sections(sections: Sequence[Section], console: Console) -> None:
    """Print sections for people, at the width there is."""
    for at, section in enumerate(sections):
        if at:
            console.print()
        if section.title:
            console.print(Text(section.title, style="bold cyan"))
        if section.columns:
            print_grid(console, section.columns, section.rows)
        mark = Text("· ", style="dim") if len(section.lines) > 1 else Text()
        for line in section.lines:
            for number, part in enumerate(line.wrap(console, max(20, console.width - len(mark)))):
                part.rstrip()
                console.print(Text.assemble(mark if not number else " " * len(mark), part))


def print_markdown(sections: Sequence[Section]) -> None:
    """Print sections as Markdown, for a pull request say."""
    echo(markdown_of(sections), for_machines=True)


def markdown_of(sections: Sequence[Section]) -> str:
    """Sections as Markdown."""
    parts = []
    for section in sections:
        part = [f"### {_escaped(section.title)}", ""] if section.title else []
        if section.columns:
            part.append(_row(column.title for column in section.columns))
            part.append(_row("---:" if column.right else "---" for column in section.columns))
            part += [_row(_escaped(text.plain) for text in row) for row in section.rows]
            part.append("")
        part += [f"- {_escaped(line.plain)}" for line in section.lines]
        parts.append("\n".join(part).rstrip())
    return "\n\n".join(parts)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A text in which Markdown and HTML find no marks of theirs."""
    for sign in "\\`*_{}[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("&", "&amp;")
