"""Statistics: the numbers of a summary as SQL over `metrics`, the same for `show`, `prune` and budgets."""

from __future__ import annotations

from entrenar_processors.expression import QUANTILES

from entrenar_otel.lake.tables.schema import SUMMARIES

_FINITE = "FILTER (isfinite(value))"
_RECORDED = "(attempt, seq, rank)"

#: By name, as a live `Summary` has them: of the finite values only, but for count, nonfinite, first and last.
STATISTICS = {
    "count": "count(*)",
    "nonfinite": "count(*) FILTER (NOT isfinite(value))",
    "mean": f"avg(value) {_FINITE}",
    "std": f"stddev(value) {_FINITE}",
    **{name: f"{name}(value) {_FINITE}" for name in ("sum", "min", "max")},
    "first": f"arg_min(value, {_RECORDED})",
    "last": f"arg_max(value, {_RECORDED})",
    **{name: f"quantile_cont(value, {share}) {_FINITE}" for name, share in QUANTILES.items()},
}
#: Those that `summaries` keeps of a pruned run.
KEPT = tuple(name for name in SUMMARIES.names if name in STATISTICS)


def columns(*names: str) -> str:
    """Statistics as columns of a SELECT.

    >>> columns("count", "mean")
    'count(*) AS count, avg(value) FILTER (isfinite(value)) AS mean'
    """
    return ", ".join(f"{STATISTICS[name]} AS {name}" for name in names)
