"""Data wait: a training that waits for its data most of the time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrenar_processors.samples import Series

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.semconv import Metric
from entrenar_otel.views.model import Statistics
from entrenar_otel.views.numbers import number

#: Shares of the step's time: from here on it is mentioned, and from here on it is what limits the run.
_SOME, _BOUND = 0.3, 0.5
_LEAST = 20
_ADVICE = (
    "Prefetch, with more loader workers, pinned memory and larger read-ahead.",
    "Decode and augment once, ahead of the training; keep the data on a local disk.",
)


def data_wait_causes(statistics: Mapping[Series, Statistics]) -> Iterator[Cause]:
    """Data wait as a share of the step, where both were measured."""
    wait = statistics.get(Series(Metric.DATA_WAIT))
    step = statistics.get(Series(Metric.STEP_DURATION))
    if wait is None or step is None or min(wait.count, step.count) < _LEAST:
        return
    whole = step.mean * step.count
    share = wait.mean * wait.count / whole if whole > 0 else 0.0
    typical = wait.p50 / step.p50 if step.p50 and step.p50 > 0 else share
    if share < _SOME or typical < _SOME / 2:  # a slow first batch is no bound
        return
    yield Cause(
        "data_wait",
        "The training waited for its data",
        f"{share:.0%} of the time went into waiting for the next batch",
        (0.65 if share >= _BOUND else 0.45) + 0.15 * share,
        (
            f"data_wait is {share:.0%} of step_duration over {step.count:,} steps.",
            f"A step took {number(step.p50)} s (median), of which {number(wait.p50)} s were data wait.",
            f"Without it the same steps would take {whole * (1 - share):.3g} s in place of {whole:.3g} s.",
        ),
        _ADVICE,
    )
