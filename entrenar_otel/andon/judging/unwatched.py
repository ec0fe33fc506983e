"""Unwatched: says it once, where no detector watches anything of what is logged."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from entrenar_processors import Processor, Samples, Series
from entrenar_processors.metric_names import name_in

from entrenar_otel.semconv import AB_PREFIX, MACHINE

#: After so many rows it is known what a run logs; a detector judges from 30 on.
ENOUGH = 100
#: Names that are in the line.
_SHOWN = 8
#: What `steps()` measures by itself.
_OURS = frozenset({"step_duration", "data_wait"})


class Unwatched:
    """Looks at what is logged until something is watched, or nothing was for `ENOUGH` rows.

    >>> from entrenar_processors import SpikeDetector
    >>> unwatched = Unwatched([SpikeDetector()], print)
    >>> unwatched.look(Samples.from_columns({"reward": [1.0] * 100}))
    no detector watches any metric of this run (reward): expected a loss, an accuracy or a ...
    """

    def __init__(self, processors: Iterable[Processor], say: Callable[[str], object]) -> None:
        self._watched = frozenset[str]().union(*(processor.metrics for processor in processors))
        self._say = say
        self._names: dict[str, None] = {}
        self._seen: dict[int, tuple[Series, ...]] = {}  # sets of series, by identity
        self._rows = 0
        self._is_done = not self._watched  # all detectors are off: that was asked for

    def look(self, samples: Samples) -> None:
        """The samples of a tick."""
        if self._is_done:
            return
        new = [part.series for part in samples.parts if id(part.series) not in self._seen]
        self._seen |= {id(together): together for together in new}
        for series in sorted({one for together in new for one in together}):
            # outcomes of an A/B test are judged by the test
            if series.metric in _OURS or series.metric in MACHINE or series.metric.startswith(AB_PREFIX):
                continue
            if name_in(self._watched, series):
                self._is_done = True
                return
            self._names[series.metric] = None
        self._rows += len(samples) if self._names else 0
        if self._rows >= ENOUGH:
            self._is_done = True
            names = [*self._names]
            shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if names[_SHOWN:] else "")
            self._say(
                f"no detector watches any metric of this run ({shown}): expected a loss, an accuracy or a "
                "gradient norm by a usual name (loss, train/loss, val_acc, grad_norm). Use such a name, or "
                f'name yours in renacer.toml: [monitor.spike] metrics = ["{names[0]}"]'
            )
