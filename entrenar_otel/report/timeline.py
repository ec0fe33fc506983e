"""Timeline: what happened when, and what was done about it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from entrenar_processors.durations import text_of

from entrenar_otel.report.facts import MAX_ROWS, RunFacts, when
from entrenar_otel.views.numbers import clock_text


class Entry(NamedTuple):
    """One line: when, where in the loop, what, how urgent, what was done, how long it lasted."""

    at: datetime
    place: str
    what: str
    level: str
    done: str
    lasted: str


def timeline_of(facts: RunFacts) -> list[Entry]:
    """Starts and ends of attempts, and alerts joined with the actions taken, in time order."""
    return sorted((*_attempts(facts), *_alerts(facts)), key=lambda entry: entry.at)


def shown(facts: RunFacts, entries: list[Entry]) -> tuple[list[Sequence[str]], int]:
    """Rows of a table, times since the start; and how many more there are. The last ones say the most."""
    start = entries[0].at if entries else None
    kept = entries if len(entries) <= MAX_ROWS else [*entries[:10], *entries[10 - MAX_ROWS :]]
    rows: list[Sequence[str]] = [
        (
            clock_text(max(0.0, (entry.at - start).total_seconds())) if start else when(entry.at),
            entry.place,
            entry.what,
            entry.level,
            entry.done,
            entry.lasted,
        )
        for entry in kept
    ]
    return rows, len(entries) - len(kept)


def _attempts(facts: RunFacts) -> Iterator[Entry]:
    by_attempt: dict[int, list[Any]] = defaultdict(list)
    for row in facts.records:
        by_attempt[row["attempt"]].append(row)
    for attempt, rows in by_attempt.items():
        name = "the run" if len(by_attempt) == 1 else f"attempt {attempt}"
        ranks = f" on {len(rows)} ranks" if len(rows) > 1 else ""
        yield Entry(min(row["started_at"] for row in rows), "", f"{name} started{ranks}", "", "", "")
        ends = [row["ended_at"] for row in rows]
        if all(ends):
            states = sorted({row["state"] for row in rows})
            reason = next((row["reason"] for row in rows if row["reason"]), None)
            told = f"{name} ended: {', '.join(states)}" + (f" ({reason})" if reason else "")
            yield Entry(max(ends), "", told, "", "", "")


def _alerts(facts: RunFacts) -> Iterator[Entry]:
    done: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row in facts.actions:
        text = row["outcome"] or row["action"] or ""
        if text:
            done[row["attempt"], row["rank"], row["episode"]].append(text)
    for row in facts.alerts:
        acted = list(dict.fromkeys(done[row["attempt"], row["rank"], row["episode"]]))
        lasted = ""
        if row["ended_at"] is not None:
            lasted = text_of(max(0.0, round((row["ended_at"] - row["started_at"]).total_seconds(), 1)))
        count = f" ({row['count']:,} samples)" if (row["count"] or 1) > 1 else ""
        rank = f", rank {row['rank']}" if len({one["rank"] for one in facts.records}) > 1 else ""
        yield Entry(
            row["started_at"],
            _place(row),
            f"{row['summary'] or row['name']}{count}{rank}",
            str(row["level"]).lower(),
            ", ".join(acted) or ("told" if row["action"] == "notify" else row["action"] or ""),
            lasted or "to the end",
        )


def _place(row: Any) -> str:
    if row["step"] is not None:
        return f"step {row['step']:,}"
    return f"epoch {row['epoch']}" if row["epoch"] is not None else ""
