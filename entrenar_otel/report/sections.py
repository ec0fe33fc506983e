"""Sections: what a report says below its summary, part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from entrenar_processors.budgets.verdicts import shown as shown_value
from entrenar_processors.counts import counted
from entrenar_processors.durations import text_of

from entrenar_otel.report import convergence, timeline
from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.document import Block, Bullets, CauseBlock, Code, Paragraph, Section, Table
from entrenar_otel.report.facts import MAX_ROWS, RunFacts, when
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.parent import Parent
from entrenar_otel.report.pictures import pictures_of
from entrenar_otel.report.story import recommendations_of
from entrenar_otel.report.text import sentence
from entrenar_otel.semconv import PEAK_ALLOCATED, PEAK_RSS, is_of_machine
from entrenar_otel.views.numbers import number, value_text

#: Lines of a configuration that are shown.
_MAX_LINES = 120
_MAX_TEXT = 400


def sections_of(
    facts: RunFacts, learning: Learning, causes: Sequence[Cause], parents: Sequence[Parent]
) -> list[Section]:
    """All sections that have something to say."""
    made = (
        Section("Likely causes", list(_causes(causes))),
        Section("What to do", list(_advice(facts, learning, causes))),
        Section("Curves", list(pictures_of(facts.view, learning))),
        Section("Convergence", list(_convergence(learning))),
        Section("What happened when", list(_timeline(facts))),
        Section("Warnings", list(_warnings(facts))),
        Section("Values that are not finite", list(_nonfinite(facts))),
        Section("Budgets", list(_budgets(facts))),
        Section("Compared with the parent version", list(_parents(parents))),
        Section("What was run", list(_run(facts))),
        Section("Where the time went", list(_times(facts))),
        Section("All metrics", list(_metrics(facts))),
    )
    return [section for section in made if section.blocks]


def _causes(causes: Sequence[Cause]) -> Iterator[Block]:
    for cause in causes:
        yield CauseBlock(cause.likelihood, cause.title, sentence(cause.summary), cause.evidence)
    if not causes:
        yield Paragraph("None of the failures that this report knows is seen in what was recorded.")


def _advice(facts: RunFacts, learning: Learning, causes: Sequence[Cause]) -> Iterator[Block]:
    items = list(recommendations_of(facts, learning, causes))
    if items:
        yield Bullets(items, numbered=True)


def _convergence(learning: Learning) -> Iterator[Block]:
    if rows := convergence.rows_of(learning):
        yield Table(convergence.HEAD, rows, frozenset({1, 2, 3, 4, 5, 7, 8}))
        yield Bullets(convergence.remarks_of(learning))
        yield Paragraph(
            "Levels are medians of neighbouring values. Trends are Mann–Kendall's test over block medians, "
            "corrected for autocorrelation; p below 0.01 counts."
        )


def _timeline(facts: RunFacts) -> Iterator[Block]:
    entries = timeline.timeline_of(facts)
    rows, more = timeline.shown(facts, entries)
    yield Table(("time", "place", "what", "level", "action", "lasted"), rows, frozenset({0}))
    if more > 0:
        yield Paragraph(f"{more:,} more in between: `entrenar-otel alerts {facts.run_id}`.")


def _warnings(facts: RunFacts) -> Iterator[Block]:
    rows = [
        (
            f"{row['count']:,}",
            str(row["level"]).lower(),
            (row["message"] or "")[:_MAX_TEXT],
            f"{row['step']:,}" if row["step"] is not None else "",
        )
        for row in facts.warnings[:MAX_ROWS]
    ]
    if rows:
        yield Table(("times", "level", "message", "first at step"), rows, frozenset({0, 3}))
    yield from _more(len(facts.warnings))


def _nonfinite(facts: RunFacts) -> Iterator[Block]:
    rows = [
        (
            facts.series_of(row),
            str(row["rank"]),
            f"{row['count']:,}",
            f"{row['step']:,}" if row["step"] is not None else "",
            when(row["first_at"]),
        )
        for row in facts.nonfinite[:MAX_ROWS]
    ]
    if rows:
        yield Table(("series", "rank", "values", "first at step", "first at"), rows, frozenset({1, 2, 3}))
    yield from _more(len(facts.nonfinite))


def _budgets(facts: RunFacts) -> Iterator[Block]:
    rows = [
        (
            result.budget,
            str(result.outcome),
            shown_value(result.type, result.value) if result.value is not None else "",
            shown_value(result.type, result.limit) if result.limit is not None else "",
        )
        for result in facts.view.budgets
    ]
    if rows:
        yield Table(("budget", "outcome", "value", "limit"), rows, frozenset({2, 3}))
    for name, what in ((PEAK_RSS, "resident memory"), (PEAK_ALLOCATED, "memory allocated by Python")):
        if name in facts.peaks:
            yield Paragraph(f"Peak of {what}: {facts.peaks[name] / 1e6:,.0f} MB.")


def _parents(parents: Sequence[Parent]) -> Iterator[Block]:
    for parent in parents:
        change = f" (change: {parent.change})" if parent.change else ""
        if not parent.run_id:
            yield Paragraph(f"The parent {parent.version}{change} is not in this lake.")
            continue
        yield Paragraph(f"The parent is {parent.version}{change}, made by run {parent.run_id}.")
        if rows := [
            (name, number(before), number(after), _change(before, after))
            for name, (before, after) in parent.metrics.items()
        ]:
            yield Table(("best of", "parent", "this run", "change"), rows, frozenset({1, 2, 3}))
        if parent.config:
            yield Table(
                ("setting", "parent", "this run"),
                [
                    (name, _setting(before), _setting(after))
                    for name, (before, after) in parent.config.items()
                ],
            )


def _change(before: float, after: float) -> str:
    return f"{(after - before) / abs(before):+.1%}" if before else number(after - before)


def _setting(value: Any) -> str:
    return "–" if value is None else json.dumps(value)[:_MAX_TEXT]


def _run(facts: RunFacts) -> Iterator[Block]:
    record = facts.latest
    rows = [
        ("run", facts.run_id),
        ("model", " ".join(part for part in (record.get("model_id"), record.get("version")) if part)),
        ("commit", record.get("git_commit") or ""),
        ("host", record.get("host") or ""),
        ("started", when(record.get("started_at"))),
        ("ended", when(record.get("ended_at"))),
        ("took", facts.duration),
        ("attempts", str(facts.view.attempts)),
        ("ranks", f"{facts.view.ranks} of {record.get('world_size') or facts.view.ranks}"),
        ("Python", record.get("python") or ""),
        ("command", " ".join(record.get("argv") or ())[:_MAX_TEXT]),
        ("configuration hash", record.get("config_hash") or ""),
        ("lake", facts.lake),
        ("samples dropped", f"{facts.view.dropped:,}" if facts.view.dropped else ""),
    ]
    yield Table(("", ""), [row for row in rows if row[1]])
    attempts = [
        (
            f"{row['attempt']}.{row['rank']}",
            row["state"],
            when(row["started_at"]),
            when(row["ended_at"]),
            row["host"] or "",
            row["reason"] or "",
        )
        for row in facts.records[:MAX_ROWS]
    ]
    if len(facts.records) > 1:
        yield Table(("attempt.rank", "state", "started", "ended", "host", "reason"), attempts)
        yield from _more(len(facts.records))
    yield from _configuration(facts)
    yield from _environment(facts)


def _configuration(facts: RunFacts) -> Iterator[Block]:
    if facts.is_config_withheld:
        yield Paragraph(
            "It stayed on the run's host; this lake of a sink has only its hash "
            "(ENTRENAR_OTLP_CONFIG=1 sends it).",
            "Configuration.",
        )
    elif facts.config:
        lines = json.dumps(facts.config, indent=2, ensure_ascii=False).splitlines()
        yield Paragraph("As the program gave it, without secrets:", "Configuration.")
        left = len(lines) - _MAX_LINES
        yield Code("\n".join([*lines[:_MAX_LINES], *([f"… {left:,} more lines"] if left > 0 else [])]))
    else:
        yield Paragraph("The program gave none.", "Configuration.")


def _environment(facts: RunFacts) -> Iterator[Block]:
    packages = facts.environment.get("packages")
    if not isinstance(packages, dict) or not packages:
        yield Paragraph("Installed packages were not recorded.", "Environment.")
        return
    platform = str(facts.environment.get("platform") or "")
    yield Paragraph(f"{platform}; {counted(len(packages), 'package')}:", "Environment.")
    yield Code(", ".join(f"{name} {version}" for name, version in sorted(packages.items())))


def _times(facts: RunFacts) -> Iterator[Block]:
    rows = [
        (
            row["name"],
            f"{row['count']:,}",
            text_of(row["seconds"] or 0.0),
            text_of((row["seconds"] or 0.0) / max(1, row["count"])),
            text_of(row["longest"] or 0.0),
        )
        for row in facts.spans[:12]
    ]
    if rows:
        yield Table(("span", "count", "in all", "mean", "longest"), rows, frozenset({1, 2, 3, 4}))


def _metrics(facts: RunFacts) -> Iterator[Block]:
    known = sorted(facts.view.statistics.items(), key=lambda item: (is_of_machine(item[0].metric), item[0]))
    rows = [
        (
            str(series),
            f"{one.count:,}" if one.count == one.count else "",
            *(value_text(series.metric, value) for value in (one.last, one.mean, one.min, one.max)),
        )
        for series, one in known[:MAX_ROWS]
    ]
    if rows:
        yield Table(("series", "values", "last", "mean", "least", "most"), rows, frozenset(range(1, 6)))
    yield from _more(len(known))


def _more(count: int) -> Iterator[Block]:
    if count > MAX_ROWS:
        yield Paragraph(f"… and {count - MAX_ROWS:,} more.")
