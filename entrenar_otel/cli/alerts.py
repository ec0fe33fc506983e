"""The alerts of a run as a table: what was found, what was done, and where the incidents are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from entrenar_otel.cli.events import SEVERITIES
from entrenar_otel.cli.grid import Column, print_grid
from entrenar_otel.cli.output import Console
from entrenar_otel.lake.incident import PICTURE
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.redact import printable_line
from entrenar_otel.views.numbers import number

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: Of those of one moment, the start of the run is the first and its end the last.
_ALERTS = """
SELECT * FROM alerts
ORDER BY started_at DESC, name <> 'run_ended', name = 'run_started', rank DESC, name DESC
LIMIT ?
"""
_MAX_NAME = 28
_STATES = {"firing": "bold red", "resolved": "green"}


def alerts_of(lake: Lake, run_id: str, limit: int) -> list[dict[str, Any]]:
    """The newest alerts of a run, the newest last, each with the picture of its incident or None."""
    rows = list(plain_rows(lake.query(_ALERTS, [limit], run_id=run_id)))[::-1]
    for row in rows:
        row["picture"] = _picture_of(lake, row["incident"])
    return rows


def _picture_of(lake: Lake, incident: str | None) -> str | None:
    """Where the picture of an incident is, if it has one: its folder is a name that a run has recorded."""
    root = lake.url.rstrip("/") + "/"
    if not incident or not incident.startswith(root + "incidents/") or "/../" in incident:
        return None
    try:
        is_there = lake.storage.size_bytes(f"{incident.removeprefix(root)}/{PICTURE}") > 0
    except OSError:
        return None
    return f"{incident}/{PICTURE}" if is_there else None


def _print_alerts(alerts: list[dict[str, Any]], console: Console) -> None:
    """Print alerts, one per episode, with the start and end of the run among them."""
    if not alerts:
        console.print(Text("nothing was recorded: no alerts, not even the start of the run", style="dim"))
        return
    ranks = any(alert["rank"] for alert in alerts)
    columns = [
        Column("time (UTC)"),
        Column("level"),
        Column("alert", need=2, least=12),
        Column("what", is_text=True),
        Column("action", need=1),
        Column("state"),
    ]
    rows = []
    for alert in alerts:
        level = str(alert["level"])
        at = datetime.fromisoformat(alert["started_at"])
        is_run = alert["source"] == "run"
        name = Text(printable_line(alert["name"] or ""), style="dim" if is_run else "")
        name.truncate(_MAX_NAME, overflow="ellipsis")
        rows.append(
            [
                Text(f"{at:%H:%M:%S}", style="dim"),
                Text(level.lower(), style=SEVERITIES.get(level, "")),
                name,
                _what(alert, ranks=ranks),
                Text("" if is_run else str(alert["action"]).replace("_", " ")),
                Text("" if is_run else alert["state"], style=_STATES.get(alert["state"], "")),
            ]
        )
    print_grid(console, columns, rows)


def show_alerts(alerts: list[dict[str, Any]], console: Console) -> None:
    """Print the alerts, and below them the folders of their incidents."""
    _print_alerts(alerts, console)
    if alerts and all(alert["source"] == "run" for alert in alerts):
        console.print(Text("nothing was abnormal", style="dim"))
    for alert in alerts:
        if alert["incident"]:
            console.print(f"incident: {alert['incident']}", highlight=False, soft_wrap=True, markup=False)
        if alert["picture"]:
            console.print(f" picture: {alert['picture']}", highlight=False, soft_wrap=True, markup=False)


def _what(alert: dict[str, Any], *, ranks: bool) -> Text:
    text = Text(printable_line(alert["summary"] or ""))
    where = [f"{name} {alert[name]}" for name in ("epoch", "batch", "step") if alert[name] is not None]
    facts = [", ".join(where)] if where else []
    if alert["count"] and alert["count"] > 1:
        peak = f", peak {number(alert['peak'])}" if alert["peak"] is not None else ""
        facts.append(f"{alert['count']:,} samples{peak}")
    if ranks:
        facts.append(f"rank {alert['rank']}")
    if facts:
        text.append(f"  {'; '.join(facts)}", style="dim")
    return text
