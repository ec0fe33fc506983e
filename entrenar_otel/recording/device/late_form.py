"""Late form: what is known of the calls with the same series, so that none of them asks for it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from entrenar_processors import Series
from entrenar_processors.detectors.nonfinite import is_training_loss

from entrenar_otel.recording.layout import packers

#: So many are known; then it begins anew.
MAX_FORMS = 1024
_TEXT = frozenset([str])


class LateForm:
    """Series in the order of a call's values.

    >>> LateForm([Series("accuracy"), Series("loss")]).training_losses
    (1,)
    """

    __slots__ = ("head", "is_late", "pack", "seal", "series", "training_losses")

    def __init__(self, series: Sequence[Series]) -> None:
        self.series = tuple(series)
        self.pack, self.seal = packers(len(self.series))
        #: Its layout's head; None until that is in the segment.
        self.head: int | None = None
        #: Whether all of its series are known to be late at times.
        self.is_late = False
        #: Positions of the values that stop the line where they are not finite.
        self.training_losses = tuple(i for i, one in enumerate(self.series) if is_training_loss(one))


class LateForms:
    """The forms of one recorder, by their series, and by what a call gives."""

    def __init__(self) -> None:
        self._by_series: dict[tuple[Series, ...], LateForm] = {}
        self._by_key: dict[Any, LateForm] = {}

    def of(self, series: tuple[Series, ...]) -> LateForm:
        """The form of these series."""
        if (known := self._by_series.get(series)) is not None:
            return known
        if len(self._by_series) >= MAX_FORMS:
            self._by_series.clear()
            self._by_key.clear()
        return self._by_series.setdefault(series, LateForm(series))

    def find(self, metrics: Mapping[Any, Any], tags: Any) -> LateForm | None:
        """The form of a call that was learnt."""
        if tags is None:
            return self._by_key.get((*metrics,))
        return self._by_key.get(((*metrics,), (*tags.items(),))) if _are_texts(tags) else None

    def learn(self, metrics: Mapping[Any, Any], tags: Any, series: tuple[Series, ...]) -> None:
        """The next call that gives these names and tags is of these series, if they are all of them."""
        if (*metrics,) != tuple([one.metric for one in series]) or len(self._by_key) >= MAX_FORMS:
            return
        if tags is None:
            self._by_key[(*metrics,)] = self.of(series)
        elif _are_texts(tags):
            form = self.of(series)
            self._by_key[(*metrics,), (*tags.items(),)] = form


def _are_texts(tags: Any) -> bool:
    """Whether tags that are equal are the same text: not so for 1 and True, or for members of an Enum."""
    return (
        type(tags) is dict
        and _TEXT.issuperset(map(type, tags))
        and _TEXT.issuperset(map(type, tags.values()))
    )
