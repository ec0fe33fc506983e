"""Members: an expert, layer or head that is silent while its siblings learn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from entrenar_processors.metric_names import known_as

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step, joined
from entrenar_otel.semconv import Metric

#: Values of the same number in a row, and values that are not finite: as the detector `silent` has them.
_CONSTANT, _NAN = 30, 10
#: Of a short series, all of it.
_LEAST = 8
_WATCHED = (Metric.LOSS, Metric.ACCURACY, Metric.GRADIENT_NORM)
_ADVICE = (
    "Look at what that member receives: its router, its input, whether its weights are given to the "
    "optimizer.",
    "Balance the load of the router (an auxiliary loss), or re-initialise the member.",
    "Alert on it: the detector `silent` watches tagged series by default.",
)


def member_causes(learning: Learning) -> Iterator[Cause]:
    """Members of a family that end in one number or in NaN while at least half of the others move."""
    for (metric, _split, *keys), members in learning.families.items():
        if known_as(metric)[0] not in _WATCHED and not any(key in metric for key in keys):
            continue
        silent = {str(one.series): told for one in members if (told := _silence(one))}
        if not silent or 2 * len(silent) > len(members):
            continue
        names = joined([_name(one, keys) for one in members if str(one.series) in silent])
        yield Cause(
            "silent_expert",
            f"{names} {'was' if len(silent) == 1 else 'were'} silent",
            f"{names} took no part in the training while the others learned, which the mean does not show",
            0.85,
            (
                *(f"{name} {told}." for name, told in sorted(silent.items())),
                f"The other {len(members) - len(silent)} of {len(members)} series of {metric} moved.",
            ),
            _ADVICE,
        )


def _name(member: LearningCurve, keys: list[str]) -> str:
    tags = dict(member.series.tags)
    return " ".join(f"{key} {tags[key]}" for key in keys)


def _silence(member: LearningCurve) -> str:
    """How it ended, where it is silent."""
    y = member.y
    if len(y) < _LEAST:
        return ""
    odd = ~np.isfinite(y)
    run = _run_at_end(odd)
    if run >= min(_NAN, len(y)):
        return f"was not finite in its last {run:,} values, from {at_step(member.x[-run])[3:]} on"
    if not odd[-1]:
        run = _run_at_end(y == y[-1])
        if run >= min(_CONSTANT, len(y)):
            return f"was {y[-1]:.6g} in its last {run:,} values, from {at_step(member.x[-run])[3:]} on"
    return ""


def _run_at_end(flags: np.ndarray) -> int:
    off = np.flatnonzero(~flags)
    return len(flags) - (int(off[-1]) + 1 if len(off) else 0)
