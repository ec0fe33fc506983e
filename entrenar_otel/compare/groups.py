"""Groups: runs of one configuration as samples of it, and whether configurations differ."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from entrenar_processors.counts import counted
from entrenar_processors.metric_names import is_better, rank_of
from entrenar_processors.plain import plain

from entrenar_otel.compare.metrics import Test, Value, ValueTable, common_keys
from entrenar_otel.compare.reader import RunReader
from entrenar_otel.compare.run_values import Key, values_of
from entrenar_otel.compare.runs import logged_names
from entrenar_otel.compare.settings import WITHHELD, differences, flat, group_of, without_seeds
from entrenar_otel.compare.side import LATEST, Side, find_side, of_runs
from entrenar_otel.compare.significance import (
    TestResult,
    bootstrap_interval,
    holm,
    mann_whitney,
    mean_interval,
    welch,
)
from entrenar_otel.errors import RunError
from entrenar_otel.lake.overview import runs_of

if TYPE_CHECKING:
    import os

    from entrenar_otel.lake import Lake

#: What groups are made by: one setting, the whole configuration without seeds, or what a run is.
CONFIG = "config"
FACTS = ("model_id", "version", "git_commit", "host")
#: Of more metrics and pairs than these, the metrics that say least by their names are left out.
_MOST_TESTS = 50_000
_TESTS = {"welch": welch, "mann_whitney": mann_whitney, "bootstrap": bootstrap_interval}


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that are samples of the same: its name, and how many configurations they have without seeds."""

    name: str
    run_ids: tuple[str, ...]
    configurations: int


@dataclass(frozen=True, slots=True)
class GroupValues:
    """A metric in one group: over its `runs` runs the mean, and the bounds of its interval, or NaN."""

    group: str
    runs: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two groups; `result.effect` is b − a. `p_corrected` is after Holm, for all pairs of the metric."""

    a: str
    b: str
    result: TestResult
    p_corrected: float


@dataclass(frozen=True, slots=True)
class GroupMetric:
    """One metric in all groups, and all pairs of groups. `best` is the group with the best mean."""

    metric: str
    split: str | None
    tags: dict[str, str]
    better: str | None
    groups: tuple[GroupValues, ...]
    pairs: tuple[Pair, ...]
    best: str | None

    @property
    def name(self) -> str:
        """The metric, its split and its tags, for people."""
        words = [self.metric, self.split or "", *(f"{key}={value}" for key, value in self.tags.items())]
        return " ".join(word for word in words if word)

    def pair(self, a: str, b: str) -> Pair | None:
        """These two groups, b against a, whichever of them comes first."""
        for pair in self.pairs:
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.a, pair.b) == (b, a):
                r = pair.result
                turned = TestResult(-r.statistic, r.p_value, -r.effect, -r.high, -r.low, r.method)
                return Pair(a, b, turned, pair.p_corrected)
        return None


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """Groups of runs, and how they differ in each metric; the most telling first."""

    by: tuple[str, ...]
    of: str
    groups: tuple[Group, ...]
    metrics: tuple[GroupMetric, ...]
    value: Value
    confidence: float
    alpha: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it; what is not a number is a text."""
        result: dict[str, Any] = plain(asdict(self))
        for metric, entry in zip(self.metrics, result["metrics"], strict=True):
            entry["name"] = metric.name
        return result


def compare_groups(
    lake: Lake | str | os.PathLike[str],
    by: str | Sequence[str],
    *sides: str,
    metrics: Sequence[str] | None = None,
    value: Value = "final",
    test: Test = "welch",
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> GroupComparison:
    """Compare groups of runs: `by` is `config`, the whole configuration without seeds, or `config.NAME`.

    Also `model_id`, `version`, `git_commit` and `host`; several make finer groups. Settings of seeds
    (`seed`, `random_seed`, `random_state`, `*_seed`, however deep) never tell runs apart. Without `sides`
    of all runs of the latest run's model; with one, of that model, version, or the run's model; with two or
    more, of the groups that these runs are in, or of the runs of these versions. Crashed runs are left out.
    Raises RunError, NotMeasured, QueryError, MissingExtra.

    >>> from entrenar_otel import Monitor
    >>> for seed in range(3):
    ...     for lr in (0.1, 0.2):
    ...         config = {"lr": lr, "seed": seed}
    ...         with Monitor(f"lr{lr}-{seed}", lake=tmp_path, config=config, quiet=True) as monitor:
    ...             monitor.log(accuracy=0.8 + lr + seed / 1000)
    >>> found = compare_groups(tmp_path, "config.lr").metrics[0]
    >>> [(group.group, group.runs, round(group.mean, 3)) for group in found.groups], found.best
    ([('0.1', 3, 0.901), ('0.2', 3, 1.001)], '0.2')
    >>> found.pairs[0].p_corrected < 0.001
    True
    """
    from entrenar_otel.lake import Lake

    lake = lake if isinstance(lake, Lake) else Lake(lake)
    names = (by,) if isinstance(by, str) else tuple(by)
    known = runs_of(lake)
    _check(names, known)
    chosen = _chosen(lake, known, names, sides)
    grouped: dict[str, list[dict[str, Any]]] = {}
    labels = _labels(chosen.runs, names)
    for run in chosen.runs:
        grouped.setdefault(labels[run["run_id"]], []).append(run)
    grouped = {name: grouped[name] for name in sorted(grouped, key=_order)}
    reader = RunReader(lake, len(known))
    wanted = logged_names(lake, [chosen], metrics) if metrics else None
    values = {run.run_id: run for run in values_of(reader, chosen.runs, wanted)}
    keys = common_keys(list(values.values()))
    tables = {
        name: ValueTable([values[run["run_id"]] for run in runs], keys) for name, runs in grouped.items()
    }
    pairs = math.comb(len(grouped), 2)
    most = max(1, _MOST_TESTS // max(1, pairs))
    ranked = sorted(keys, key=lambda key: rank_of(key[0], key[1]))
    found = [_metric(key, keys[key], tables, value, test, confidence) for key in ranked[:most]]
    left = len(keys) - len(found)
    found.sort(key=lambda one: (*rank_of(one.metric, one.split), _least_p(one), one.name))
    groups = [
        Group(name, tuple(run["run_id"] for run in runs), len({group_of(run["config"]) for run in runs}))
        for name, runs in grouped.items()
    ]
    return GroupComparison(
        by=names,
        of=chosen.name,
        groups=tuple(groups),
        metrics=tuple(found),
        value=value,
        confidence=confidence,
        alpha=alpha,
        notes=(
            *chosen.notes,
            *_notes(grouped),
            *([f"{counted(left, 'metric')} left out: name those you mean with --metric"] if left else []),
        ),
    )


# -- which runs, and in which group ------------------------------------------------------------------


def _check(names: Sequence[str], runs: Sequence[dict[str, Any]]) -> None:
    """Raise RunError on what groups cannot be made by, with what there is."""
    settings = sorted(
        {name for run in runs if run["config"] != WITHHELD for name in without_seeds(run["config"])}
    )
    for name in names:
        if name == CONFIG or name in FACTS:
            continue
        if name.startswith(f"{CONFIG}.") and name.removeprefix(f"{CONFIG}.") in settings:
            continue
        there = ", ".join([CONFIG, *(f"{CONFIG}.{setting}" for setting in settings[:12]), *FACTS])
        raise RunError(f"expected something to group runs by, got {name!r}; there is: {there}")


def _chosen(lake: Lake, known: Sequence[dict[str, Any]], by: Sequence[str], sides: Sequence[str]) -> Side:
    """The runs that are compared."""
    if len(sides) < 2:
        return _of_one(lake, known, sides[0] if sides else LATEST)
    chosen: dict[str, dict[str, Any]] = {}
    for name in sides:
        side = find_side(lake, name, known)
        runs = list(side.runs)
        if len(runs) == 1 and runs[0]["run_id"] == side.name:
            (one,) = runs
            model = [run for run in known if run["model_id"] == one["model_id"]]
            labels = _labels(model, by)
            runs = [run for run in model if labels[run["run_id"]] == labels[one["run_id"]]]
        chosen |= {run["run_id"]: run for run in runs}
    return of_runs(" and ".join(sides), list(chosen.values()))


def _of_one(lake: Lake, known: Sequence[dict[str, Any]], name: str) -> Side:
    model = [run for run in known if run["model_id"] == name]
    if model:
        return of_runs(name, model)
    side = find_side(lake, name, known)
    if side.name != side.run_ids[0]:
        return side
    model_id = side.runs[0]["model_id"]
    return of_runs(model_id or "runs without a model", [run for run in known if run["model_id"] == model_id])


def _labels(runs: Sequence[dict[str, Any]], by: Sequence[str]) -> dict[str, str]:
    """By run, the name of its group: values, with the names of settings where there are several."""
    configs = {
        run["run_id"]: {} if run["config"] == WITHHELD else without_seeds(run["config"]) for run in runs
    }
    shared = {one.name for one in differences(configs.values(), ())} if CONFIG in by else set()
    varying = sorted(
        name
        for name in shared
        if len({json.dumps(config.get(name), default=str) for config in configs.values()}) > 1
        or not all(name in config for config in configs.values())
    )
    names = [name.removeprefix(f"{CONFIG}.") for name in by if name != CONFIG] + varying
    labels = {}
    for run in runs:
        facts = configs[run["run_id"]] | {name: run[name] for name in FACTS if name in by}
        texts = [_text(facts.get(name)) for name in names]
        labels[run["run_id"]] = (
            texts[0]
            if len(names) == 1 and CONFIG not in by
            else ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True)) or "all alike"
        )
    return labels


def _text(value: Any) -> str:
    return (
        "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return math.inf, label


# -- one metric in all groups -------------------------------------------------------------------------


def _metric(
    key: Key, at: int, tables: dict[str, ValueTable], value: Value, test: Test, confidence: float
) -> GroupMetric:
    metric, split, tags = key
    samples = {name: table.arrays[value][:, at] for name, table in tables.items()}
    samples = {name: sample[~np.isnan(sample)] for name, sample in samples.items()}
    groups = tuple(
        GroupValues(name, len(sample), *mean_interval(sample, confidence=confidence))
        for name, sample in samples.items()
    )
    results = [
        (a, b, _TESTS[test](samples[a], samples[b], confidence=confidence))
        for a, b in combinations(samples, 2)
    ]
    corrected = holm([result.p_value for _, _, result in results])
    better = is_better(metric)
    measured = [group for group in groups if group.runs]
    best = None
    if better and len(measured) > 1:
        best = (min if better == "less" else max)(measured, key=lambda group: group.mean).group
    return GroupMetric(
        metric=metric,
        split=split,
        tags=dict(tags),
        better=better,
        groups=groups,
        pairs=tuple(
            Pair(a, b, result, float(p)) for (a, b, result), p in zip(results, corrected, strict=True)
        ),
        best=best,
    )


def _least_p(one: GroupMetric) -> float:
    return min((pair.p_corrected for pair in one.pairs if not math.isnan(pair.p_corrected)), default=2.0)


def _notes(grouped: dict[str, list[dict[str, Any]]]) -> list[str]:
    notes = []
    for name, runs in grouped.items():
        configs = [without_seeds(run["config"]) for run in runs if run["config"] != WITHHELD]
        mixed = sorted(
            setting
            for setting in {key for config in configs for key in config}
            if len({json.dumps(config.get(setting), default=str) for config in configs}) > 1
        )
        if mixed:
            notes.append(
                f"{name}: runs also differ in {', '.join(mixed[:5])}{', …' if len(mixed) > 5 else ''}"
            )
        seeds = [json.dumps(flat(run["config"]), sort_keys=True, default=str) for run in runs]
        if len(runs) > 1 and len(set(seeds)) < len(runs) and runs[0]["config"] not in ({}, WITHHELD):
            same = counted(len(runs) - len(set(seeds)) + 1, "run")
            notes.append(
                f"{name}: {same} with one and the same seed: samples of it only as far as they differ"
            )
    alone = [name for name, runs in grouped.items() if len(runs) == 1]
    if alone:
        some = ", ".join(alone[:5]) + (", …" if len(alone) > 5 else "")
        notes.append(f"one run only: {some}")
    return notes
