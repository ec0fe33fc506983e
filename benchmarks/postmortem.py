"""Post-mortem: how long one takes, and whether its causes are right.

The causes are judged on trainings that are made to fail (`failing`), and on those that do not: of `failing`,
of `recipes`, and the published language models of `curves`. Half of the copies, recipes and dates were tuned
on, the other half was only judged. How often trends are found in noise of known autocorrelation comes last.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from time import process_time
from typing import Any

import numpy as np
from entrenar_processors import Summary
from entrenar_processors.samples import Column, Series

from benchmarks.curves import DATA, curves, halves
from benchmarks.failing import FAILING, HELD_OUT, TUNED, healthy
from benchmarks.harness import Row, started, temporary, training_samples
from entrenar_otel.lake import Lake
from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.ranking import causes_of
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.post_mortem import postmortem
from entrenar_otel.report.trend import trend_of
from entrenar_otel.views.model import RunView, Statistics

Rows = Mapping[Series, tuple[Sequence[int], Sequence[float]]]
STEPS = 200_000
#: Copies of the healthy training of `failing`, of each half.
HEALTHY = {"tuned on": range(40), "held out": range(40, 80)}
NOISES, POINTS = 500, 400


def measure() -> Iterator[Row]:
    yield from _speed()
    for half, seeds in (("tuned on", TUNED), ("held out", HELD_OUT)):
        right = 0
        for name, train in FAILING.items():
            first: Counter[str] = Counter()
            for seed in seeds:
                causes = causes_of_rows(rows_of(train, seed))
                first[causes[0].name if causes else "none"] += 1
            right += first[name]
            others = ", ".join(f"{count} × {other}" for other, count in first.items() if other != name)
            share = 1 - first[name] / len(seeds)
            yield Row(f"{half}: {name.replace('_', ' ')}, not the first cause", None, share, "", others)
        share = 1 - right / (len(FAILING) * len(seeds))
        yield Row(f"{half}: all that fail, another cause first or none", 0.1, share, "")
        yield _false(f"{half}: healthy trainings of numpy", (rows_of(healthy, s) for s in HEALTHY[half]))
        yield _false(f"{half}: healthy trainings of all kinds", _recipes(half))
        yield _false(f"{half}: published language models", _language_models(half))
    yield from _trends()


def _speed() -> Iterator[Row]:
    """CPU time: the machine is shared."""
    (block,) = training_samples(STEPS).blocks
    names = [series.metric for series in block.series]
    with temporary() as folder:
        with started(folder, run_id="bench") as monitor:
            for step, values in enumerate(block.values.tolist()):
                monitor.log(dict(zip(names, values, strict=True)), step=step)
        lake = Lake(folder / "lake", folder / "live")
        begin = process_time()
        made = postmortem(lake, "bench")
        read = process_time() - begin
        for form, text in (("HTML", made.html), ("Markdown", made.markdown)):
            begin = process_time()
            size = len(text())
            spent = read + process_time() - begin
            what = f"post-mortem of 1 M samples as {form}, CPU time"
            yield Row(what, 5.0, spent, "s", f"{size:,} characters")


def _false(what: str, runs: Iterator[Rows]) -> Row:
    found = [causes_of_rows(rows) for rows in runs]
    wrong = Counter(causes[0].name for causes in found if causes)
    told = ", ".join(f"{count} × {name}" for name, count in wrong.items())
    note = f"{sum(wrong.values())} of {len(found)} runs" + (f": {told}" if told else "")
    return Row(f"{what}, with a cause", 0.1, sum(wrong.values()) / max(1, len(found)), "", note)


def causes_of_rows(rows: Rows) -> list[Cause]:
    """The causes of curves that no run recorded."""
    made, statistics = {}, {}
    for series, (steps, values) in rows.items():
        step = np.asarray(steps, dtype=np.int64)
        absent = np.full(len(step), -1, np.int32)
        y = np.asarray(values, dtype=np.float64)
        made[series] = Column(step * 1_000_000, absent, absent, step, np.arange(len(step)), y)
        summary = Summary()
        summary.update(y)
        numbers = {one.name: getattr(summary, one.name) for one in fields(Statistics)}
        statistics[series] = Statistics(**numbers)
    view = RunView("bench", "completed", curves=made, statistics=statistics, stepped=frozenset(made))
    return causes_of(Learning.of(view), statistics)


def rows_of(train: Callable[[int, Callable[..., None]], None], seed: int) -> Rows:
    """What a training logs."""
    rows: dict[Series, tuple[list[int], list[float]]] = defaultdict(lambda: ([], []))

    def log(values: Any = None, step: int = 0, tags: Any = None, **more: float) -> None:
        for name, value in {**(values or {}), **more}.items():
            steps, kept = rows[Series.of(name, tags)]
            steps.append(step)
            kept.append(value)

    with np.errstate(all="ignore"):  # what overflows is what is meant
        train(seed, log)
    return rows


def _recipes(half: str) -> Iterator[Rows]:
    from benchmarks.trainings import runs

    for run in runs(half.replace(" ", "_") if half == "held out" else "tuned"):
        yield {Series.of(m, {"split": s} if s else {}): columns for (m, s), columns in run.series.items()}


def _language_models(half: str) -> Iterator[Rows]:
    for name in halves(curves())[half == "held out"]:
        yield language_model(name)


def language_model(name: str) -> Rows:
    """A published pre-training with its validation, and its gradient norm where that was published."""
    loss, norm = curves()[name], curves(column="grad_norm").get(name)
    rows: dict[Series, tuple[Any, Any]] = {Series("loss"): (np.arange(len(loss)), loss)}
    if norm is not None:
        rows[Series("gradient_norm")] = (np.arange(len(norm)), norm)
    with gzip.open(DATA / "lm_curves" / f"{name}.val.csv.gz", "rt") as file:
        table = [list(row.values()) for row in csv.DictReader(file)]
    steps = [int(float(row[0])) for row in table]
    rows[Series.of("loss", {"split": "validation"})] = (steps, [float(row[1]) for row in table])
    return rows


def _trends() -> Iterator[Row]:
    random = np.random.default_rng(11)
    x = np.arange(float(POINTS))
    for phi in (0.0, 0.5, 0.9, 0.98):
        found = 0
        for _ in range(NOISES):
            y = np.empty(POINTS)
            level = random.normal() / np.sqrt(1 - phi**2)
            for at, jolt in enumerate(random.normal(size=POINTS).tolist()):
                y[at] = level = phi * level + jolt
            found += trend_of(x, y).p_value < 0.01
        note = f"{NOISES} curves of {POINTS} values, at p < 0.01"
        yield Row(f"trends in noise of autocorrelation {phi}", None, found / NOISES, "", note)
