"""Story: what happened, why probably, and what to do: three sentences for somebody in a hurry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from entrenar_processors.counts import counted

from entrenar_otel.report.causes.cause import Cause
from entrenar_otel.report.facts import RunFacts
from entrenar_otel.report.learning import Learning
from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.report.text import at_step, sentence
from entrenar_otel.views.numbers import number

#: Recommendations that a report makes at most.
_MAX = 8
#: A run that was flat for this share of its steps could have been shorter.
_FLAT = 0.4
_LIKELY = 0.55
#: Causes of which gradient norms would tell more.
_OF_GRADIENTS = frozenset({"nan", "exploding_gradients", "learning_rate_too_high", "plateau"})
#: Fewer values are no curve.
_LEAST = 4


def summary_of(facts: RunFacts, learning: Learning, causes: Sequence[Cause]) -> tuple[str, str, str]:
    """Three sentences."""
    return _what(facts, learning), _why(facts, learning, causes), _then(facts, learning, causes)


def _what(facts: RunFacts, learning: Learning) -> str:
    view = facts.view
    after = f" after {facts.duration}" if facts.duration else ""
    step = f" at step {view.progress.step:,}" if view.progress.step is not None else ""
    name = f"Run {view.run_id}" + (f" ({view.model})" if view.model else "")
    if not view.curves:
        return f"{name} {_STATES.get(view.state, view.state)}{after} and recorded no metrics."
    if view.is_going:
        so_far = f", {facts.duration} so far" if facts.duration else ""
        return f"{name} is {view.state}{so_far}{step}: {_level(learning)}."
    stop = facts.stop
    if view.state == "stopped" and stop is not None and stop["summary"]:
        return f"{name} was stopped{step}{after}: {_lower(stop['summary'].rstrip('.'))}."
    if view.state == "unknown":
        return f"{name} was last heard of{step}; how it ended is not known: {_level(learning)}."
    reason = f" ({view.reason.rstrip('.')})" if view.reason and view.state != "completed" else ""
    return f"{name} {_STATES.get(view.state, view.state)}{step}{after}{reason}: {_level(learning)}."


_STATES = {"completed": "completed", "stopped": "was stopped", "crashed": "crashed", "running": "is running"}


def _level(learning: Learning) -> str:
    """How far it came, on what it was trained with and on what it had not seen."""
    curves = (("the loss", learning.loss), ("the validation loss", learning.validation_loss))
    texts = [_path(name, curve) for name, curve in curves if curve is not None and curve.count]
    return ", and ".join(texts) if texts else "no loss was recorded"


def _path(name: str, curve: LearningCurve) -> str:
    if curve.count < _LEAST:
        return f"{name} was {number(curve.end)}"
    best = curve.best_value
    text = f"{name} went from {number(curve.start)} to {number(curve.end)}"
    is_worse = curve.lost > max(0.05 * abs(best.value), 2 * curve.noise)
    is_told = is_worse and curve.better_by(best.value, curve.start) > 0
    return text + (f" (best: {number(best.value)} {at_step(best.place)})" if is_told else "")


def _why(facts: RunFacts, learning: Learning, causes: Sequence[Cause]) -> str:
    if causes:
        top = causes[0]
        word = {"very likely": "Very likely", "likely": "Probably", "possible": "Possibly"}[top.likelihood]
        also = causes[1] if len(causes) > 1 and causes[1].score >= _LIKELY else None
        more = f"; also likely: {_lower(also.title)}" if also else ""
        return f"{word}, {top.summary.rstrip('.')}{more}."
    if not facts.view.curves:
        return "Nothing was recorded that could tell why."
    if facts.view.state in ("stopped", "crashed", "unknown"):
        return "What was recorded does not tell why: its curves look sound up to the end."
    if facts.alerts:
        fired = counted(len(facts.alerts), "alert")
        return f"{fired} fired, but no cause of a failure is seen in the curves."
    return "Nothing that was recorded speaks for a fault."


def _lower(title: str) -> str:
    """A title within a sentence; what is written in capitals stays so."""
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _then(facts: RunFacts, learning: Learning, causes: Sequence[Cause]) -> str:
    first = next(recommendations_of(facts, learning, causes), "")
    return f"What to do: {_lower(first)}" if first else "Nothing needs to be done."


def recommendations_of(facts: RunFacts, learning: Learning, causes: Sequence[Cause]) -> Iterator[str]:
    """What to do, the most promising first; also what would make the next report say more."""
    given: dict[str, None] = {}
    for at, cause in enumerate(causes):
        for advice in cause.advice if at == 0 else cause.advice[:1]:
            given[sentence(advice)] = None
    given |= dict.fromkeys(_of_curves(facts, learning, causes))
    yield from list(given)[:_MAX]


def _of_curves(facts: RunFacts, learning: Learning, causes: Sequence[Cause]) -> Iterator[str]:
    loss, held = learning.loss, learning.validation_loss
    if facts.view.dropped:
        yield f"Find out why {facts.view.dropped:,} samples were dropped: see docs/losses.md."
    if not facts.view.curves:
        yield "Log the loss: monitor.log(loss=…)."
        return
    if not causes and loss is not None and loss.count >= 40:
        if loss.flat_share > _FLAT and loss.won > 0.2 * abs(loss.start):
            share = f"{loss.flat_share:.0%}"
            yield f"Stop earlier next time: the last {share} of the steps brought next to nothing."
        elif loss.trend.is_falling() and facts.view.state == "completed":
            yield "Train longer: the loss was still falling when it ended."
    has_norms = learning.gradient_norm is not None or learning.gradient_norms
    if loss is not None and not has_norms and _OF_GRADIENTS & {cause.name for cause in causes}:
        yield "Log gradient_norm: without it, gradients that explode or vanish are only guessed at."
    if loss is not None and held is None and loss.count >= 40:
        yield 'Log a validation loss, with tags={"split": "validation"}: over-fitting shows nowhere else.'
