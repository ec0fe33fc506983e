"""Tables: the list of runs, the details of one run, the answer to a query."""

from __future__ import annotations

import json
import math
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Any

from entrenar_processors.durations import text_of
from entrenar_processors.plain import plain
from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from entrenar_otel.cli.grid import Column, print_grid, print_heading, print_whole
from entrenar_otel.cli.output import Console
from entrenar_otel.lake.details import NUMBERS
from entrenar_otel.lake.overview import GOING, seconds_of
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_line, printable_text
from entrenar_otel.semconv import is_of_machine
from entrenar_otel.views.look import STATES
from entrenar_otel.views.numbers import number, value_text

if TYPE_CHECKING:
    import pyarrow as pa

    from entrenar_otel.lake.series_list import Family

_MAX_ROWS = 200
#: Of a run with more series than these, these are shown, and as many families of the others.
MOST_METRICS, _MOST_FAMILIES = 40, 15
#: Less room than this is none for a text.
_NARROWEST = 7
_BARS = "▁▂▃▄▅▆▇█"

#: A data wait below this share of the step time is not worth a line.
_MUCH_WAIT = 0.05
#: A configuration of more characters than this is told without what is off, empty or a table of its own.
_LONG_CONFIG = 800
#: What the numbers of a resumed run are.
_LATEST = ": what several attempts recorded at one place in the loop counts once, as the latest has it"


#: The columns of `ls`, in the order of their worth where there is little room.
_RUN_COLUMNS = (
    Column("run"),
    Column("state"),
    Column("loss", right=True, need=1),
    Column("model", need=4, least=12),
    Column("started (UTC)", need=3),
    Column("took", right=True, need=2),
)


def print_runs(runs: list[dict[str, Any]], console: Console) -> None:
    """Print the runs, with the numbers of ranks and attempts where there are several."""
    counts = [name for name in ("ranks", "attempts") if any(run[name] > 1 for run in runs)]
    rows = [
        [
            Text(printable_line(run["run_id"])),
            Text(run["state"], style=STATES[run["state"]]),
            Text("–" if run.get("loss") is None else number(plain(run["loss"]))),
            Text(printable_line(" ".join(part for part in (run["model_id"], run["version"]) if part)) or "–"),
            Text(f"{datetime.fromisoformat(run['started_at']):%Y-%m-%d %H:%M}"),
            Text(_took(run)),
            *(Text(str(run[name])) for name in counts),
        ]
        for run in runs
    ]
    print_grid(console, [*_RUN_COLUMNS, *(Column(name, right=True, need=1) for name in counts)], rows)


def show_run(details: dict[str, Any], console: Console) -> None:
    """Print the details of a run, as `run_details` gives them."""
    state = details["state"]
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
        *(("", line) for line in (details.get("rank_times") or {}).get("lines", ())),
        ("data wait", _data_wait_line(details.get("data_wait_ratio"))),
        ("config", _config_line(details["config"])),
        ("commit", (details["git_commit"] or "")[:12]),
        ("alerts", _alerts_line(details["alerts"])),
        ("dropped", f"{details['dropped']:,} samples" if details["dropped"] else ""),
        ("lake", details["lake"]),
        ("rows", "pruned: only statistics and down-sampled curves are left" if details["pruned"] else ""),
    ):
        if value:
            facts.add_row(name, Text(printable_text(value)))
    print_heading(console, printable_line(details["run_id"]), Text(state, style=f"bold {STATES[state]}"))
    console.print(Padding(facts, (0, 0, 1, 0), expand=False))
    _print_metrics(details["metrics"], console)
    _print_families(details.get("families", []), console)


def _alerts_line(alerts: list[dict[str, Any]]) -> str:
    """Which alerts there were; `entrenar-otel alerts` says more."""
    return ", ".join(
        f"{row['name']} {row['level'].lower()}" + (f" × {row['count']:,}" if row["count"] > 1 else "")
        for row in alerts
    )


def _data_wait_line(ratio: float | None) -> str:
    """How much of the steps' time was waited for data; `docs/hangs.md` says what to do."""
    return "" if ratio is None or ratio < _MUCH_WAIT else f"{ratio:.0%} of step time"


def _took(run: dict[str, Any]) -> str:
    seconds = seconds_of(run)
    return "–" if seconds is None else text_of(seconds)


def _config_line(config: Any) -> str:
    if config == "withheld":
        return "withheld: it leaves its machine with ENTRENAR_OTLP_CONFIG=1"
    whole = ", ".join(f"{name}={value}" for name, value in _items(config))
    if len(whole) <= _LONG_CONFIG or not isinstance(config, dict):
        return whole
    told = {name: value for name, value in config.items() if value and not isinstance(value, dict | list)}
    parts = [f"{name}={value}" for name, value in told.items()]
    if left := len(config) - len(told):
        parts.append(f"… {left} more (off, empty or tables): --json")
    return ", ".join(parts)


def _items(config: Any) -> list[tuple[str, Any]]:
    """The settings of a run, tables and lists as JSON."""
    items = list(config.items()) if isinstance(config, dict) else [("value", config)]
    return [
        (key, json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value)
        for key, value in items
    ]


#: What is shown of a metric, and its worth where there is little room.
_NEEDS = {"last": 0, "min": 1, "max": 2, "mean": 4, "p99": 6, "p50": 7, "p90": 8, "std": 9}


def _print_metrics(metrics: list[dict[str, Any]], console: Console) -> None:
    if not metrics:
        console.print(Text("no metrics were recorded", style="dim"))
        return
    columns = [
        Column("metric"),
        Column("count", right=True, need=5),
        *(Column(name, right=True, need=_NEEDS[name]) for name in NUMBERS),
        Column("curve", need=3),
    ]
    rows: list[list[Text]] = []
    is_machine = False
    for row in metrics:
        if is_of_machine(row["metric"]) and not is_machine:  # they come last
            is_machine = True
            rows.append([Text("the machine", style="dim"), *(Text() for _ in columns[1:])])
        tags = " ".join(f"{key}={value}" for key, value in row["tags"].items())
        title = Text(printable_line(row["metric"]))
        if tags:
            title.append(f"  {printable_line(tags)}", style="dim")
        if row["nonfinite"]:
            title.append(f"  {row['nonfinite']} non-finite", style="red")
        numbers = [Text(value_text(row["metric"], row[key])) for key in NUMBERS]
        rows.append([title, Text(f"{row['count']:,}"), *numbers, Text(sparkline(row["curve"]))])
    print_grid(console, columns, rows)


def _print_families(families: list[Family], console: Console) -> None:
    """What metrics there are beside those that are shown, and how to see them."""
    if not families:
        return
    shown, others = families[:_MOST_FAMILIES], families[_MOST_FAMILIES:]
    columns = [
        Column("more metrics"),
        Column("series", right=True),
        Column("count", right=True, need=3),
        Column("least", right=True, need=1),
        Column("greatest", right=True, need=2),
    ]
    rows = []
    for family in shown:
        title = Text(printable_line(family.name))
        if family.nonfinite:
            title.append(f"  {family.nonfinite:,} non-finite", style="red")
        low, high = (Text(value_text(family.name, plain(value))) for value in (family.low, family.high))
        rows.append([title, Text(f"{family.series:,}"), Text(f"{family.values:,}"), low, high])
    console.print()
    print_grid(console, columns, rows)
    if others:
        left = f"… {sum(family.series for family in others):,} more, of {len(others):,} other names"
        console.print(Text(left, style="dim"))
    example = shown[0].name.partition("{")[0]
    console.print(
        Text(f"--metric {shlex.quote(printable_line(example))} shows those, --all every one", style="dim")
    )


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


#: Texts longer than this may take several lines of their column.
_LONG_TEXT = 28


def print_table(table: pa.Table, console: Console) -> None:
    """Print an answer as a table, or value by value if it is too wide; a long one is cut, and says so."""
    names = [printable_line(name) for name in table.schema.names]
    numeric = [
        str(field.type).startswith(("int", "uint", "float", "double", "decimal")) for field in table.schema
    ]
    cells = [[_cell(value) for value in row.values()] for row in plain_rows(table.slice(0, _MAX_ROWS))]
    widths = [
        max(
            cell_len(line)
            for text in (name, *(row[at] for row in cells))
            for line in (text.splitlines() or [""])
        )
        for at, name in enumerate(names)
    ]
    # Numbers and ids are whole: they are read, and taken over, as they are
    breaks = [
        not number and width > _LONG_TEXT and not name.endswith("_id")
        for name, width, number in zip(names, widths, numeric, strict=True)
    ]
    least = (
        sum(min(w, _LONG_TEXT) if b else w for w, b in zip(widths, breaks, strict=True)) + 2 * len(names) - 2
    )
    if least > console.width:
        _print_one_by_one(names, cells, console)
    else:
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for name, is_number, may_break in zip(names, numeric, breaks, strict=True):
            shown.add_column(
                Text(name), justify="right" if is_number else "left", overflow="fold", no_wrap=not may_break
            )
        for row in cells:
            shown.add_row(*map(Text, row))
        console.print(shown)
    left = table.num_rows - _MAX_ROWS
    if left > 0:
        console.print(f"… {left:,} more rows; use --format csv, json or parquet for all of them", style="dim")


def _print_one_by_one(names: list[str], cells: list[list[str]], console: Console) -> None:
    """One line per value that is not null, and a blank line between rows."""
    width = max(map(cell_len, names))
    for place, row in enumerate(cells):
        if place:
            console.print()
        for name, cell in zip(names, row, strict=True):
            if not cell:
                continue
            room = console.width - width - 2
            is_whole = name.endswith("_id") or room < _NARROWEST
            lines = [Text(cell)] if is_whole else Text(cell).wrap(console, room, overflow="fold")
            for at, line in enumerate(lines):
                start = Text("" if at else name, style="bold")
                start.append(" " * (width + 2 - cell_len(start.plain)))
                print_whole(console, start.append_text(line))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return printable_line(" ".join(f"{key}={inner}" for key, inner in value.items()))
    return "" if value is None else printable_text(str(value))
