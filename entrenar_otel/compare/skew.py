"""Skew: whether production sees what training saw, metric by metric and input by input.

Breck et al. (The ML Test Score, 2017) name training-serving skew among what goes wrong unseen. Two answers
per distribution: the population stability index, which says how large a shift is whatever the number of
values, and Kolmogorov and Smirnov's distance, which also sees shifts within a bin.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from entrenar_processors.extras import require_library
from entrenar_processors.metric_names import known_as, split_of
from entrenar_processors.plain import plain
from entrenar_processors.samples import Floats, Series
from numpy.typing import ArrayLike

from entrenar_otel.compare.run_values import samples_of
from entrenar_otel.compare.side import find_side
from entrenar_otel.compare.significance import benjamini_hochberg
from entrenar_otel.errors import NotMeasured, RunError
from entrenar_otel.lake.overview import runs_of
from entrenar_otel.semconv import MACHINE

if TYPE_CHECKING:
    import os

    from entrenar_otel.lake import Lake

#: The usual limits of the index (Siddiqi, Credit Risk Scorecards, 2006): below 0.1 stable, from 0.25 shifted.
MODERATE, LARGE = 0.1, 0.25
BINS = 10
#: Values of a series that are taken, at random but always the same, where there are more.
_MOST_VALUES = 100_000
#: What the index is by chance alone must be well below its first limit.
_MOST_BY_CHANCE = MODERATE / 2
#: How instruments of training are called by OpenTelemetry, and by `log` without it.
_PREFIX = "training."

_VALUES = f"""
SELECT metric, tags, list(value) AS values, any_value(count) AS count FROM (
    SELECT metric, tags, value, count(*) OVER (PARTITION BY metric, tags) AS count
    FROM ({{source}}) WHERE list_contains(?, run_id) AND isfinite(value) {{where}}
    QUALIFY row_number() OVER (
        PARTITION BY metric, tags ORDER BY hash(run_id, attempt, rank, seq), run_id, attempt, rank, seq
    ) <= {_MOST_VALUES}
) GROUP BY metric, tags
"""
_FOREIGN = "SELECT * FROM otel_metrics"
_FOREIGN_RUNS = "SELECT DISTINCT run_id FROM otel_metrics ORDER BY 1"


class SkewVerdict(StrEnum):
    """What the index says."""

    STABLE = "stable"
    MODERATE = "moderate shift"
    LARGE = "large shift"
    TOO_FEW = "too few values"


@dataclass(frozen=True, slots=True)
class SkewMetric:
    """One distribution in training and in production.

    `psi` is the index, `psi_by_chance` what it is on average without any shift; `ks` the largest distance of
    the distribution functions (0 … 1). The p-value takes values for independent, which those of neighbouring
    steps are not; `p_corrected` is after Benjamini and Hochberg. `edges` are the inner bounds of the bins,
    the shares those of both sides in them.
    """

    name: str
    training_count: int
    production_count: int
    training_median: float
    production_median: float
    psi: float
    psi_by_chance: float
    ks: float
    p_value: float
    p_corrected: float
    edges: tuple[float, ...]
    training_shares: tuple[float, ...]
    production_shares: tuple[float, ...]
    verdict: SkewVerdict


@dataclass(frozen=True, slots=True)
class SkewComparison:
    """All distributions that both sides have, the largest shift first, and what only one side has."""

    training: str
    production: str
    metrics: tuple[SkewMetric, ...]
    only_training: tuple[str, ...]
    only_production: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it; what is not a number is a text."""
        result: dict[str, Any] = plain(asdict(self))
        return result


def compare_serving(
    lake: Lake | str | os.PathLike[str],
    training: str,
    production: str,
    *,
    metrics: Sequence[str] | None = None,
) -> SkewComparison:
    """Compare the distributions of a training run, or version, with those that production recorded.

    `production` is a run that a Monitor recorded, a version, or what another OpenTelemetry program sent to a
    sink (`run_id` of the view `otel_metrics`). Metrics are the same by name, split and tags, else by name.
    Raises RunError, NotMeasured, QueryError, MissingExtra.

    >>> from entrenar_otel import Monitor
    >>> random = np.random.default_rng(0)
    >>> for run_id, age in ("fit", 40.0), ("live", 48.0):
    ...     with Monitor(run_id, lake=tmp_path, quiet=True) as monitor:
    ...         for value in random.normal(age, 10, 2000):
    ...             monitor.log(age=float(value))
    >>> (age,) = compare_serving(tmp_path, "fit", "live").metrics
    >>> age.verdict.value, 0.5 < age.psi < 0.8, age.ks > 0.25
    ('large shift', True, True)
    """
    from entrenar_otel.lake import Lake

    lake = lake if isinstance(lake, Lake) else Lake(lake)
    require_library("scipy", "a comparison")
    runs = runs_of(lake)
    side = find_side(lake, training, runs)
    here = _values(lake, samples_of(side.runs), side.run_ids, metrics)
    there = _production(lake, production, runs, metrics)
    if metrics and not here:
        raise NotMeasured(f"{', '.join(metrics)}: not measured in {side.name}")
    found, only_training, used = [], [], set()
    for series, values in here.items():
        matching = _matching(series, there)
        used.update(matching)
        if not matching:
            only_training.append(_name(series))
            continue
        other = np.concatenate([there[one] for one in matching])
        found.append(_skew(_name(series), values, other))
    corrected = benjamini_hochberg([one["p_value"] for one in found])
    done = [SkewMetric(**one, p_corrected=float(p)) for one, p in zip(found, corrected, strict=True)]
    done.sort(key=lambda one: (one.verdict is SkewVerdict.TOO_FEW, -one.psi, one.name))
    return SkewComparison(
        training=side.name,
        production=production,
        metrics=tuple(done),
        only_training=tuple(sorted(only_training)),
        only_production=tuple(sorted(_name(series) for series in there.keys() - used)),
    )


def population_stability(
    training: ArrayLike, production: ArrayLike, bins: int = BINS
) -> tuple[float, Floats, Floats, Floats]:
    """The index of `production` `(m,)` against `training` `(n,)`, the bins' inner bounds and both shares.

    PSI = Σ (p − t) ln(p / t) over bins that each have the same share of the training's values; equal ones
    are in one bin. A bin without values counts as half of one.

    >>> index, edges, _, _ = population_stability(np.arange(1000.0), np.arange(1000.0) + 1)
    >>> round(index, 3), len(edges)
    (0.0, 9)
    """
    here, there = (np.asarray(values, np.float64).ravel() for values in (training, production))
    edges = np.unique(np.quantile(here, np.arange(1, bins) / bins, method="inverted_cdf"))
    if edges[-1] == here.max():  # what is above the greatest value is a bin of its own
        edges = np.append(edges[:-1], np.nextafter(edges[-1], -np.inf)) if len(edges) == 1 else edges
        edges = np.unique(np.append(edges, here.max()))
    counts = [
        np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1) for x in (here, there)
    ]
    keep = (counts[0] > 0) | (counts[1] > 0)
    shares = [np.maximum(count, 0.5) / max(1, len(x)) for count, x in zip(counts, (here, there), strict=True)]
    t, p = (share[keep] for share in shares)
    index = float(((p - t) * np.log(p / t)).sum())
    return index, edges, counts[0] / max(1, len(here)), counts[1] / max(1, len(there))


def _skew(name: str, training: Floats, production: Floats) -> dict[str, Any]:
    from scipy.stats import ks_2samp

    index, edges, here, there = population_stability(training, production)
    n, m = len(training), len(production)
    # its mean without a shift: a chi-square's degrees of freedom, times this (Yurdakul, 2018)
    by_chance = len(edges) * (1 / n + 1 / m)
    found = ks_2samp(training, production, method="auto" if max(n, m) <= 1_000 else "asymp")
    if by_chance > _MOST_BY_CHANCE:
        verdict = SkewVerdict.TOO_FEW
    else:
        verdict = (
            SkewVerdict.STABLE
            if index < MODERATE
            else SkewVerdict.MODERATE
            if index < LARGE
            else SkewVerdict.LARGE
        )
    return {
        "name": name,
        "training_count": n,
        "production_count": m,
        "training_median": float(np.median(training)),
        "production_median": float(np.median(production)),
        "psi": index,
        "psi_by_chance": by_chance,
        "ks": float(found.statistic),
        "p_value": min(1.0, float(found.pvalue)),
        "edges": tuple(edges.tolist()),
        "training_shares": tuple(here.tolist()),
        "production_shares": tuple(there.tolist()),
        "verdict": verdict,
    }


# -- values of both sides ----------------------------------------------------------------------------


def _values(
    lake: Lake, source: str, run_ids: Sequence[str], metrics: Sequence[str] | None
) -> dict[Series, Floats]:
    run_id = run_ids[0] if len(run_ids) == 1 and source is not _FOREIGN else None
    wanted = [*(metrics or ()), *(f"{_PREFIX}{name}" for name in metrics or ())]
    where = f"AND {'' if wanted else 'NOT'} list_contains(?, metric)"  # the machine's only where asked for
    parameters: list[Any] = [list(run_ids), wanted or [*MACHINE]]
    rows = lake.query(_VALUES.format(source=source, where=where), parameters, run_id=run_id)
    lists = rows["values"].combine_chunks()
    found = {}
    for at, (metric, tags) in enumerate(
        zip(rows["metric"].to_pylist(), rows["tags"].to_pylist(), strict=True)
    ):
        found[Series.of(metric, dict(tags or ()))] = np.asarray(lists[at].values, np.float64)
    return found


def _production(
    lake: Lake, name: str, runs: Sequence[dict[str, Any]], metrics: Sequence[str] | None
) -> dict[Series, Floats]:
    """The values of production: of a run or version, else of another program's in a sink's lake."""
    try:
        side = find_side(lake, name, runs)
    except RunError as error:
        foreign = lake.query(_FOREIGN_RUNS)["run_id"].to_pylist()
        if name in foreign:
            return _values(lake, _FOREIGN, [name], metrics)
        close = difflib.get_close_matches(name, foreign, n=5, cutoff=0.5)
        hint = f"; other programs' {', '.join(close or foreign[:5])}" if foreign else ""
        raise RunError(f"{error}{hint}") from None
    return _values(lake, samples_of(side.runs), side.run_ids, metrics)


def _key(series: Series) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
    bare = Series(series.metric.removeprefix(_PREFIX), series.tags)
    tags = tuple(pair for pair in series.tags if pair[0] != "split")
    return known_as(bare.metric)[0], split_of(bare), tags


def _matching(series: Series, others: dict[Series, Floats]) -> list[Series]:
    """The series of production that are the same by name, split and tags, else all of the same name."""
    key = _key(series)
    same = [other for other in others if _key(other) == key]
    return same or [other for other in others if _key(other)[0] == key[0]]


def _name(series: Series) -> str:
    metric, split, tags = _key(series)
    return " ".join(
        word for word in (metric, split or "", *(f"{key}={value}" for key, value in tags)) if word
    )
