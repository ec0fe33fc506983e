"""Run the benchmarks, each group in a fresh process, and write `docs/benchmarks.md`."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from time import monotonic

from rich.console import Console
from rich.table import Table

from benchmarks.harness import ROOT, Row
from benchmarks.report import DOCUMENT, write_report

GROUPS = (
    *("hot_path", "peers", "loop_overhead", "judging", "wide", "tick", "storage", "queries", "wide_commands"),
    *("memory", "startup"),
    *("otel", "page", "otlp_encode", "receipt", "roll", "assign", "where", "everything"),
)
#: Run by name only: what they say stands in docs/detectors.md, docs/postmortem.md, docs/statistics.md,
#: docs/collector.md, docs/watch.md, docs/system.md and docs/integrations.
APART = (
    "jidoka",
    "detectors",
    "detector_quality",
    "kinds",
    "forest",
    "drift_quality",
    "sequential",
    "postmortem",
    "collector",
    "fleet",
    "traffic",
    "lineage",
    "views",
    "browser",
    "system",
    "frameworks",
)
_GROUP_SECONDS = 600


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="NAME", help=f"of {', '.join((*GROUPS, *APART))}")
    parser.add_argument("--instructions", action="store_true", help="count instructions a call (callgrind)")
    parser.add_argument("--rows", metavar="NAME", help=argparse.SUPPRESS)  # the fresh process of one group
    options = parser.parse_args()
    if options.rows:
        rows = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a framework prints is no row
        for row in importlib.import_module(f"benchmarks.{options.rows}").measure():
            print(row.to_json(), file=rows, flush=True)
        return
    if unknown := set(options.groups) - {*GROUPS, *APART}:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join((*GROUPS, *APART))}")
    chosen = options.groups or ([] if options.instructions else GROUPS)
    chosen = [*chosen, *(["instructions"] if options.instructions else [])]
    _run(chosen, complete=set(GROUPS) <= set(chosen))


def _run(chosen: list[str], *, complete: bool) -> None:
    console = Console()
    results: dict[str, list[Row]] = {}
    began, load = monotonic(), os.getloadavg()[0]
    for group in chosen:
        with console.status(f"{group} …"):
            results[group] = list(_fresh(group))
        console.print(_table(group, results[group]))
    seconds = monotonic() - began
    console.print(f"{seconds:,.0f} s")
    if complete:
        write_report(results, seconds, load)
        console.print(f"written to {DOCUMENT.relative_to(ROOT)}")


def _fresh(group: str) -> Iterator[Row]:
    """A process of its own, so that no group inherits another's threads, caches and memory."""
    command = [sys.executable, "-m", "benchmarks", "--rows", group]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_GROUP_SECONDS,
        )
        output, failed = done.stdout, done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired as error:
        output = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        failed = [f"took more than {_GROUP_SECONDS} s"]
    for line in output.splitlines():
        yield Row.from_json(line)
    for problem in failed:
        yield Row(f"the rest of {group}", 0.0, None, "", problem)


def _table(group: str, rows: list[Row]) -> Table:
    table = Table(title=group, title_justify="left", expand=True)
    for column in ("what", "limit", "measured", "", "note"):
        table.add_column(column, ratio={"what": 3, "note": 4}.get(column))
    marks = {True: "[green]met[/]", False: "[red]short[/]", None: ""}
    for row in rows:
        table.add_row(row.what, row.limit_text, row.measured_text, marks[row.met], row.note)
    return table


main()
