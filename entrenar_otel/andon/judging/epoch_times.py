"""Epoch times: how much of the time of an epoch's steps was spent waiting for data.

`step_duration` includes `data_wait`: it begins where the step before ended. So their quotient is the share of
the training's time in which it had nothing to compute with. It is summed up on the heartbeat's thread, from
what the loop records anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from entrenar_processors import Block, Coordinates, Finding, Samples, Series, Severity
from entrenar_processors.config.build import DATA_WAIT
from entrenar_processors.durations import text_of
from entrenar_processors.metric_names import TRAIN, split_of, watched_in
from entrenar_processors.samples import ABSENT, Singles

from entrenar_otel.semconv import EPOCH_DATA_WAIT, Metric

if TYPE_CHECKING:
    from entrenar_processors.config.models import DataWaitSettings

_TIMES = frozenset({Metric.STEP_DURATION, Metric.DATA_WAIT})
#: A run without epochs, or a long one, is looked at after so many steps, and each time they have doubled.
_FIRST_LOOK = 1000


@dataclass
class _Sums:
    steps: int = 0
    step_seconds: float = 0.0
    wait_seconds: float = 0.0
    next_look: int = _FIRST_LOOK

    @property
    def ratio(self) -> float:
        """Data wait as a share of the time of the steps."""
        return self.wait_seconds / self.step_seconds if self.step_seconds > 0 else 0.0


class EpochTimes:
    """Sums up the steps of each epoch; records an event as each is over, and finds those that waited much.

    Args:
        settings: `[monitor.data_wait]`.
        event: records an event of the run, as `RunSpans.event`.
    """

    def __init__(self, settings: DataWaitSettings, event: Callable[..., None]) -> None:
        self._settings, self._event = settings, event
        self._epochs: dict[int, _Sums] = {}
        self._newest = ABSENT
        self._waits = False  # what was found last

    def update(self, samples: Samples) -> list[Finding]:
        """The samples of a tick; what is found of epochs that are over, and of long ones."""
        newest_seq = -1
        for block in samples.parts:
            if isinstance(block, Singles):  # not what `steps()` measures, which is in one row
                continue
            places = {
                block.series[at].metric: at
                for at in watched_in(block.series, _TIMES)
                if split_of(block.series[at]) in (None, TRAIN)
            }
            if len(places) == 2:
                self._add(block, places)
                if (seq := int(block.seq[-1])) > newest_seq:
                    newest_seq, self._newest = seq, int(block.epoch[-1])
        if newest_seq < 0:
            return []
        return self._look() + self.end(self._newest)

    def _add(self, block: Block, places: dict[str, int]) -> None:
        # By stretches of one epoch: a tick has one or two, or dozens that are short.
        starts = np.flatnonzero(np.diff(block.epoch, prepend=ABSENT - 1))
        steps = np.diff(starts, append=len(block)).tolist()
        step, wait = (
            np.add.reduceat(block.values[:, places[name]], starts).tolist()
            for name in (Metric.STEP_DURATION, Metric.DATA_WAIT)
        )
        for place, epoch in enumerate(block.epoch[starts].tolist()):
            sums = self._epochs.setdefault(epoch, _Sums())
            sums.steps += steps[place]
            sums.step_seconds += step[place]
            sums.wait_seconds += wait[place]

    def _look(self) -> list[Finding]:
        found = []
        for epoch, sums in self._epochs.items():
            if sums.steps >= sums.next_look:
                sums.next_look = 2 * sums.steps
                found += self._judge(epoch, sums)
        return found

    def end(self, epoch: int | None = None) -> list[Finding]:
        """The epochs that are over, those other than `epoch`; without it, all."""
        found = []
        for over in [known for known in self._epochs if known != epoch]:
            sums = self._epochs.pop(over)
            if over != ABSENT:
                self._record(over, sums)
            found += self._judge(over, sums)
        return found

    def _record(self, epoch: int, sums: _Sums) -> None:
        attributes: dict[str, Any] = {
            "training.epoch": epoch,
            "training.epoch.steps": sums.steps,
            "training.epoch.step_seconds": sums.step_seconds,
            "training.epoch.data_wait_seconds": sums.wait_seconds,
            "training.epoch.data_wait_ratio": sums.ratio,
        }
        text = f"data wait {sums.ratio:.0%} of step time in epoch {epoch}"
        self._event(EPOCH_DATA_WAIT, attributes, body=text, at=(epoch, None, None))

    def _judge(self, epoch: int, sums: _Sums) -> list[Finding]:
        """A finding where it waits too much; where somebody is told of it, once, and when that is over."""
        settings = self._settings
        if not settings.enabled or sums.steps < settings.min_steps:
            return []
        waits = sums.ratio >= settings.max_ratio
        before, self._waits = self._waits, waits
        is_told = settings.action != "log"
        if waits is before if is_told else not waits:
            return []
        where = "" if epoch == ABSENT else f" in epoch {epoch}"
        spent = f"{text_of(sums.wait_seconds)} of {text_of(sums.step_seconds)}, {sums.steps:,} steps"
        return [
            Finding(
                DATA_WAIT,
                Series(Metric.DATA_WAIT),
                Severity.MEDIUM,
                Coordinates(epoch=epoch),
                sums.ratio,
                settings.max_ratio,
                sums.ratio / settings.max_ratio,
                resolved=not waits,
                count=int(waits),
                text=f"data wait is {sums.ratio:.0%} of the step time{where} ({spent})",
            )
        ]
