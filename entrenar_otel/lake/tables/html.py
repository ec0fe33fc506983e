"""HTML: rows as notebooks show them. What is in them may be anybody's: all text is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from entrenar_otel.console import ipython_shell
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_text

#: Rows that are shown; the rest is counted.
_MAX_ROWS = 50


def rows_html(names: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "", below: str = "") -> str:
    """A table with these columns. Numbers stand at the right."""
    head = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    above = f"<caption>{_text(caption)}</caption>" if caption else ""
    after = f"<p>{_text(below)}</p>" if below else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{after}"


def table_html(table: pa.Table) -> str:
    """The answer to a query, as a table."""
    left = table.num_rows - _MAX_ROWS
    rows = [list(row.values()) for row in plain_rows(table.slice(0, _MAX_ROWS))]
    return rows_html(table.schema.names, rows, below=f"… {left:,} more rows" if left > 0 else "")


def show_tables_in_notebooks() -> None:
    """Let a notebook show Arrow tables as tables, unless it has been told how already."""
    formatter = getattr(ipython_shell(), "display_formatter", None)
    if formatter is not None:
        by_type = formatter.formatters["text/html"]
        if pa.Table not in by_type.type_printers:
            by_type.for_type(pa.Table, table_html)


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = f"{value:.6g}" if isinstance(value, float) else str(value)
        return f'<td style="text-align: right">{number}</td>'
    if isinstance(value, dict):
        value = " ".join(f"{key}={element}" for key, element in value.items())
    return f'<td style="text-align: left">{_text("" if value is None else str(value))}</td>'


def _text(value: str) -> str:
    return html.escape(printable_text(value))
