"""Kinds: what the defaults tell of healthy trainings of many kinds, and whether they see what is not healthy.

The trainings are our own (`recipes`); they are made at the first call, which takes minutes, and kept. Every
alert that notifies counts as false. All alerts of a run are decided about by the default policy, at several
durations of a step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from entrenar_processors import Finding, Samples, Series, SpikeDetector
from entrenar_processors.alert import Action, Alert
from entrenar_processors.config.build import policy_of, processors_of
from entrenar_processors.config.models import Config
from entrenar_processors.samples import Block

from benchmarks.curves import Floats, curves, halves
from benchmarks.harness import Row
from benchmarks.trainings import Run, runs

HALVES = {"tuned on": "tuned", "held out": "held_out"}
STEP_SECONDS = (0.02, 0.5, 60.0)
NORM = ("gradient_norm", "")
#: Rows of a gradient norm that is ten times as large, and how often they come.
ROWS, COPIES = 6, 3


def measure() -> Iterator[Row]:
    for half, made in HALVES.items():
        every = [*runs(made), *_language_models(half)]
        judged = half == "held out"
        steps: Counter[str] = Counter()
        told: dict[str, list[int]] = defaultdict(list)
        totals: Counter[float] = Counter()
        silent: list[int] = []  # of runs that learn from a reward and do not say so
        for run in every:
            found = findings_of(run)
            is_rl = run.kind == "rl"  # a loop of this kind reports its reward; these recipes kept none
            for seconds in STEP_SECONDS:
                totals[seconds] += len(alerts_of(found, seconds, has_reward=is_rl))
            steps[run.kind] += run.steps
            told[run.kind].append(len(alerts_of(found, STEP_SECONDS[1], has_reward=is_rl)))
            if is_rl:
                silent.append(len(alerts_of(found, STEP_SECONDS[1])))
        for kind, counts in told.items():
            note = f"{sum(counts)} in {steps[kind]:,} steps; {sum(map(bool, counts))} of {len(counts)} runs"
            rate = 1e4 * sum(counts) / steps[kind]
            yield Row(f"{half}: {kind}, false notifications", None, rate, "per 10k steps", note)
        note = f"{sum(silent)} in {steps['rl']:,} steps; {sum(map(bool, silent))} of {len(silent)} runs"
        rate = 1e4 * sum(silent) / steps["rl"]
        yield Row(f"{half}: rl without its reward, false notifications", None, rate, "per 10k steps", note)
        flat = [n for counts in told.values() for n in counts]
        rate = 1e4 * sum(flat) / steps.total()
        note = f"{sum(flat)} in {steps.total():,} steps of {len(flat)} runs"
        yield Row(
            f"{half}: all kinds, false notifications", 1.5 if judged else None, rate, "per 10k steps", note
        )
        share = sum(map(bool, flat)) / len(flat)
        yield Row(f"{half}: all kinds, runs with any", 0.1 if judged else None, share, "")
        spread = max(totals.values()) / max(1, min(totals.values())) - 1
        note = f"{STEP_SECONDS[0]} to {STEP_SECONDS[-1]:g} s a step"
        yield Row(
            f"{half}: alerts, most over fewest by the length of a step, less 1",
            0.2 if judged else None,
            spread,
            "",
            note,
        )
        missed, late = _norms([run for run in every if len(run.series.get(NORM, ((), ()))[1]) >= 250])
        limit = 0.1 if judged else None
        yield Row(f"{half}: gradient norm × 10 for {ROWS} rows, missed", limit, missed, "", "mean over kinds")
        note = "rows of an explosion, × 4,000 in 8, until it is told; median"
        yield Row(f"{half}: gradient norm that explodes", None, late, "rows", note)


def samples_of(run: Run) -> Samples:
    """The rows of a run as a loop logs them: the validation of a step comes after its training."""
    splits: dict[str, list[tuple[str, Floats, Floats]]] = defaultdict(list)
    for (metric, split), (steps, values) in run.series.items():
        splits[split].append((metric, np.array(steps), np.array(values)))
    order = sorted((step, split) for split, columns in splits.items() for step in columns[0][1].tolist())
    places: dict[str, list[int]] = defaultdict(list)
    for seq, (_, split) in enumerate(order):
        places[split].append(seq)
    blocks = []
    for split, columns in splits.items():
        series = tuple(Series.of(metric, {"split": split} if split else {}) for metric, _, _ in columns)
        step = columns[0][1].astype(np.int64)
        absent = np.full(len(step), -1, np.int32)
        table = np.array([column for _, _, column in columns]).T.copy()
        blocks.append(Block(series, step, absent, absent, step, np.array(places[split]), table))
    return Samples(blocks)


def findings_of(run: Run) -> list[Finding]:
    """What the default processors find, in the order of the recording."""
    samples = samples_of(run)
    found = [finding for one in processors_of(Config().monitor) for finding in one.update(samples)]
    return sorted(found, key=lambda finding: finding.order)


def alerts_of(findings: list[Finding], step_seconds: float, *, has_reward: bool = False) -> list[Alert]:
    """The alerts that notify, where a step takes so long, and a reward is reported as well."""
    policy = policy_of(Config())
    policy.has_reward = has_reward
    alerts = []
    for finding in findings:
        at = finding.at._replace(time_ns=round(finding.at.step * step_seconds * 1e9))
        alerts += policy.decide([], at.time_ns, at)
        alerts += policy.decide([replace(finding, at=at)], at.time_ns, at)
    return [one for one in alerts if not one.is_resolved and one.action is not Action.LOG]


def _language_models(half: str) -> Iterator[Run]:
    """The runs of `shared/data`, of the same half."""
    norms = curves(column="grad_norm")
    for name, loss in halves(curves())[half == "held out"].items():
        run = Run(f"language models (shared/data)/{name}")
        steps = list(range(len(loss)))
        run.series["loss", ""] = steps, loss.tolist()
        if name in norms:
            run.series[NORM] = steps, norms[name].tolist()
        yield run


def _norms(every: list[Run]) -> tuple[float, float]:
    """The share missed of the tenfold, and after how many rows an explosion is told."""
    seen: dict[str, list[bool]] = defaultdict(list)
    rows: list[int] = []
    for number, run in enumerate(every):
        norm = np.array(run.series[NORM][1])
        random = np.random.default_rng([17, number])
        tenfold, exploding = (np.repeat(norm[:, np.newaxis], COPIES, axis=1) for _ in range(2))
        places = []
        for copy in range(COPIES):
            at = 140 + int(random.integers(0, 100))
            while at < len(norm) - 20:
                tenfold[at : at + ROWS, copy] *= 10
                exploding[at : at + 8, copy] *= np.geomspace(4000 ** (1 / 8), 4000, 8)
                places.append((copy, at))
                at += int(random.integers(200, 400))
        for values, length in ((tenfold, ROWS), (exploding, 8)):
            found = _firings(values)
            for copy, at in places:
                inside = [step - at for step in found[copy] if at <= step < at + length]
                if length == ROWS:
                    seen[run.kind].append(bool(inside))
                else:
                    rows.append(inside[0] + 1 if inside else 9)
    return 1 - float(np.mean([np.mean(found) for found in seen.values()])), float(np.median(rows))


def _firings(values: Floats) -> list[list[int]]:
    series = [Series.of("gradient_norm", {"copy": i}) for i in range(values.shape[1])]
    found: dict[Series, list[int]] = {one: [] for one in series}
    for finding in SpikeDetector().update(Samples.from_columns(dict(zip(series, values.T, strict=True)))):
        found[finding.series].append(finding.at.seq)
    return list(found.values())
