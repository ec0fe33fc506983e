"""Statistics: the numbers of a summary as SQL over `metrics`, the same for `show`, `prune` and budgets."""

from __future__ import annotations

from entrenar_processors.expression import QUANTILES
from entrenar_processors.metric_names import LESS_IS_BETTER, MORE_IS_BETTER

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
#: At which step they were; of equal values, the earliest.
_STEPS = {
    "last_step": f"arg_max_null(step, {_RECORDED})",
    "min_step": f"arg_min_null(step, (value, attempt, seq)) {_FINITE}",
    "max_step": f"arg_min_null(step, (-value, attempt, seq)) {_FINITE}",
}
#: Those that `summaries` has of each series, and keeps of a pruned run.
KEPT = tuple(name for name in SUMMARIES.names if name in STATISTICS or name in _STEPS)

_WORDS = r"lower(regexp_replace(metric, '([a-z0-9])([A-Z])', '\1_\2', 'g'))"


def columns(*names: str) -> str:
    """Statistics as columns of a SELECT.

    >>> columns("count", "mean")
    'count(*) AS count, avg(value) FILTER (isfinite(value)) AS mean'
    """
    return ", ".join(f"{(STATISTICS | _STEPS)[name]} AS {name}" for name in names)


def best(least: str, most: str) -> str:
    """What is best of a metric, in SQL: `least` of a loss, `most` of an accuracy, NULL of what is neither."""
    is_less, is_more = (
        f"regexp_matches({_WORDS}, '(^|[^a-z0-9])({'|'.join(sorted(words))})($|[^a-z0-9])')"
        for words in (LESS_IS_BETTER, MORE_IS_BETTER)
    )
    return f"CASE WHEN {is_less} THEN {least} WHEN {is_more} THEN {most} END"
