"""Doctor: its report for people, a section for each part, with what to do below what is not well."""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_processors.counts import counted
from rich.cells import cell_len
from rich.text import Text

from entrenar_otel.cli.grid import print_whole
from entrenar_otel.cli.output import Console
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.report import Report

#: The heading of each part.
TITLES = {
    "installed": "What is installed",
    "lake": "The lake",
    "live": "The live folder",
    "on": "What is on",
    "ports": "What listens, and what is sent to",
    "environment": "What is set in the environment",
    "cost": "What it costs here",
}
_MARKS = {Level.OK: ("✓", "green"), Level.NOTE: ("!", "bold yellow"), Level.PROBLEM: ("✗", "bold red")}
_STYLES = {Level.OK: "", Level.NOTE: "", Level.PROBLEM: "red"}
#: Mark and gaps: `✓ name  text`.
_MARK, _GAP = 2, 2
#: Less room than this is none for a text: then it stands below its name.
_LEAST = 32
#: Names of most parts are no longer, so that their texts stand in one line.
_NAMES = 13
_BAR = 16
_INDENT = 4


def print_report(report: Report, console: Console) -> None:
    """Print all of it, at the width there is."""
    for at, (part, checks) in enumerate(report.parts.items()):
        if at:
            console.print()
        print_whole(console, Text(TITLES.get(part, part), style="bold cyan"))
        width = max([_NAMES, *(cell_len(check.name) for check in checks)])
        for check in checks:
            for line in _lines(check, width, console):
                print_whole(console, line)
    console.print()
    print_whole(console, summary(report))


def summary(report: Report) -> Text:
    """How it came out, in one line."""
    problems, notes = report.count(Level.PROBLEM), report.count(Level.NOTE)
    well = counted(report.count(Level.OK), "check") + " well"
    told = f"{counted(notes, 'note')}, {well}"
    if problems:
        return Text.assemble((counted(problems, "problem"), "bold red"), f", {told}")
    return Text.assemble(("no problem", "bold green"), f", {told}")


def _lines(check: Check, width: int, console: Console) -> Iterator[Text]:
    mark, style = _MARKS[check.level]
    line = Text.assemble((mark, style), " ", (check.name, "bold" if check.level is not Level.OK else ""))
    text = Text(check.text, style=_STYLES[check.level])
    share = check.facts.get("share")
    if isinstance(share, float):
        text = Text.assemble(_bar(share), " ", text)
    begin = _MARK + width + _GAP
    if console.width - begin < _LEAST:
        yield line
        begin = _INDENT
        line = Text()
    for part in _wrapped(text, console, console.width - begin):
        yield _padded(line, begin).append_text(part)
        line = Text()
    if check.advice:
        for at, part in enumerate(_wrapped(Text(check.advice), console, console.width - begin - 2)):
            yield _padded(Text(), begin).append("  " if at else "→ ", style=style).append_text(part)


def _wrapped(text: Text, console: Console, width: int) -> list[Text]:
    lines = list(text.wrap(console, max(width, 8), overflow="fold"))
    for line in lines:
        line.rstrip()
    return lines or [Text()]


def _padded(line: Text, width: int) -> Text:
    """The line, as long as that at least."""
    return line.append(" " * max(0, width - cell_len(line.plain)))


def _bar(share: float) -> Text:
    """How much of the whole it is."""
    filled = round(_BAR * min(1.0, max(0.0, share)))
    return Text.assemble(("━" * filled, "cyan"), ("─" * (_BAR - filled), "dim"))


def progress(part: str) -> str:
    """What a person reads while a part is looked at.

    >>> progress("cost"), progress("lake")
    ('measuring what it costs, some 8 s …', 'looking at the lake …')
    """
    if part == "cost":
        return "measuring what it costs, some 8 s …"
    title = TITLES.get(part, part)
    return f"looking at {title[0].lower()}{title[1:]} …"
