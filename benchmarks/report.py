"""Writes `docs/benchmarks.md`, and what README.md says of cost; the numbers come from the run."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import machine, targets
from benchmarks.claims import write_claims
from benchmarks.harness import ROOT, Row

DOCUMENT = ROOT / "docs" / "benchmarks.md"
PACKAGES = [
    "numpy",
    "pyarrow",
    "duckdb",
    "prometheus-client",
    "opentelemetry-sdk",
    "wandb",
    "tensorboard",
    "trackio",
    "scikit-learn",
]

INTRODUCTION = """\
# Benchmarks

Written by `python -m benchmarks` (`make bench`); do not edit. One group: `python -m benchmarks tick`.
Instructions a call, which no neighbour can disturb: `python -m benchmarks --instructions`.

Times on a small shared machine wander by tens of per cent within minutes, so what can be a ratio is
one: we and the peer take turns in short blocks of the same process, each round gives a ratio, and
the median over the rounds is what counts. Limits are those that the project set itself before it was
built; a row that falls short stays in the table and is explained below it."""


#: Load average (of others) from which on a run says little on two cores.
BUSY = 1.0
WARNING = """\
**The machine was busy: others kept its cores.** Only ratios of interleaved blocks, sizes and counts of
this run can be believed; run it again when the machine is quiet."""

WHERE = """\
## Where it goes

What each part takes: on the loop's thread a call, in the heartbeat what a step of five metrics adds (three of
them watched, a tick of 1,000 steps). Cold is what a loop pays whose steps fill the caches with their own;
warm is a tight loop. Lines with … are parts of the line above them. Everything on: the CPU time that each
call on the loop's thread, and each other thread, takes of a step of a millisecond."""


#: Why a row falls short, by the beginning of its name; measured where it does not say otherwise.
REASONS = {
    "`log`, 5 metrics by keyword": (
        "Of its time the check for a non-finite training loss is about 4 %; the rest is keyword passing, "
        "two packs and one write."
    ),
    "`log` at a steady": (
        "A thread that sleeps between calls finds cold caches, and wakes beside whatever else the machine "
        "does: see five gauges in the same loop. Of ours is one call a beat, here one in a thousand: the "
        "first after a sync, whose page the kernel has protected against writing, takes 20 µs."
    ),
    "whole cost of everything on": (
        "As below for each call and each thread; two thirds of it are the loop's own. An epoch of the digits "
        "is 28 steps, 28 ms: its end and the beginning of the next take 0.03 ms with warm caches and 0.2 ms "
        "beside real steps, the two ends of `steps()` 0.07 ms. Its end is an event that the heartbeat and "
        "the sender of OTLP look at; a round of that takes 1.7 ms of CPU, and half as much in gRPC's threads."
    ),
    "whole cost": (
        "After a millisecond of other work the caches are cold: a call takes three to five times what it "
        "takes in a tight loop, five gauges too. Most of the rest is the beat, some 2.5 ms for 1,000 steps, "
        "most of it the same for one: it finds a core that slept. What reads the machine takes 0.2 ms, a "
        "segment's way into the lake 0.6 µs a step, the beginning and the end of `steps()` 0.07 ms."
    ),
    "tick with": (
        "Parquet takes 9 ms of it in pyarrow, eleven columns of at most 2 each; judging with the native core "
        "4 ms, without it 30; to read the samples twice, for the heartbeat and for the lake, 5."
    ),
    "worst stall": (
        "A wait for the GIL, up to CPython's switch interval of 5 ms each; judging gives it up every half "
        "millisecond, pyarrow's and DuckDB's Python parts do not."
    ),
    "sink: acknowledgement": (
        "A request that comes while a sync is on waits for that one and for its own, two of the disk's. Two "
        "syncs side by side would not, but of two on one file the system tells only one of an error."
    ),
    "anonymous RSS": (
        "It does not grow with what is recorded: without incidents it is 94.9, 96.0, 96.3, 96.5 MB after 1, "
        "2, 5 and 10 M samples. What is left of the windows of incidents, which DuckDB reads and sorts, "
        "differs from run to run."
    ),
    "a heartbeat with": (
        "Of it judging is 10 ms with the native core, 20 without; decoding, sums and aggregates 4 ms."
    ),
}


def _reason(row: Row) -> str:
    return next((why for name, why in REASONS.items() if row.what.startswith(name)), row.note)


def write_report(results: dict[str, list[Row]], seconds: float, load: float) -> None:
    """`load` is the load average before the run, which must be small for it to mean anything."""
    DOCUMENT.parent.mkdir(exist_ok=True)
    text = "\n\n".join(_sections(results, seconds, load)) + "\n"
    DOCUMENT.write_text(text, encoding="utf-8")
    write_claims(text)


def _sections(results: dict[str, list[Row]], seconds: float, load: float) -> Iterator[str]:
    rows = [row for group in results.values() for row in group if not row.columns]
    judged = [row for row in rows if row.met is not None]
    short = [row for row in judged if not row.met]
    yield INTRODUCTION
    yield _machine(seconds, load)
    if max(load, os.getloadavg()[2] - 1) > BUSY:
        yield WARNING
    yield targets.HEADING
    yield "\n".join(targets.table(rows))
    yield f"## Results\n\n{len(judged) - len(short)} of {len(judged)} limits met."
    yield "\n".join(_table(rows))
    if short:
        yield "## What falls short\n\n" + "\n".join(
            f"- **{row.what}**: {row.measured_text}, limit {row.limit_text}. {_reason(row)}".rstrip()
            for row in short
        )
    if parts := [row for group in results.values() for row in group if row.columns]:
        yield WHERE
        yield from _parts(parts)
    yield "## How each is measured"
    for group in results:
        text = importlib.import_module(f"benchmarks.{group}").__doc__ or ""
        title, _, text = text.strip().partition(": ")
        yield f"### {title}\n\n`benchmarks/{group}.py`: {text}"


def _table(rows: list[Row]) -> Iterator[str]:
    yield "| what | limit | measured | met? | |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        met = {True: "yes", False: "**short**", None: ""}[row.met]
        note = row.note.replace("|", "\\|")
        yield f"| {row.what} | {row.limit_text} | {row.measured_text} | {met} | {note} |"


def _parts(rows: list[Row]) -> Iterator[str]:
    """A table for each place where the parts are."""
    for of in dict.fromkeys(row.columns["of"] for row in rows):
        within = [row.columns for row in rows if row.columns["of"] == of]
        names = [name for name in within[0] if name not in ("part", "of")]
        lines = [f"| {' | '.join([of, *names])} |", f"| --- |{' ---: |' * len(names)}"]
        lines += [f"| {' | '.join([cells['part'], *(cells[name] for name in names)])} |" for cells in within]
        yield "\n".join(lines)


def _machine(seconds: float, load: float) -> str:
    found = "; ".join(f"{name} {_version(name)}" for name in PACKAGES)
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {seconds / 60:.0f} minutes. {_processor()}, "
        f"{os.cpu_count()} cores, Linux {platform.release()}, CPython {platform.python_version()}, "
        f"load average {load:.1f} before and {os.getloadavg()[0]:.1f} after.\n\n"
        f"{machine.described()}\n\n{found}."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
