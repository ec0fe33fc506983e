"""The gate: the verdict on every budget of a renacer.toml for one run, as a table, JSON or JUnit XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_processors.budgets.verdicts import Outcome, Result, evaluate, shown
from rich.table import Table
from rich.text import Text

from entrenar_otel.cli.output import Console
from entrenar_otel.errors import ConfigError
from entrenar_otel.lake.budget_facts import facts_of
from entrenar_otel.lake.overview import GOING, runs_of
from entrenar_otel.lake.records.runs import UNKNOWN
from entrenar_otel.redact import printable_line
from entrenar_otel.run.settings import load_config
from entrenar_otel.views.look import STATES

if TYPE_CHECKING:
    from entrenar_processors.config.models import Assertion

    from entrenar_otel.lake import Lake

_VERDICTS = {
    "passed": ("✓", "green"),
    "violated": ("✗", "bold red"),
    "warning": ("!", "yellow"),
    "not measured": ("–", "dim"),
    "off": ("·", "dim"),
}
_BAR = 10


@dataclass(frozen=True)
class Gate:
    """The verdicts on a run. Without budgets there is nothing to judge, and no run is looked up."""

    run_id: str | None
    state: str | None
    reason: str | None
    config: str
    results: list[Result]
    #: Whether a budget that was not measured fails the gate too.
    is_strict: bool = False

    def fails(self, result: Result) -> bool:
        """Whether this verdict fails the gate."""
        verdict = verdict_of(result)
        return verdict == "violated" or (self.is_strict and verdict == "not measured")

    @property
    def is_passed(self) -> bool:
        return not any(map(self.fails, self.results))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "run_id": self.run_id,
            "state": self.state,
            "config": self.config,
            "passed": self.is_passed,
            "budgets": [
                {
                    "name": result.budget,
                    "type": result.type,
                    "verdict": verdict_of(result),
                    "value": result.value,
                    "limit": result.limit,
                    "unit": result.unit,
                    "usage": result.usage,
                    "message": result.message,
                    "where": result.where,
                    "fail_on_violation": result.fail_on_violation,
                }
                for result in self.results
            ],
        }


def verdict_of(result: Result) -> str:
    """`passed`, `violated`, `warning` (violated, but without fail_on_violation), `not measured` or `off`."""
    is_warning = result.outcome is Outcome.VIOLATED and not result.fail_on_violation
    return "warning" if is_warning else str(result.outcome)


def load_assertions(path: Path) -> Sequence[Assertion]:
    """The budgets of a settings file. Raises ConfigError, also if there is no such file."""
    if not path.is_file():
        raise ConfigError(
            f"no settings file {path}: write budgets into one as [[assertion]] tables (docs/alerts.md), or "
            "name it with --config"
        )
    return load_config(path).assertion


def judge(
    lake: Lake | None, run: str | None, assertions: Sequence[Assertion], config: str, *, strict: bool = False
) -> Gate:
    """Judge a run, by default the latest. Raises RunError."""
    if lake is None or not assertions:
        return Gate(None, None, None, config, [], strict)
    run_id = lake.find_run(run)
    record = next(summary for summary in runs_of(lake) if summary["run_id"] == run_id)
    results = evaluate(assertions, facts_of(lake, run_id))
    return Gate(run_id, record["state"], record["reason"], config, results, strict)


def show_gate(gate: Gate, console: Console) -> None:
    """Print the verdicts, and below them the reasons of those that did not pass."""
    if gate.run_id is None:
        console.print(Text(f"no [[assertion]] in {gate.config}: nothing to judge", style="dim"))
        return
    state = str(gate.state)
    head = Text.assemble(
        (printable_line(gate.run_id), "bold"), "  ", (state, f"bold {STATES.get(state, '')}")
    )
    counts = Counter(verdict_of(result) for result in gate.results)
    for name, (_, style) in _VERDICTS.items():
        if counts[name]:
            head.append("  ").append(f"{counts[name]} {name}", style=style)
    console.print(head)
    if state not in ("completed", "stopped"):
        going = "is not over" if state in GOING else "may not be over" if state == UNKNOWN else None
        end = going or f"ended abnormally: {printable_line(gate.reason or 'unknown')}"
        console.print(Text(f"the run {end} (judged by what was recorded)", style="yellow"))
    console.print()
    console.print(_table(gate.results, console.width))
    notes = [result for result in gate.results if result.outcome in (Outcome.VIOLATED, Outcome.NOT_MEASURED)]
    if notes:
        console.print()
        console.print(_notes(notes))


def _table(results: list[Result], width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("budget", overflow="fold", min_width=14)
    has_types, has_bars = width >= 96, width >= 106
    if has_types:
        table.add_column("type", no_wrap=True, style="dim")
    for name in ("value", "limit", "usage"):
        table.add_column(name, justify="right", no_wrap=True)
    if has_bars:
        table.add_column("", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for result in results:
        verdict = verdict_of(result)
        mark, style = _VERDICTS[verdict]
        usage = "–" if result.usage is None else f"{min(result.usage, 99.99):.0%}".replace("%", " %")
        if result.usage is not None and result.usage > 99.99:
            usage = ">9,999 %"
        cells = [
            Text(printable_line(result.budget), style="dim" if verdict == "off" else ""),
            *([Text(result.type)] if has_types else []),
            Text(shown(result.type, result.value)),
            Text(shown(result.type, result.limit), style="dim"),
            Text(usage, style=style if result.outcome is Outcome.VIOLATED else ""),
        ]
        if has_bars:
            cells.append(_bar(result.usage, style))
        table.add_row(*cells, Text(f"{mark} {verdict}", style=style))
    return table


def _bar(usage: float | None, style: str) -> Text:
    if usage is None:
        return Text()
    full = min(_BAR, round(usage * _BAR)) if usage < 1 else _BAR
    return Text("━" * full, style=style).append("─" * (_BAR - full), style="dim")


def _notes(results: list[Result]) -> Table:
    notes = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    notes.add_column(no_wrap=True)
    notes.add_column(overflow="fold")
    for result in results:
        mark, style = _VERDICTS[verdict_of(result)]
        note = Text(printable_line(result.budget), style="bold" if result.outcome is Outcome.VIOLATED else "")
        notes.add_row(
            Text(mark, style=style), note.append(f": {printable_line(result.message)}", style="not bold")
        )
    return notes


def as_junit(gate: Gate) -> str:
    """One test case per budget: failed if it fails the gate, skipped if it was not measured or is off.

    A violation without fail_on_violation is in the output of its test case.
    """
    counts = Counter(verdict_of(result) for result in gate.results)
    failed = sum(map(gate.fails, gate.results))
    suite = ET.Element(
        "testsuite",
        name="entrenar-otel ci",
        tests=str(len(gate.results)),
        failures=str(failed),
        errors="0",
        skipped=str(counts["violated"] + counts["not measured"] + counts["off"] - failed),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (("run_id", gate.run_id), ("state", gate.state), ("config", gate.config)):
        if value is not None:
            ET.SubElement(properties, "property", name=name, value=printable_line(value))
    for result in gate.results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"budgets.{result.type}",
            name=printable_line(result.budget),
            time="0",
        )
        verdict, message = verdict_of(result), printable_line(result.message)
        if gate.fails(result):
            ET.SubElement(case, "failure", type=result.type, message=message).text = message
        elif verdict in ("not measured", "off"):
            ET.SubElement(case, "skipped", message=f"{verdict}: {message}")
        elif verdict == "warning":
            ET.SubElement(case, "system-out").text = f"warning: {message}"
    ET.indent(suite)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ET.tostring(suite, encoding='unicode')}\n"
