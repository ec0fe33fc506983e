"""Grid: rows for people at any width. Columns are left out before anything is cut to pieces.

The first column names the row, by a run's id say, and is always whole: where it is too long for its column
it has a line of its own, and the rest of the row stands below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from entrenar_otel.cli.output import Console

_GAP = 2
#: A text in several lines that has less room than this stands below its row.
_LEAST_TEXT, _GOOD_TEXT = 24, 36
#: Names longer than this, or than a third of the terminal, do not make their column wider for all others.
_LONG_NAME = 32


@dataclass(frozen=True)
class Column:
    """A column: its title, and what becomes of it where there is little room."""

    title: str
    right: bool = False
    #: 0: always there. Others are left out, those with the highest number first.
    need: int = 0
    #: It may be cut to this width, with an ellipsis.
    least: int | None = None
    #: It is a text that may take several lines.
    is_text: bool = False


def print_grid(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
    """Print the rows below a header. No line is wider than the terminal, but for a name that is."""
    widths = _widths(columns, rows, console.width)
    header = [Text(column.title, style="bold") for column in columns]
    for line in (*_lines(console, columns, header, widths), *_body(console, columns, rows, widths)):
        print_whole(console, line)


def print_whole(console: Console, text: Text) -> None:
    """Print one line, which is never broken: a terminal shows what is too long in several."""
    text.rstrip()
    console.print(text, no_wrap=True, overflow="ignore", crop=False)


def print_heading(console: Console, name: str, facts: Text) -> None:
    """Print a name, and what is told of it beside it, or below it where there is no room."""
    title = Text(name, style="bold")
    if cell_len(name) + _GAP + cell_len(facts.plain) <= console.width:
        title, facts = Text.assemble(title, " " * _GAP, facts), Text()
    print_whole(console, title)
    if facts:
        console.print(facts)


def _body(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]], widths: list[int]
) -> Iterator[Text]:
    for row in rows:
        yield from _lines(console, columns, list(row), widths)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The width of each column; 0 of one that is not there, or of a text that stands below the row."""
    natural = [
        max(cell_len(column.title), *(cell_len(row[at].plain) for row in rows), 0)
        for at, column in enumerate(columns)
    ]
    text = next((at for at, column in enumerate(columns) if column.is_text), None)
    always = [at for at, column in enumerate(columns) if at and not column.need and not column.is_text]
    fixed = sum(natural[at] + _GAP for at in always)
    room = width - fixed - (0 if text is None else _GAP + min(_LEAST_TEXT, natural[text]))
    found = [0] * len(columns)
    for at in always:
        found[at] = natural[at]
    names = [cell_len(row[0].plain) for row in rows]
    room -= sum(natural[at] + _GAP for at, column in enumerate(columns) if column.need == 1)
    limit = natural[0] if text is not None else min(room, max(_LONG_NAME, width // 3))
    found[0] = max((name for name in names if name <= limit), default=0)
    found[0] = max(found[0], cell_len(columns[0].title))
    left = width - found[0] - fixed
    for at in always:  # rather cut than a line that is too long
        if left < 0 and (least := columns[at].least) is not None:
            cut = min(-left, max(0, natural[at] - least))
            found[at] -= cut
            left += cut
    keep = 0 if text is None else _GAP + min(_GOOD_TEXT, natural[text])
    for at in sorted(range(1, len(columns)), key=lambda at: columns[at].need):
        width = min(natural[at], left - keep - _GAP)
        if columns[at].need and width >= min(natural[at], columns[at].least or natural[at]):
            found[at] = width
            left -= width + _GAP
    if text is not None and left - _GAP >= min(_LEAST_TEXT, natural[text]):
        found[text] = min(left - _GAP, natural[text])
    return found


def _lines(console: Console, columns: Sequence[Column], row: list[Text], widths: list[int]) -> Iterator[Text]:
    """The lines of one row."""
    name = row[0]
    if cell_len(name.plain) > widths[0]:
        yield name.copy()
        name = Text()
    wrapped: list[Text] = []
    line, indent = Text(), 0
    for at, (column, given, width) in enumerate(zip(columns, [name, *row[1:]], widths, strict=True)):
        if not width:
            continue
        if at:
            line.append(" " * _GAP)
        cell = given.copy()
        if column.is_text:
            cell, *wrapped = given.wrap(console, width, overflow="fold") or [Text()]
            indent = cell_len(line.plain)
            cell.rstrip()
        if cell_len(cell.plain) > width:
            cell.truncate(width, overflow="ellipsis")
        pad = " " * (width - cell_len(cell.plain))
        line.append(pad if column.right else "").append_text(cell).append("" if column.right else pad)
    yield line
    for more in wrapped:
        yield Text(" " * indent).append_text(more)
    for column, cell, width in zip(columns, row, widths, strict=True):
        if column.is_text and not width and cell.plain != column.title:
            below = max(_LEAST_TEXT, console.width - _GAP)
            for more in cell.wrap(console, below, overflow="fold"):
                if more.plain.strip():
                    yield Text(" " * _GAP).append_text(more)
