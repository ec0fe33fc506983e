"""Cord: the half of a Monitor that is told when something is abnormal, and that stops the loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from entrenar_otel.clock import Clock
from entrenar_otel.errors import BadInput, guard
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.run.settings import RunSettings

if TYPE_CHECKING:
    from entrenar_processors import DriftDetector, Series
    from entrenar_processors.alert import Alert
    from entrenar_processors.budgets.verdicts import Violation

    from entrenar_otel.andon import AndonConfig
    from entrenar_otel.andon.andon import Andon
    from entrenar_otel.andon.budget_watch import BudgetWatch
    from entrenar_otel.andon.pipeline import AlertPipeline
    from entrenar_otel.lake import Lake
    from entrenar_otel.run.open_run import OpenRun


class Cord:
    """`on`, `raise_if_stopped`, and what the recorder calls when it is held."""

    _alerting: AndonConfig | None
    _budgets: BudgetWatch | None
    _callbacks: list[tuple[str, Callable[..., object], bool]]
    _clock: Clock
    _drift_detector: DriftDetector | None
    _recorder: Recorder
    _run: OpenRun | None
    _settings: RunSettings
    rank: int
    world_size: int

    start: Callable[[], Any]

    if TYPE_CHECKING:

        @property
        def lake(self) -> Lake: ...

    def on(self, occasion: str, call: Callable[..., object], *, local: bool = False) -> None:
        """Call this on the loop's thread, inside its next `log`, when something is abnormal.

        `occasion` is `alert` (any that begins: `call(alert)`), `reduce_lr` (`call(alert, factor)`, see
        `scale_lr`), `pause`, `resume` or `stop` (`call(alert)`, before AndonStop reaches the loop). One
        that raises is logged, and hinders nothing. `local` says that it waits for no other rank: only
        then it is called where several ranks train together and have not agreed (`AndonConfig.agree`).
        Raises ConfigError.
        """
        from entrenar_otel.andon.andon import check_callback

        check_callback(occasion, call)
        self._callbacks.append((occasion, call, local))
        if (line := self._line) is not None:
            line.andon.on(occasion, call, local=local)

    def raise_if_stopped(self) -> None:
        """Raise AndonStop if the line is stopped, as the next `log` would.

        Where several ranks stop together (`AndonConfig.agree`), every rank must call this after every step,
        as often as all others: it waits for them.
        """
        self._recorder.obey()
        if (line := self._line) is not None:
            line.andon.decide_together()
        elif self.world_size > 1 and self._alerting is not None and self._alerting.agree is not None:
            self._stand_by(self._alerting.agree)

    def check_latency(self, name: str, seconds: float) -> Violation | None:
        """Judge how long something took against the `critical_path` budgets of its name.

        Returns the violation, or None. With `fail_on_violation` the line stops at the next `log`. The
        largest of each name (256 names) is recorded, so that `entrenar-otel ci` judges it too, in a run that
        has budgets. What is no number of seconds is counted, warned of once, and not judged.
        """
        return self._check("check_latency", name, seconds)

    def check_memory(self, name: str, bytes_: float) -> Violation | None:
        """Judge the size of something in bytes against the `memory_usage` budgets, as `check_latency`."""
        return self._check("check_memory", name, bytes_)

    def _check(self, method: str, name: str, value: float) -> Violation | None:
        with guard("budgets"):
            self.start()
            value, line = _amount(method, name, value), self._line
            if line is not None and line.budgets is not None:
                violation: Violation | None = getattr(line.budgets, method)(name, value)
                line.judge_budgets()
                return violation
        return None

    @property
    def alerts(self) -> list[Alert]:
        """The alerts that fire now."""
        return self._line.judge.active if self._line is not None else []

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _line(self) -> AlertPipeline | None:
        return self._run.line if self._run is not None else None

    @property
    def _paused_seconds(self) -> float:
        return self._line.andon.paused_seconds if self._line is not None else 0.0

    def _stand_by(self, agree: Callable[[bool], bool]) -> None:
        """Nothing is recorded on this rank (yet), but the others ask it too."""
        from entrenar_otel.andon.andon import Andon
        from entrenar_otel.andon.null_context import NullContext

        andon = Andon(NullContext(self.rank, self.world_size), agree=agree)
        self._connect(andon)
        andon.decide_together()

    def _make_line(self, run: OpenRun) -> AlertPipeline:
        from entrenar_otel.andon.pipeline import AlertPipeline
        from entrenar_otel.andon.settings import AndonConfig

        return AlertPipeline(
            self._recorder,
            self.lake,
            run.record,
            run.tracing,
            run.telemetry.state,
            self._settings.full(),
            self._alerting or AndonConfig(),
            budgets=self._budgets,
            drift_detector=self._drift_detector,
            clock=self._clock,
        )

    def _make_budgets(self) -> BudgetWatch | None:
        assertions = self._settings.assertions
        if not assertions:
            return None
        from entrenar_otel.andon.budget_watch import BudgetWatch

        return BudgetWatch(assertions)

    def _connect(self, andon: Andon) -> None:
        for occasion, call, local in self._callbacks:
            andon.on(occasion, call, local=local)

    def _on_bad_loss(
        self, series: Series, value: float, epoch: int | None, batch: int | None, step: int | None
    ) -> None:
        if (line := self._line) is not None:
            with guard("stop"):
                line.bad_loss(series, value, epoch, batch, step)

    def _act(self) -> None:
        if (line := self._line) is not None:
            line.andon.act()


def _amount(method: str, name: str, value: Any) -> float:
    """What a check was told as a float: also of a tensor with one element. Raises BadInput."""
    if not isinstance(name, str):
        raise BadInput(f"{method}: expected a name, got {name!r}")
    number = math.nan
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        value = value.item() if hasattr(value, "item") else value
        number = math.nan if isinstance(value, str | bytes) else float(value)
    if not (math.isfinite(number) and number >= 0):
        unit = "seconds" if method == "check_latency" else "bytes"
        raise BadInput(f"{method}({name!r}): expected a number of {unit}, 0 or more, got {value!r}")
    return number
