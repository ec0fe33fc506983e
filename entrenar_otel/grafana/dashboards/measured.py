"""Queries of what runs measure, for one run or several: `names` is what tells series apart in a legend."""

from __future__ import annotations

from collections.abc import Iterable

from entrenar_processors.config.models import Config
from entrenar_processors.metric_names import TRAIN_WORDS, VALIDATION_WORDS, known_as

from entrenar_otel.grafana.dashboards.page import CHOSEN
from entrenar_otel.grafana.dashboards.panels import Limits, Query
from entrenar_otel.grafana.promql import (
    PROCESS,
    TRAINED,
    highest,
    latest,
    less_data_wait,
    name_of,
    quoted,
    selector,
    series,
)

RATE = "$__rate_interval"
STEP = "training.step.duration"


def now(instrument: str, *matchers: str, by: Iterable[str] = PROCESS, at: str = "") -> str:
    """What an instrument of the chosen runs is, of the latest attempt."""
    return latest(series(instrument, *matchers, *CHOSEN), *CHOSEN, by=by, at=at)


def rate(instrument: str, *labels: str, suffix: str = "", per: str = RATE) -> str:
    """How fast a counter of the chosen runs rises, per second."""
    return highest(f"rate({series(instrument, *CHOSEN, suffix=suffix)}[{per}])", *labels, by=PROCESS)


def of_split(metric: str, *, validation: bool, at: str = "") -> str:
    """Loss or accuracy, of the training or of the validation, by the usual names and tags.

    Series of several names are one: the highest of a process.
    """
    words = sorted(VALIDATION_WORDS if validation else TRAIN_WORDS)
    either = "|".join(words)
    name = name_of(f"training.{metric}")
    short = name.removeprefix("training_")
    own = selector(name, f"split=~{quoted(either if validation else f'|{either}')}", *CHOSEN)
    named = selector("", f"__name__=~{quoted(f'training_({either})_{short}')}", *CHOSEN)
    return latest(f"({own} or {named})", *CHOSEN, by=PROCESS, at=at)


def learning(metric: str, names: str, *, at: str = "") -> list[Query]:
    """Train against validation."""
    sides = ((False, "train"), (True, "validation"))
    return [
        Query(of_split(metric, validation=side, at=at), f"{word} {names}".strip()) for side, word in sides
    ]


def step_quantiles(names: str = "") -> list[Query]:
    """P50, P90 and P99 of a step, over the ranks that are chosen."""
    inner = f"sum by (run_id, le) ({rate(STEP, 'le', suffix='_bucket')})"
    return [
        Query(f"histogram_quantile({quantile}, {inner})", f"P{quantile * 100:g} {names}".strip())
        for quantile in (0.5, 0.9, 0.99)
    ]


def mean_of(instrument: str) -> str:
    """The mean of a histogram, for each process."""
    total, count = rate(instrument, suffix="_sum"), rate(instrument, suffix="_count")
    return f"{total} / ({count} > 0)"


def computing() -> str:
    """The mean step less its data wait, for each process."""
    return highest(less_data_wait(TRAINED, *CHOSEN, over=RATE), by=PROCESS)


def drift_limit(settings: Config) -> Limits:
    """Below which p-value a drift is found; that of the detector's default where it is off."""
    drift = settings.monitor.drift
    return Limits(low=0.05 if drift is None else drift.threshold)


def limits_of(settings: Config, *metrics: str) -> Limits:
    """The narrowest plain limits that renacer.toml has for these metrics, by whichever of their names."""
    found = [one for one in settings.monitor.threshold if known_as(one.metric)[0] in metrics]
    low = max((one.min for one in found if one.min is not None), default=None)
    high = min((one.max for one in found if one.max is not None), default=None)
    return Limits(low, high)
