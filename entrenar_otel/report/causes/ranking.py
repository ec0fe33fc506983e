"""Ranking: all causes of a run in order; what follows from another stands behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from entrenar_processors.samples import Series

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.causes.data_wait import data_wait_causes
from entrenar_otel.report.causes.fit import overfitting_causes, plateau_causes
from entrenar_otel.report.causes.gradients import exploding_causes, vanishing_causes
from entrenar_otel.report.causes.learning_rate import learning_rate_causes
from entrenar_otel.report.causes.members import member_causes
from entrenar_otel.report.causes.nonfinite import nonfinite_causes
from entrenar_otel.report.learning import Learning
from entrenar_otel.views.model import Statistics

_OF_CURVES = (
    nonfinite_causes,
    exploding_causes,
    learning_rate_causes,
    vanishing_causes,
    overfitting_causes,
    plateau_causes,
    member_causes,
)
#: What brings what about: the second is no cause of its own where the first is at least likely.
_BRINGS = (
    ("exploding_gradients", "plateau"),
    ("exploding_gradients", "overfitting"),
    ("exploding_gradients", "vanishing_gradients"),
    ("learning_rate_too_high", "plateau"),
    ("learning_rate_too_high", "overfitting"),
    ("learning_rate_too_high", "vanishing_gradients"),
    ("vanishing_gradients", "plateau"),
    ("nan", "overfitting"),
    ("silent_expert", "nan"),
)
_LIKELY = 0.55


def ranked(causes: Sequence[Cause]) -> list[Cause]:
    """The likeliest first, one of each name, without those that another brings about."""
    likely = {cause.name for cause in causes if cause.score >= _LIKELY}
    by_name: dict[str, Cause] = {}
    for cause in sorted(causes, key=lambda cause: -cause.score):
        known = by_name.setdefault(cause.name, cause)
        if known is not cause:  # of two that are seen, in the curves and by a detector, say
            evidence = tuple(dict.fromkeys((*known.evidence, *cause.evidence)))
            by_name[cause.name] = replace(known, evidence=evidence)
    left = [
        cause
        for name, cause in by_name.items()
        if not any(name == later and first in likely for first, later in _BRINGS)
    ]
    return sorted(left, key=lambda cause: -cause.score)


def causes_of(learning: Learning, statistics: Mapping[Series, Statistics]) -> list[Cause]:
    """What the curves and numbers of a run speak for."""
    found = [cause for recognise in _OF_CURVES for cause in recognise(learning)]
    scores = {cause.name: cause.score for cause in found}
    # an explosion that the learning rate explains is its consequence, and the other way round
    first, second = "exploding_gradients", "learning_rate_too_high"
    if first in scores and second in scores:
        weaker = min((first, second), key=scores.__getitem__)
        found = [replace(c, score=min(c.score, 0.5)) if c.name == weaker else c for c in found]
    return ranked([*found, *data_wait_causes(statistics)])
