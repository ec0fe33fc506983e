"""Comparison: two versions beside each other, in accuracy and every metric that both have."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from entrenar_processors.metric_names import is_better
from entrenar_processors.plain import plain

from entrenar_otel.compare.significance import TestResult, benjamini_hochberg, welch
from entrenar_otel.errors import LineageError, NotMeasured
from entrenar_otel.lineage.statements import ACCURACY
from entrenar_otel.lineage.words import percent, probability, signed
from entrenar_otel.redact import printable_line
from entrenar_otel.views.numbers import number

if TYPE_CHECKING:
    from entrenar_otel.lineage.graph import LineageGraph


@dataclass(frozen=True, slots=True)
class VersionDifference:
    """One metric of both versions, means over their evaluations; `ratio` is the effect as a share of |A|.

    `low` and `high` bound the effect, `p_corrected` is the p-value after Benjamini and Hochberg's correction
    for all metrics tested; NaN where there was one evaluation each.
    """

    metric: str
    better: str | None
    a: float
    b: float
    evaluations: tuple[int, int]
    effect: float
    ratio: float
    low: float
    high: float
    p_value: float
    p_corrected: float
    method: str

    def __str__(self) -> str:
        share = signed(self.effect) if math.isnan(self.ratio) else percent(self.ratio)
        text = f"{self.metric} {share} ({number(self.a)} → {number(self.b)}"
        if math.isfinite(self.low) and math.isfinite(self.high):
            text += f"; by {signed(self.low)} … {signed(self.high)}"
        if not math.isnan(self.p_corrected):
            text += f", {probability(self.p_corrected)}"
        return text + ")"


@dataclass(frozen=True, slots=True)
class VersionComparison:
    """Two versions; `path` is how B was made from A, or A from B, or None."""

    a: str
    b: str
    metrics: tuple[VersionDifference, ...]
    path: tuple[str, ...] | None

    def metric(self, name: str) -> VersionDifference:
        """One metric's difference. Raises NotMeasured."""
        for difference in self.metrics:
            if difference.metric == name:
                return difference
        raise NotMeasured(
            f"{name!r} is not known of both; known: {', '.join(d.metric for d in self.metrics)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it; what is not a number is a text."""
        return plain(asdict(self))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        lines = [f"{self.a} → {self.b}", *map(str, self.metrics)]
        return "\n  ".join(printable_line(line) for line in lines)


def compare_versions(graph: LineageGraph, a: str, b: str) -> VersionComparison:
    """See `Lineage.compare`."""
    sides = [graph.node(name) for name in (a, b)]
    common = [
        metric
        for metric in sides[0].metrics
        if metric in sides[1].metrics
        # the series that the accuracy was taken from
        and any(node.metrics[metric] != node.accuracy for node in sides)
    ]
    metrics = [ACCURACY] * all(node.accuracy is not None for node in sides) + sorted(common)
    if not metrics:
        raise LineageError(f"{a} and {b} have no metric in common: nothing to compare")
    samples = [[graph.samples(name, metric) for name in (a, b)] for metric in metrics]
    results = [welch(*pair) for pair in samples]
    corrected = benjamini_hochberg([result.p_value for result in results])
    return VersionComparison(
        a=a,
        b=b,
        metrics=tuple(
            _difference(metric, pair, result, float(p))
            for metric, pair, result, p in zip(metrics, samples, results, corrected, strict=True)
        ),
        path=_way(graph, a, b),
    )


def _difference(metric: str, pair: list[list[float]], result: TestResult, p: float) -> VersionDifference:
    before, after = (sum(values) / len(values) for values in pair)
    return VersionDifference(
        metric=metric,
        better=is_better(metric),
        a=before,
        b=after,
        evaluations=(len(pair[0]), len(pair[1])),
        effect=result.effect,
        ratio=result.effect / abs(before) if before else math.nan,
        low=result.low,
        high=result.high,
        p_value=result.p_value,
        p_corrected=p,
        method=result.method,
    )


def _way(graph: LineageGraph, a: str, b: str) -> tuple[str, ...] | None:
    way = graph.path(a, b) or graph.path(b, a)
    return None if way is None else tuple(way)
