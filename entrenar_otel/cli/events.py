"""The events of a run as a table, and the attributes of an event or span in one line."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from entrenar_otel.cli.tables import number
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_line

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
_EVENTS = "SELECT * FROM events ORDER BY timestamp DESC LIMIT ?"
_SPAN_NAMES = "SELECT DISTINCT span_id, name FROM spans"


def events_of(lake: Lake, run_id: str, limit: int) -> list[dict[str, Any]]:
    """The newest events of a run, the newest last."""
    return list(plain_rows(lake.query(_EVENTS, [limit], run_id=run_id)))[::-1]


def span_names(lake: Lake, run_id: str) -> dict[str, str]:
    """The names of a run's spans, by span id."""
    return dict(zip(*lake.query(_SPAN_NAMES, run_id=run_id).to_pydict().values(), strict=True))


def events_table(events: list[dict[str, Any]], names: dict[str, str], width: int = 100) -> Table | Text:
    """Events as a table, one per line, with the date if there are several, and the span if it is known."""
    if not events:
        return Text("no events were recorded", style="dim")
    times = [datetime.fromisoformat(event["timestamp"]) for event in events]
    days = len({time.date() for time in times}) > 1
    spans = any(event["span_id"] for event in events) and width >= 90
    table = Table(box=None, pad_edge=False, header_style="bold", width=width)
    table.add_column("time (UTC)", no_wrap=True)
    table.add_column("severity", no_wrap=True)
    table.add_column("name", overflow="fold", min_width=14)
    table.add_column("what", ratio=1, overflow="fold")
    if spans:
        table.add_column("span", no_wrap=True, max_width=24, style="dim")
    for event, time in zip(events, times, strict=True):
        severity = str(event["severity"])
        cells = [
            Text(f"{time:%m-%d }{_clock(time)}" if days else _clock(time), style="dim"),
            Text(severity.lower(), style=SEVERITIES.get(severity, "")),
            Text(printable_line(event["name"])),
            what_of(event),
        ]
        if spans:
            cells.append(Text(printable_line(names.get(event["span_id"]) or (event["span_id"] or "")[:8])))
        table.add_row(*cells)
    return table


def _clock(time: datetime) -> str:
    return f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"


def what_of(event: dict[str, Any], known: dict[str, Any] | None = None) -> Text:
    """An event in words: its body, its place in the training, its attributes; without those in `known`."""
    text = Text(printable_line(event.get("body") or ""))
    where = {name: event[name] for name in ("epoch", "batch", "step") if event.get(name) is not None}
    body = event.get("body")
    given = {
        key: value
        for key, value in event["attributes"].items()
        if short(key) not in where and not (body and value == body)
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
