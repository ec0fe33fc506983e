"""Runs: two runs, or all runs of two versions, compared in every respect that was recorded."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from entrenar_processors.counts import counted
from entrenar_processors.metric_names import known_as
from entrenar_processors.plain import plain

from entrenar_otel.compare.curves import CurveDifference, compare_curves
from entrenar_otel.compare.metrics import (
    Correction,
    MetricDifference,
    Test,
    Value,
    compare_metrics,
)
from entrenar_otel.compare.reader import RunReader
from entrenar_otel.compare.run_values import Key, RunValues, samples_of, values_of
from entrenar_otel.compare.settings import (
    WITHHELD,
    Setting,
    differences,
    environments_of,
    flat,
    group_of,
    is_seed,
    without_seeds,
)
from entrenar_otel.compare.side import Side, find_side
from entrenar_otel.errors import NotMeasured
from entrenar_otel.lake.overview import runs_of, seconds_of

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: Of that many metrics, the first, the curves are compared.
MOST_CURVES = 6


@dataclass(frozen=True, slots=True)
class SideSummary:
    """What is known of one side's runs. `seconds` and `steps_per_second` are means over them, or NaN."""

    name: str
    run_ids: tuple[str, ...]
    versions: tuple[str, ...]
    states: dict[str, int]
    commits: tuple[str, ...]
    started_at: str
    seconds: float
    steps: float
    steps_per_second: float
    seeds: dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, and how B differs from A.

    `settings` and `environment` are what differs, without seeds; `environment` is None where a side did not
    record any. `notes` are what to know before believing the numbers.
    """

    a: SideSummary
    b: SideSummary
    metrics: tuple[MetricDifference, ...]
    curves: tuple[CurveDifference, ...]
    settings: tuple[Setting, ...]
    environment: tuple[Setting, ...] | None
    correction: Correction
    value: Value
    alpha: float
    confidence: float
    notes: tuple[str, ...]

    def metric(self, name: str, split: str | None = None) -> MetricDifference:
        """The metric known by that name, of that split, or of the first there is. Raises NotMeasured."""
        for difference in self.metrics:
            if difference.metric == name and split in (None, difference.split):
                return difference
        raise NotMeasured(
            f"{name!r} is not among the metrics compared: {_some(d.name for d in self.metrics)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it; what is not a number is a text."""
        result: dict[str, Any] = plain(asdict(self))
        for difference, entry in zip(self.metrics, result["metrics"], strict=True):
            entry["name"] = difference.name
        return result


def compare_runs(
    lake: Lake | str | os.PathLike[str],
    a: str,
    b: str,
    *,
    metrics: Sequence[str] | None = None,
    value: Value = "final",
    test: Test = "welch",
    correction: Correction = "benjamini_hochberg",
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two runs or versions of a lake: `a` and `b` are run ids, `MODEL@VERSION` or `latest`.

    All runs of a version are samples of it, tested with `test`. Of one run against one, the ends of the
    runs are compared by batch means: that says whether steps explain the difference, not whether another
    seed would. `metrics` are the only ones, by the names they were logged or are known by; `value` is what
    of a run is compared: the mean of its last tenth (`final`), the `last` or the `best`.
    Raises RunError, NotMeasured, QueryError, MissingExtra.

    >>> from entrenar_otel import Monitor
    >>> for run_id, accuracy in ("one", 0.8), ("two", 0.9):
    ...     with Monitor(run_id, lake=tmp_path, quiet=True) as monitor:
    ...         monitor.log(accuracy=accuracy, tags={"split": "validation"})
    >>> found = compare_runs(tmp_path, "one", "two").metric("accuracy", "validation")
    >>> round(found.effect, 3), round(found.ratio, 3), found.verdict.value
    (0.1, 0.125, 'not tested')
    """
    from entrenar_otel.lake import Lake

    lake = lake if isinstance(lake, Lake) else Lake(lake)
    runs = runs_of(lake)
    return compare_sides(
        lake,
        find_side(lake, a, runs),
        find_side(lake, b, runs),
        metrics=metrics,
        value=value,
        test=test,
        correction=correction,
        alpha=alpha,
        confidence=confidence,
        known=runs,
    )


def compare_sides(
    lake: Lake,
    a: Side,
    b: Side,
    *,
    metrics: Sequence[str] | None = None,
    value: Value = "final",
    test: Test = "welch",
    correction: Correction = "benjamini_hochberg",
    alpha: float = 0.05,
    confidence: float = 0.95,
    known: Sequence[dict[str, Any]],
) -> Comparison:
    """As `compare_runs`, of two sides that were found; `known` are all runs of the lake."""
    sides = (a, b)
    names = logged_names(lake, sides, metrics) if metrics else None
    reader = RunReader(lake, len(known))
    values = [values_of(reader, side.runs, names) for side in sides]
    found = compare_metrics(
        *values, value=value, test=test, correction=correction, alpha=alpha, confidence=confidence
    )
    source = samples_of([run for side in sides for run in side.runs])
    curves = compare_curves(reader, values, source, _worth_a_curve(found, bool(metrics)))
    everywhere = environments_of(reader, list(dict.fromkeys((*a.run_ids, *b.run_ids))))
    environments = [[everywhere[run_id] for run_id in side.run_ids if run_id in everywhere] for side in sides]
    has_environments = all(environments)
    configs = [[without_seeds(run["config"]) for run in side.runs if _has_config(run)] for side in sides]
    return Comparison(
        a=_summary(a, values[0]),
        b=_summary(b, values[1]),
        metrics=tuple(found),
        curves=tuple(curves),
        settings=tuple(differences(*configs)) if all(configs) else (),
        environment=tuple(differences(*environments)) if has_environments else None,
        correction=correction,
        value=value,
        alpha=alpha,
        confidence=confidence,
        notes=tuple(_notes(sides, values, has_environments, known)),
    )


def logged_names(lake: Lake, sides: Iterable[Side], wanted: Sequence[str]) -> list[str]:
    """What the runs call these metrics. Raises NotMeasured, with the names that are close."""
    ids = [run_id for side in sides for run_id in side.run_ids]
    names = sorted({name for run_id in ids for name in lake.metric_names(run_id)})
    found = []
    for metric in wanted:
        known = [name for name in names if metric == name or known_as(metric) == known_as(name)]
        known = known or [name for name in names if metric == known_as(name)[0]]
        if not known and names:
            close = difflib.get_close_matches(metric, names, n=5, cutoff=0.5)
            told = f"close to it: {', '.join(close)}" if close else f"measured: {_some(names)}"
            raise NotMeasured(f"{metric!r} was not measured in {_some(ids)}; {told}")
        found += known
    return found


def _worth_a_curve(found: Sequence[MetricDifference], was_asked: bool) -> dict[Key, str]:
    """The metrics whose curves are compared: those that say how good a model is."""
    chosen = [d for d in found if d.a.runs and d.b.runs and min(d.a.count, d.b.count) > 1]
    if not was_asked:
        chosen = [
            d for d in chosen if d.better and known_as(d.metric)[0] not in ("step_duration", "data_wait")
        ]
    return {(d.metric, d.split, tuple(sorted(d.tags.items()))): d.name for d in chosen[:MOST_CURVES]}


def _has_config(run: dict[str, Any]) -> bool:
    return bool(run["config"] != WITHHELD)


def _summary(side: Side, values: Sequence[RunValues]) -> SideSummary:
    runs = side.runs
    seconds = [seconds_of(run) for run in runs]
    steps = [_steps(run) for run in values]
    rates = [
        n / s
        for run, n, s in zip(runs, steps, seconds, strict=True)
        if s and run["attempts"] == 1 and math.isfinite(n)
    ]
    seeds: dict[str, dict[str, Any]] = {}
    for run in runs:
        for name, setting in flat(run["config"] if _has_config(run) else {}).items():
            if is_seed(name):
                seeds.setdefault(name, {})[str(setting)] = setting
    states = [run["state"] for run in runs]
    return SideSummary(
        name=side.name,
        run_ids=side.run_ids,
        versions=tuple(
            dict.fromkeys(
                " ".join(w for w in (r["model_id"], r["version"]) if w) for r in runs if r["model_id"]
            )
        ),
        states={state: states.count(state) for state in dict.fromkeys(states)},
        commits=tuple(dict.fromkeys(run["git_commit"] for run in runs if run["git_commit"])),
        started_at=min(run["started_at"] for run in runs),
        seconds=_mean([s for s in seconds if s is not None]),
        steps=_mean([n for n in steps if math.isfinite(n)]),
        steps_per_second=_mean(rates),
        seeds={name: tuple(values.values()) for name, values in seeds.items()},
    )


def _steps(run: RunValues) -> float:
    """How many steps a run has recorded; NaN where nobody gave any."""
    import numpy as np

    if not len(run.series) or np.isnan(run.last_step).all():
        return math.nan
    return float(np.nanmax(run.last_step) - np.nanmin(run.first_step) + 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _notes(
    sides: Sequence[Side],
    values: Sequence[Sequence[RunValues]],
    has_environments: bool,
    known: Sequence[dict[str, Any]],
) -> list[str]:
    notes = [note for side in sides for note in side.notes]
    if set(sides[0].run_ids) & set(sides[1].run_ids):
        both = set(sides[0].run_ids) & set(sides[1].run_ids)
        notes.append(f"{_some(sorted(both))} on both sides: nothing is tested against itself but chance")
    if all(len(side.runs) == 1 for side in sides):
        notes.append("one run per side: whether another seed would do the same is not known")
        for side in sides:
            (run,) = side.runs
            others = [
                other
                for other in known
                if _has_config(run)
                and _has_config(other)
                and other["run_id"] != run["run_id"]
                and other["model_id"] == run["model_id"]
                and group_of(other["config"]) == group_of(run["config"])
            ]
            if others and run["config"]:
                notes.append(
                    f"{counted(len(others), 'other run')} like {run['run_id']} but for the seed: "
                    "--group-by config takes them as samples"
                )
    if not has_environments:
        notes.append("environment: not recorded on both sides")
    if not all(_has_config(run) for side in sides for run in side.runs):
        notes.append("settings: withheld, they leave their machine with ENTRENAR_OTLP_CONFIG=1")
    pruned = [run.run_id for side in values for run in side if run.is_pruned]
    if pruned:
        notes.append(f"{_some(pruned)} pruned: values are those of down-sampled curves")
    return notes


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "") or "nothing"
