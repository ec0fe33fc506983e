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
#: At which step they were; of equal values, the earliest.
_STEPS = {
    "last_step": f"arg_max_null(step, {_RECORDED})",
    "min_step": f"arg_min_null(step, (value, attempt, seq)) {_FINITE}",
    "max_step": f"arg_min_null(step, (-value, attempt, seq)) {_FINITE}",
}
#: Those that `summaries` has of each series, and keeps of a pruned run.
KEPT = tuple(name for name in SUMMARIES.names if name in STATISTICS or name in _STEPS)

#: Words in a metric's name that say whether little or much of it is good.
_LESS = "loss|losses|error|err|nll|perplexity|ppl|mae|mse|rmse|wer|cer|fid|bpb|bpc|divergence"
_MORE = "accuracy|acc|acc1|acc5|top1|top5|f1|auc|auroc|precision|recall|bleu|rouge|iou|miou|dice|reward"
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
        f"regexp_matches({_WORDS}, '(^|[^a-z0-9])({words})($|[^a-z0-9])')" for words in (_LESS, _MORE)
    )
    return f"CASE WHEN {is_less} THEN {least} WHEN {is_more} THEN {most} END"
