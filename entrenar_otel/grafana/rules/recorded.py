"""Recorded series: how long the steps of a run take, and which of its ranks computes the slowest."""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_otel.grafana.promql import SHOWN, TRAINED, highest, less_data_wait, name_of, series
from entrenar_otel.grafana.rules.rule import Group, Recording

_STEP = "training.step.duration"
_QUANTILES = ("0.5", "0.9", "0.99")
_OVER = "5m"


def recorded() -> Group:
    """Of the last five minutes.

    >>> [rule.name for rule in recorded().rules][-1]
    'run:training_step_duration_seconds:slowest5m'
    """
    return Group("training-steps", tuple(_rules()))


def _rules() -> Iterator[Recording]:
    prefix = f"run:{name_of(_STEP)}"
    buckets = highest(f"rate({series(_STEP, suffix='_bucket')}[{_OVER}])", "le")
    for quantile in _QUANTILES:
        expr = f"histogram_quantile({quantile}, sum by (run_id, model_id, le) ({buckets}))"
        yield Recording(f"{prefix}:quantile{_OVER}", expr, {"quantile": quantile})
    computing = less_data_wait(TRAINED, over=_OVER)
    yield Recording(
        f"{prefix}:slowest{_OVER}",
        f"topk by (run_id) (1, max by ({', '.join(SHOWN)}) ({computing}) > 0)",
    )
