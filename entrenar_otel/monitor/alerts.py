"""Alerts: the part of a Monitor that is told when something is abnormal, and that stops the loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from entrenar_otel.errors import BadInput, guard
from entrenar_otel.recording.inputs import number_of

if TYPE_CHECKING:
    from entrenar_processors import Finding, Series
    from entrenar_processors.alert import Alert, Rule
    from entrenar_processors.budgets.verdicts import Violation

    from entrenar_otel.andon.andon import Andon
    from entrenar_otel.andon.pause import Pause
    from entrenar_otel.andon.pipeline import AlertPipeline

Agree = Callable[[bool], bool]


class NeverPaused:
    """Before a run begins."""

    total_seconds = 0.0


_NEVER_PAUSED = NeverPaused()


class Alerts:
    """What fires in one run, and what it calls; before the run starts nothing fires.

    Args:
        rank, world_size, agree: how this rank stops with the others (`AndonConfig.agree`).
        obey: does what the recorder is held for.
        start: starts a run that has not begun.
    """

    def __init__(
        self,
        *,
        rank: int,
        world_size: int,
        agree: Agree | None,
        obey: Callable[[], None],
        start: Callable[[], object],
    ) -> None:
        self._obey = obey
        self._stand_in = StandIn(rank, world_size, agree)
        self._start = start
        self._pipeline: AlertPipeline | None = None

    def connect(self, pipeline: AlertPipeline) -> None:
        """The run has started: this judges it."""
        self._pipeline = pipeline
        self._stand_in.connect(pipeline.andon)

    def on(self, occasion: str, call: Callable[..., object], *, local: bool = False) -> None:
        """See `Monitor.on`."""
        self._stand_in.on(occasion, call, local=local)
        if self._pipeline is not None:
            self._pipeline.andon.on(occasion, call, local=local)

    def raise_if_stopped(self) -> None:
        """See `Monitor.raise_if_stopped`."""
        self._obey()
        if self._pipeline is not None:
            self._pipeline.andon.decide_together()
        else:
            self._stand_in.raise_if_stopped()

    def check(self, method: str, name: str, value: float) -> Violation | None:
        """`check_latency` or `check_memory` of the budgets, see `Monitor`."""
        with guard("budgets"):
            self._start()
            value, pipeline = _amount(method, name, value), self._pipeline
            if pipeline is not None and pipeline.budgets is not None:
                violation: Violation | None = getattr(pipeline.budgets, method)(name, value)
                pipeline.judge_budgets()
                return violation
        return None

    def report_finding(self, finding: Finding, rule: Rule) -> None:
        """See `Monitor.report_finding`."""
        with guard("alert"):
            self._start()
            if self._pipeline is not None:
                self._pipeline.report_finding(finding, rule)

    @property
    def active(self) -> list[Alert]:
        """The alerts that fire now."""
        return self._pipeline.judge.active if self._pipeline is not None else []

    def pause(self) -> Pause | NeverPaused:
        """Knows how long the loop was paused in all."""
        return self._pipeline.andon.pause if self._pipeline is not None else _NEVER_PAUSED

    # -- what the recorder calls ------------------------------------------------------------------

    def on_bad_loss(
        self, series: Series, value: float, epoch: int | None, batch: int | None, step: int | None
    ) -> None:
        """A training loss that is not finite was just recorded."""
        if self._pipeline is not None:
            with guard("stop"):
                self._pipeline.bad_loss(series, value, epoch, batch, step)

    def act(self) -> None:
        """Do what the line is held for, on the loop's thread."""
        if self._pipeline is not None:
            self._pipeline.andon.act()


class StandIn:
    """Where nothing is recorded (yet): keeps the callbacks, and answers the ranks that ask this one too."""

    def __init__(self, rank: int, world_size: int, agree: Agree | None) -> None:
        self.callbacks: list[tuple[str, Callable[..., object], bool]] = []
        self._rank = rank
        self._world_size = world_size
        self._agree = agree if world_size > 1 else None

    def on(self, occasion: str, call: Callable[..., object], *, local: bool) -> None:
        """Keep a callback. Raises ConfigError."""
        from entrenar_otel.andon.callbacks import check_callback

        check_callback(occasion, call)
        self.callbacks.append((occasion, call, local))

    def connect(self, andon: Andon) -> None:
        """Register what was kept."""
        for occasion, call, local in self.callbacks:
            andon.on(occasion, call, local=local)

    def raise_if_stopped(self) -> None:
        """Take part in the ranks' decision, where they stop together."""
        if self._agree is None:
            return
        from entrenar_otel.andon.andon import Andon
        from entrenar_otel.andon.null_context import NullContext

        andon = Andon(NullContext(self._rank, self._world_size), agree=self._agree)
        self.connect(andon)
        andon.decide_together()


def _amount(method: str, name: str, value: Any) -> float:
    """What a check was told as a float: also of a tensor with one element. Raises BadInput."""
    if not isinstance(name, str):
        raise BadInput(f"{method}: expected a name, got {name!r}")
    number = math.nan
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        number = number_of(value)
    if not (math.isfinite(number) and number >= 0):
        unit = "seconds" if method == "check_latency" else "bytes"
        raise BadInput(f"{method}({name!r}): expected a number of {unit}, 0 or more, got {value!r}")
    return number
