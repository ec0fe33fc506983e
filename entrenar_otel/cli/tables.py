"""Tables: the list of runs, the details of one run, the answer to a query."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

from entrenar_processors.durations import text_of
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from entrenar_otel.cli.output import Console
from entrenar_otel.lake.overview import GOING, NUMBERS, seconds_of
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_line, printable_text

if TYPE_CHECKING:
    import pyarrow as pa


STATES = {
    "running": "cyan",
    "paused": "magenta",
    "completed": "green",
    "stopped": "yellow",
    "crashed": "red",
    "unknown": "yellow",
}
_MAX_ROWS = 200
#: Columns narrower than this make a table unreadable.
_NARROWEST = 7
_BARS = "▁▂▃▄▅▆▇█"

#: What the numbers of a resumed run are.
_LATEST = ": what several attempts recorded at one place in the loop counts once, as the latest has it"


def runs_table(runs: list[dict[str, Any]], width: int = 100) -> Table:
    """The runs as a table, one per line, with the numbers of ranks and attempts where there are several."""
    counts = [name for name in ("ranks", "attempts") if any(run[name] > 1 for run in runs)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for column in ("state", "model", "started (UTC)"):
        table.add_column(column, no_wrap=True)
    for column in ("took", *counts):
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        state = run["state"]
        model = (run["model_id"], run["version"] if width >= 100 else None)
        table.add_row(
            Text(printable_line(run["run_id"])),
            Text(state, style=STATES[state]),
            Text(printable_line(" ".join(part for part in model if part)) or "–"),
            f"{datetime.fromisoformat(run['started_at']):%Y-%m-%d %H:%M}",
            _took(run),
            *(str(run[name]) for name in counts),
        )
    return table


def show_run(details: dict[str, Any], console: Console) -> None:
    """Print the details of a run, as `run_details` gives them."""
    state = details["state"]
    head = Text.assemble((printable_line(details["run_id"]), "bold"), "  ", (state, f"bold {STATES[state]}"))
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    model = " ".join(part for part in (details["model_id"], details["version"]) if part)
    for name, value in (
        ("reason", details["reason"]),
        ("model", model),
        (
            "started",
            f"{datetime.fromisoformat(details['started_at']):%Y-%m-%d %H:%M:%S} UTC, "
            f"{'for' if details['state'] in GOING else 'took'} {_took(details)}",
        ),
        ("attempts", f"{details['attempts']}, resumed{_LATEST}" if details["attempts"] > 1 else ""),
        ("ranks", str(details["ranks"]) if details["ranks"] > 1 else ""),
        ("config", ", ".join(f"{k}={v}" for k, v in _items(details["config"]))),
        ("commit", (details["git_commit"] or "")[:12]),
        ("dropped", f"{details['dropped']:,} samples" if details["dropped"] else ""),
        ("lake", details["lake"]),
        ("rows", "pruned: only statistics and down-sampled curves are left" if details["pruned"] else ""),
    ):
        if value:
            facts.add_row(name, Text(printable_text(value)))
    console.print(
        Group(
            head,
            Padding(facts, (0, 0, 1, 0), expand=False),
            _metrics_table(details["metrics"], console.width),
        )
    )


def _took(run: dict[str, Any]) -> str:
    seconds = seconds_of(run)
    return "–" if seconds is None else text_of(seconds)


def _items(config: Any) -> list[tuple[str, Any]]:
    return list(config.items()) if isinstance(config, dict) else [("value", config)]


def _metrics_table(metrics: list[dict[str, Any]], width: int) -> Table | Text:
    if not metrics:
        return Text("no metrics were recorded", style="dim")
    numbers: tuple[str, ...] = NUMBERS if width >= 150 else ("last", "mean", "min", "p50", "p99", "max")
    if width < 120:
        numbers = ("last", "mean", "max")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric", overflow="fold", min_width=16)
    table.add_column("count", justify="right", no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    for row in metrics:
        tags = " ".join(f"{key}={value}" for key, value in row["tags"].items())
        title = Text(printable_line(row["metric"]))
        if tags:
            title.append(f"  {printable_line(tags)}", style="dim")
        if row["nonfinite"]:
            title.append(f"  {row['nonfinite']} non-finite", style="red")
        table.add_row(
            title, f"{row['count']:,}", *(number(row[key]) for key in numbers), sparkline(row["curve"])
        )
    return table


def number(value: Any) -> str:
    """A number with four significant digits; a whole number in full."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def sparkline(values: list[Any]) -> str:
    """A curve as a row of bars.

    >>> sparkline([0, 1, 2, 3])
    '▁▃▆█'
    """
    finite = [value for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # a constant, and averages that round it differently
        span = math.inf
    return "".join(
        _BARS[round((value - low) / span * (len(_BARS) - 1))] if isinstance(value, int | float) else " "
        for value in values
    )


def print_table(table: pa.Table, console: Console) -> None:
    """Print an answer as a table, or value by value if it is too wide; a long one is cut, and says so."""
    cells = [[_cell(value) for value in row.values()] for row in plain_rows(table.slice(0, _MAX_ROWS))]
    if len(table.schema) * (_NARROWEST + 2) > console.width + 2:
        console.print(_one_by_one(table.schema.names, cells))
    else:
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for field in table.schema:
            numeric = str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
            shown.add_column(
                Text(printable_line(field.name)), justify="right" if numeric else "left", overflow="fold"
            )
        for row in cells:
            shown.add_row(*map(Text, row))
        console.print(shown)
    left = table.num_rows - _MAX_ROWS
    if left > 0:
        console.print(f"… {left:,} more rows; use --format csv, json or parquet for all of them", style="dim")


def _one_by_one(names: list[str], cells: list[list[str]]) -> Table:
    """One line per value that is not null, and a blank line between rows."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for number, row in enumerate(cells):
        if number:
            shown.add_row()
        for name, cell in zip(names, row, strict=True):
            if cell:
                shown.add_row(Text(printable_line(name)), Text(cell))
    return shown


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return printable_line(" ".join(f"{key}={inner}" for key, inner in value.items()))
    return "" if value is None else printable_text(str(value))
