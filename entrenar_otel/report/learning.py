"""Learning: the curves of a run by what they are: its loss, the validation's, gradients, learning rate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from entrenar_processors.metric_names import TRAIN, VALIDATION, is_reward, known_as, split_of
from entrenar_processors.samples import Series

from entrenar_otel.report.learning_curve import LearningCurve
from entrenar_otel.semconv import Metric, is_of_machine
from entrenar_otel.views.model import Axis, Places, RunView

#: Series of one metric that are looked at one by one.
_MAX_MEMBERS = 512
#: Names that a learning rate goes by, in lower case; a scheduler's `lr-Adam` begins with one of them.
_RATES = ("learning_rate", "lr")


@dataclass(frozen=True)
class Learning:
    """What a post-mortem looks at; None and empty where it was not measured."""

    loss: LearningCurve | None = None
    validation_loss: LearningCurve | None = None
    accuracy: LearningCurve | None = None
    validation_accuracy: LearningCurve | None = None
    gradient_norm: LearningCurve | None = None
    learning_rate: LearningCurve | None = None
    #: Gradient norms of layers or groups.
    gradient_norms: tuple[LearningCurve, ...] = ()
    #: Series of one metric that differ by a tag, such as experts: by metric, split and tag keys.
    families: dict[tuple[str, ...], tuple[LearningCurve, ...]] = field(default_factory=dict)
    #: Whether a policy is to raise a reward: then its loss need not fall.
    has_reward: bool = False

    @classmethod
    def of(cls, view: RunView) -> Learning:
        """The curves of a view."""
        places = Places(view, Axis.STEP)
        by_role: dict[tuple[str, str | None], list[Series]] = defaultdict(list)
        grouped: dict[tuple[str, ...], list[Series]] = defaultdict(list)
        for series in view.curves:
            if is_of_machine(series.metric):
                continue
            split = split_of(series)
            by_role[_known(series.metric), None if split == TRAIN else split].append(series)
            if keys := [key for key, _ in series.tags if key != "split"]:
                grouped[series.metric, split or "", *keys].append(series)

        def curve(series: Series, *, less_is_better: bool = True) -> LearningCurve:
            return LearningCurve(series, places.of(series), view.curves[series].values, less_is_better)

        def one(
            metric: str, split: str | None = None, *, less_is_better: bool = True
        ) -> LearningCurve | None:
            chosen = _whole(by_role[metric, split], view)
            return curve(chosen, less_is_better=less_is_better) if chosen is not None else None

        norms = [s for s in by_role[Metric.GRADIENT_NORM, None] if _tags_of(s)]
        return cls(
            loss=one(Metric.LOSS),
            validation_loss=one(Metric.LOSS, VALIDATION),
            accuracy=one(Metric.ACCURACY, less_is_better=False),
            validation_accuracy=one(Metric.ACCURACY, VALIDATION, less_is_better=False),
            gradient_norm=one(Metric.GRADIENT_NORM),
            learning_rate=one(Metric.LEARNING_RATE),
            gradient_norms=tuple(curve(s) for s in sorted(norms)[:_MAX_MEMBERS]),
            families={
                key: tuple(curve(s) for s in sorted(members))
                for key, members in grouped.items()
                if 1 < len(members) <= _MAX_MEMBERS
            },
            has_reward=any(is_reward(series.metric) for series in view.curves),
        )


def _known(metric: str) -> str:
    name = known_as(metric)[0]
    return Metric.LEARNING_RATE if name.lower().startswith(_RATES) else name


def _tags_of(series: Series) -> list[str]:
    return [key for key, _ in series.tags if key != "split"]


def _whole(candidates: Iterable[Series], view: RunView) -> Series | None:
    """The series of the whole model: without tags, of several the one with the most values."""
    plain = [series for series in candidates if not _tags_of(series)]
    return max(sorted(plain), key=lambda series: len(view.curves[series].values), default=None)
