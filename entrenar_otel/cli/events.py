"""The events of a run as a table, and the attributes of an event or span in one line."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from entrenar_otel.cli.grid import Column, print_grid
from entrenar_otel.cli.output import Console
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_line
from entrenar_otel.semconv import ENVIRONMENT
from entrenar_otel.views.numbers import number

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

SEVERITIES = {"INFO": "blue", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red reverse"}
#: Attributes that come first, in this order; the others follow as they were given.
_TELLING = (
    *("message", "reason", "metric", "detector", "level", "epoch", "step", "loss", "accuracy"),
    *("value", "expected", "score"),
)
#: Attributes that add nothing for a person to what the columns say.
_FOR_MACHINES = frozenset({"time_ns", "started_ns", "ended_ns", "seq"})
_EVENTS = "SELECT * FROM events ORDER BY timestamp DESC, rank DESC, name DESC LIMIT ?"
_SPAN_NAMES = "SELECT DISTINCT span_id, name FROM spans"


def events_of(lake: Lake, run_id: str, limit: int) -> list[dict[str, Any]]:
    """The newest events of a run, the newest last."""
    return list(plain_rows(lake.query(_EVENTS, [limit], run_id=run_id)))[::-1]


def span_names(lake: Lake, run_id: str) -> dict[str, str]:
    """The names of a run's spans, by span id."""
    return dict(zip(*lake.query(_SPAN_NAMES, run_id=run_id).to_pydict().values(), strict=True))


def print_events(events: list[dict[str, Any]], names: dict[str, str], console: Console) -> None:
    """Print events, one per line, with the date if there are several, and the span if it is known."""
    if not events:
        console.print(Text("no events were recorded", style="dim"))
        return
    times = [datetime.fromisoformat(event["timestamp"]) for event in events]
    days = len({time.date() for time in times}) > 1
    columns = [
        Column("time (UTC)"),
        Column("severity"),
        Column("name", least=12),
        Column("what", is_text=True),
        Column("span", need=1, least=12),
    ]
    rows = []
    for event, time in zip(events, times, strict=True):
        severity = str(event["severity"])
        span = printable_line(names.get(event["span_id"]) or (event["span_id"] or "")[:8])
        rows.append(
            [
                Text(f"{time:%m-%d }{_clock(time)}" if days else _clock(time), style="dim"),
                Text(severity.lower(), style=SEVERITIES.get(severity, "")),
                Text(printable_line(event["name"])),
                what_of(event),
                Text(span, style="dim"),
            ]
        )
    if not any(event["span_id"] for event in events):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    print_grid(console, columns, rows)


def _clock(time: datetime) -> str:
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"


def what_of(event: dict[str, Any], known: dict[str, Any] | None = None) -> Text:
    """An event in words: its body, its place in the training, its attributes; without those in `known`."""
    body = None if event.get("name") == ENVIRONMENT else event.get("body")  # a list of hundreds
    text = Text(printable_line(body or ""))
    where = {name: event[name] for name in ("epoch", "batch", "step") if event.get(name) is not None}
    given = {
        key: value
        for key, value in event["attributes"].items()
        if short(key) not in where and not (body and value == body) and value != event.get("run_id")
    }
    for fact in (facts(where, known), facts(given, known)):
        if fact:
            text.append(("  " if text else "") + fact, style="dim")
    return text


def facts(attributes: dict[str, Any], known: dict[str, Any] | None = None) -> str:
    """Attributes in one line, the most telling first, without those in `known`.

    >>> facts({"training.run.id": "a", "z": "0.123456", "epoch": "3"}, {"training.run.id": "a"})
    'epoch=3 z=0.1235'
    """
    there = {(short(key), str(value)) for key, value in (known or {}).items()}
    fresh = {
        short(key): value
        for key, value in attributes.items()
        if value not in (None, "", "null", "{}") and (short(key), str(value)) not in there
        if short(key) not in _FOR_MACHINES
    }
    first = [key for key in _TELLING if key in fresh]
    keys = [*first, *(key for key in fresh if key not in first)]
    return " ".join(f"{printable_line(key)}={_value(fresh[key])}" for key in keys)


def short(key: str) -> str:
    """The name of an attribute without the prefix that all of ours have."""
    return key.removeprefix("training.")


def _value(value: Any) -> str:
    text = printable_line(str(value))
    try:
        rounded = text if "_" in text or len(text) < 7 else number(float(text))
    except (ValueError, OverflowError):
        rounded = text
    return f'"{rounded}"' if " " in rounded else rounded
