"""Forest: scoring rows against scikit-learn's own `score_samples`, and what a whole monitor costs and finds.

Ratios are ours / scikit-learn's within one run (limits: 1/20 for one row, 1/8 for ten). Quality:
a real language-model run (loss and gradient norm, with a step time of a heavy-tailed clock) at
defaults; every 1,000 steps eight rows of a copy are changed. It needs the run in `../shared/data`; without it
these rows are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

import numpy as np
from entrenar_processors import ForestMonitor, IsolationForest, Samples
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest as Trees

from benchmarks.harness import ROOT, Contender, Row, describe_ns, interleave, median_ratio, median_seconds

RUN = "shared/data/lm_curves/2024-10-13_llmc_main.csv.gz"
ROWS, FEATURES, SEEDS = 2000, 4, 5
Table = NDArray[np.float64]

#: What is done to eight rows of loss, gradient norm, step time.
ODDITIES: dict[str, Callable[[Table], Table]] = {
    "loss +0.25 and gradient norm ×1.5": lambda rows: rows * [1, 1.5, 1] + np.array([0.25, 0, 0]),
    "loss −0.15 and gradient norm ×1.3": lambda rows: rows * [1, 1.3, 1] - np.array([0.15, 0, 0]),
    "gradient norm ×3": lambda rows: rows * [1, 3, 1],
    "loss +0.5": lambda rows: rows + np.array([0.5, 0, 0]),
    "step time ×1.5": lambda rows: rows * [1, 1, 1.5],
}


def measure() -> Iterator[Row]:
    data = np.random.default_rng(7).normal(size=(ROWS, FEATURES))
    ours = IsolationForest(seed=7).fit(data)
    theirs = Trees(n_estimators=100, max_samples=256, random_state=7).fit(data)
    difference = float(abs(ours.score_samples(data) - theirs.score_samples(data)).max())
    yield Row("largest difference from scikit-learn's scores, 2,000 rows", 1e-12, difference, "")
    for n, limit in ((1, 1 / 20), (10, 1 / 8), (100, None), (1000, None)):
        rows = data[:n]
        times = interleave(
            {"ours": _scoring(ours, rows), "theirs": _scoring(theirs, rows)}, calls=5, rounds=40
        )
        note = f"ours {describe_ns(times['ours'])}, scikit-learn {describe_ns(times['theirs'])}"
        yield Row(
            f"score_samples, {n} rows, of scikit-learn's",
            limit,
            median_ratio(times, "ours", "theirs"),
            "×",
            note,
        )
    fit = median_seconds(lambda: IsolationForest(seed=7).fit(data[:512]), 7)
    yield Row("a fit on 512 rows", None, fit * 1e3, "ms", "at most one a minute of the run")
    yield _one_row_a_tick(data)
    path = ROOT.parent / RUN
    for folder in (ROOT.parent, *ROOT.parents):
        if (path := folder / RUN).exists():
            yield from _quality(np.genfromtxt(path, delimiter=",", skip_header=1)[:, [1, 3]])
            break


def _scoring(forest: IsolationForest | Trees, rows: Table) -> Contender:
    def score(calls: int) -> None:
        for _ in range(calls):
            forest.score_samples(rows)

    return score


def _one_row_a_tick(data: Table) -> Row:
    names = ("loss", "gradient_norm", "step_duration", "data_wait")
    monitor = ForestMonitor()
    monitor.update(Samples.from_columns(dict(zip(names, data[:512].T, strict=True))))
    ticks = [
        Samples.from_columns(dict(zip(names, row[:, np.newaxis], strict=True)), seq=[600 + i])
        for i, row in enumerate(data[600:1000])
    ]
    times = []
    for tick in ticks:
        start = perf_counter()
        monitor.update(tick)
        times.append(perf_counter() - start)
    return Row("ForestMonitor.update of one row", None, float(np.median(times)) * 1e6, "µs")


def _quality(columns: Table) -> Iterator[Row]:
    clock = 0.3 * np.exp(0.05 * np.random.default_rng(0).standard_t(4, len(columns)))
    rows = np.column_stack([columns, clock])
    rows = rows[np.isfinite(rows).all(axis=1)]
    names = ("loss", "gradient_norm", "step_duration")
    seq = np.arange(len(rows))

    def judge(table: Table, seed: int = 0) -> NDArray[np.int64]:
        columns = dict(zip(names, table.T, strict=True))
        samples = Samples.from_columns(columns, seq=seq, time_ns=(seq * 0.3e9).astype(np.int64))
        return np.array([finding.at.seq for finding in ForestMonitor(seed=seed).update(samples)])

    false = sum(len(judge(rows, seed)) for seed in range(SEEDS))
    note = f"{len(rows):,} steps, defaults, {SEEDS} seeds"
    yield Row("false findings per 10,000 steps of a real run", 1.5, false / SEEDS / len(rows) * 1e4, "", note)
    for what, change in ODDITIES.items():
        seen: list[bool] = []
        for first in (1000, 1250, 1500, 1750):
            places = np.arange(first, len(rows) - 8, 1000)
            odd = rows.copy()
            for place in places:
                odd[place : place + 8] = change(rows[place : place + 8])
            found = judge(odd)
            seen += [bool(((found >= place) & (found < place + 8)).any()) for place in places]
        yield Row(f"found within 8 steps: {what}", None, float(np.mean(seen)), "", f"{len(seen)} places")
