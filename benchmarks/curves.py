"""Real training curves with spikes and rises at known places: what the detectors' quality is measured on.

The curves carry no labels, so every finding on them as they are counts as false. Runs are split by
date, because runs of one date may share the order of their data: the earlier half was tuned on, the
later one only judged (docs/detectors.md tells how often).
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from entrenar_processors import Processor, Samples, Series
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
if not DATA.exists():  # a worktree lies one folder deeper
    DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

#: Runs from this date on are held out.
HELD_OUT_FROM = "2024-10-20"
SPIKE_STEPS = 10
RAMP_STEPS = 300


def curves(folder: Path = DATA / "lm_curves", column: str = "train_loss") -> dict[str, Floats]:
    """The curves of a folder by run (DATE_NAME_ID), by date; those without the column are left out."""
    found = {}
    for path in sorted(folder.glob("*.csv.gz")):
        if path.name.endswith(".val.csv.gz"):
            continue
        with gzip.open(path, "rt") as file:
            rows = csv.DictReader(file)
            if column in (rows.fieldnames or ()):
                found[path.name.removesuffix(".csv.gz")] = np.array([float(row[column]) for row in rows])
    return found


def halves(runs: dict[str, Floats]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """The runs that were tuned on and those held out."""
    tuned = {name: curve for name, curve in runs.items() if name < HELD_OUT_FROM}
    return tuned, {name: curve for name, curve in runs.items() if name >= HELD_OUT_FROM}


def decaying(height: float) -> Floats:
    """A spike: `height` at once, then down in a straight line to nothing after 10 steps."""
    return height * (1 - np.arange(SPIKE_STEPS) / SPIKE_STEPS)


@dataclass(frozen=True)
class Injected:
    """Copies `(n, k)` of one curve, and (copy, step) of everything that was added to them."""

    values: Floats
    places: list[tuple[int, int]]
    within: int


def with_spikes(
    curve: Floats, height: float, copies: int, random: np.random.Generator, before: float = 0.0
) -> Injected:
    """A spike every 200 to 400 steps; with `before`, each follows another of that height by 15 to 30."""
    values = np.repeat(curve[:, np.newaxis], copies, axis=1)
    places = []
    for copy in range(copies):
        at = 300 + int(random.integers(0, 250))
        while at < len(curve) - 80:
            second = at
            if before:
                values[at : at + SPIKE_STEPS, copy] += decaying(before)
                second += int(random.integers(15, 31))
            values[second : second + SPIKE_STEPS, copy] += decaying(height)
            places.append((copy, second))
            at += int(random.integers(200, 400))
    return Injected(values, places, SPIKE_STEPS)


def with_ramps(curve: Floats, slope: float, copies: int, random: np.random.Generator) -> Injected:
    """From one step of each copy on, `slope` more every step."""
    values = np.repeat(curve[:, np.newaxis], copies, axis=1)
    places = []
    for copy in range(copies):
        at = int(random.integers(500, len(curve) - RAMP_STEPS - 1))
        values[at:, copy] += slope * np.arange(len(curve) - at)
        places.append((copy, at))
    return Injected(values, places, RAMP_STEPS)


def with_freezes(curve: Floats, copies: int, random: np.random.Generator) -> Injected:
    """From one step of each copy on, always the value of that step; every other one is 0 instead."""
    values = np.repeat(curve[:, np.newaxis], copies, axis=1)
    places = []
    for copy in range(copies):
        at = int(random.integers(300, len(curve) - RAMP_STEPS - 1))
        values[at:, copy] = values[at, copy] if copy % 2 else 0.0
        places.append((copy, at))
    return Injected(values, places, RAMP_STEPS)


def firings(processor: Processor, values: Floats, metric: str = "loss") -> list[Sequence[int]]:
    """The steps at which a fresh processor finds something, for each column of `(n, k)`."""
    series = [Series.of(metric, {"copy": copy}) for copy in range(values.shape[1])]
    found: dict[Series, list[int]] = {one: [] for one in series}
    for finding in processor.update(Samples.from_columns(dict(zip(series, np.array(values).T, strict=True)))):
        found[finding.series].append(finding.at.seq)
    return list(found.values())


def detections(processor: Processor, injected: Injected, metric: str = "loss") -> tuple[float, list[int]]:
    """Recall, and the delay of each detection in steps."""
    found = firings(processor, injected.values, metric)
    delays = []
    for copy, at in injected.places:
        inside = [step - at for step in found[copy] if at <= step < at + injected.within]
        delays += inside[:1]
    return len(delays) / len(injected.places), delays


def nab(folder: Path = DATA / "nab") -> Iterator[tuple[Floats, list[tuple[int, int]]]]:
    """The values of each NAB series and its labelled windows, as [first, last] rows."""
    labels = json.loads((folder / "labels" / "windows.json").read_text())
    for path in sorted((folder / "data").glob("*/*.csv")):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        windows = []
        for first, last in labels.get(f"{path.parent.name}/{path.name}", ()):
            start, end = datetime.fromisoformat(first), datetime.fromisoformat(last)
            inside = [i for i, time in enumerate(times) if start <= time <= end]
            windows.append((inside[0], inside[-1]))
        yield np.array([float(row["value"]) for row in rows]), windows
