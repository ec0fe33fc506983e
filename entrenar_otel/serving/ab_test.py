"""ABTest: two models side by side in production, which users meet which, and which of them is better."""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, get_args

from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors.alert import Action, Level, Rule

from entrenar_otel.clock import SYSTEM_CLOCK
from entrenar_otel.compare.sequential import PLANNED
from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.errors import BadInput, ConfigError, describe, guard
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.monitor.request import make_lake
from entrenar_otel.recording.inputs import number_of
from entrenar_otel.run import lifetime
from entrenar_otel.run.settings import RunSettings
from entrenar_otel.semconv import AB_PREFIX
from entrenar_otel.serving.ab.design import (
    HARMED,
    STOPPED,
    Average,
    Better,
    Design,
    Kind,
    OnHarm,
    guardrails_of,
)
from entrenar_otel.serving.ab.outcomes import Known, Outcomes
from entrenar_otel.serving.ab.recording import AFTER_STOP, OutcomeRecorder
from entrenar_otel.serving.ab.result import ABResult, GuardrailResult
from entrenar_otel.serving.ab.verdict import judge
from entrenar_otel.serving.assignment import ARMS, Arm, SaltedSplit

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: The detector of a guardrail's findings, and the rule that makes alerts of them.
_DETECTOR = "ab.guardrail"
_RULE = Rule(
    _DETECTOR,
    _DETECTOR,
    "ab",
    "A/B test",
    dict.fromkeys(Severity, Action.NOTIFY),
    level=Level.ERROR,
    lasting=True,
)
#: Between two checks there is this many times the time that one takes.
_REST = 20
#: How long the end of a test waits for a check that is under way.
_END_SECONDS = 5.0

#: The tests of this process by name.
_designs: dict[str, Design] = {}
_watched: weakref.WeakSet[ABTest] = weakref.WeakSet()


class ABTest:
    """Compares two models on live users: who meets which, what came of it, and which is better.

        ab = ABTest(model_a="digits@1.1.0", model_b="digits@1.2.0", traffic_split=0.1, metric="accuracy")
        answer = models[ab.model(user_id)].predict(x)
        ab.record(user_id, 1.0 if answer == truth else 0.0)
        print(ab.result())

    Args:
        model_a: what is served today.
        model_b: what may replace it.
        traffic_split: the share of users in arm B, from 0 to 1. Raised later, it moves users from A only.
        metric: what decides, one number per call of `record`: 0 and 1 of a proportion, or anything else.
        name: of the test, by default `MODEL_A vs MODEL_B`; a test that is run again needs another.
        better: whether `"higher"` or `"lower"` is better, where the metric's name does not tell.
        kind: `"binary"` or `"continuous"`, by default as the outcomes are.
        average: of a user with several outcomes, the mean counts (`"user"`); with `"observation"` the mean is
            that over all outcomes, with the variance of the delta method.
        guardrails: metrics that B must not make worse by more than a share of A's mean: `{"latency": 0.05}`.
        on_harm: what follows where it does: `"stop"` puts everybody into A, `"notify"` only alerts.
        confidence: of intervals and decisions.
        planned_users: of both arms together; the interval is tightest at about that many.
        salt: what the assignment depends on beside the user, by default the name.
        check_seconds: how often `check` is called while outcomes come in; None: never.
        monitor: the run that records the outcomes; by default this process's current one, else its own.
        lake: of that own run, and to read where nothing is recorded.

    Raises ConfigError: at construction only. `assign` and `record` may be called on any thread.
    """

    def __init__(
        self,
        model_a: str,
        model_b: str,
        traffic_split: float = 0.5,
        metric: str = "accuracy",
        *,
        name: str | None = None,
        better: Better | None = None,
        kind: Kind | None = None,
        average: Average = "user",
        guardrails: Mapping[str, Any] | None = None,
        on_harm: OnHarm = "stop",
        confidence: float = 0.95,
        planned_users: int = PLANNED,
        salt: str | None = None,
        check_seconds: float | None = 60.0,
        monitor: Monitor | None = None,
        lake: str | os.PathLike[str] | None = None,
    ) -> None:
        design = Design(
            model_a=model_a,
            model_b=model_b,
            metric=metric,
            traffic_split=traffic_split,
            name=_given_text("name", name),
            salt=_given_text("salt", salt),
            better=better,
            kind=kind,
            average=average,
            guardrails=guardrails_of(guardrails),
            confidence=confidence,
            planned_users=planned_users,
        )
        self._begin(design, on_harm, check_seconds, monitor, lake)

    def _begin(
        self,
        design: Design,
        on_harm: OnHarm,
        check_seconds: float | None,
        monitor: Monitor | None,
        lake: str | os.PathLike[str] | None,
    ) -> None:
        if on_harm not in get_args(OnHarm):
            raise ConfigError(f"expected on_harm 'stop' or 'notify', got {describe(on_harm)}")
        is_number = isinstance(check_seconds, int | float) and not isinstance(check_seconds, bool)
        if check_seconds is not None and not (is_number and 0 < check_seconds < 1e6):
            raise ConfigError(f"expected check_seconds above 0, or None, got {describe(check_seconds)}")
        if monitor is not None and not isinstance(monitor, Monitor):
            raise ConfigError(f"expected monitor to be a Monitor, got {describe(monitor)}")
        known = _designs.setdefault(design.name, design)
        if difference := design.difference(known):
            raise ConfigError(
                f"an A/B test {design.name!r} is there already, with {difference}: give this one "
                "another name="
            )
        self.design = design
        self._on_harm, self._check_seconds, self._given_lake = on_harm, check_seconds, lake
        self._split = SaltedSplit(design.salt, design.traffic_split)
        self._recorder = OutcomeRecorder(design, monitor, lake, self._watch)
        self._watcher: Worker | None = None
        self._told: set[str] = set()  # the guardrails that somebody was told of, here or elsewhere
        #: Why the test was stopped, as far as this process knows.
        self.stopped: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process it records into that one's run.
        return _restored, (self.design, self._on_harm, self._check_seconds, self._given_lake)

    # -- serving ----------------------------------------------------------------------------------

    def assign(self, user_id: Any) -> Arm:
        """The arm of a user, `"A"` or `"B"`: always the same, in every process. It takes under 1 µs.

        An id is text, bytes, a whole number or a UUID; `42` and `"42"` are one user. Raises BadInput.
        """
        return self._split.arm(user_id)

    def model(self, user_id: Any) -> str:
        """The model that a user meets, `model_a` or `model_b`. Raises BadInput."""
        return self.design.model_b if self._split.arm(user_id) == "B" else self.design.model_a

    def record(self, user_id: Any, value: Any, *, metric: str | None = None, arm: Arm | None = None) -> None:
        """Record what came of it for a user: of the test's metric, or of a guardrail.

        `arm` is who really answered, where that is not the user's own (a fallback): the user counts there,
        and nowhere with outcomes in both arms. A value that is not finite is counted and left out. Raises
        BadInput on an unknown metric or arm, an invalid id, and a value other than 0 and 1 where
        `kind="binary"` was given.
        """
        design = self.design
        if metric is None:
            metric = design.metric
        elif metric not in design.metrics:
            raise BadInput(
                f"expected a metric of this test ({', '.join(design.metrics)}), got {describe(metric)}"
            )
        if arm is None:
            arm = self._split.arm(user_id)
        elif arm not in ARMS:
            raise BadInput(
                f"expected arm 'A' ({design.model_a}) or 'B' ({design.model_b}), got {describe(arm)}"
            )
        if design.kind == "binary" and metric == design.metric:
            _check_binary(value)
        unit = self._split.pseudonym(user_id)
        self._recorder.write(metric, arm if self.stopped is None else AFTER_STOP, value, unit)

    def stop(self, reason: str = "by hand") -> None:
        """End the test: everybody is in arm A from now on, here at once, elsewhere at the next check.

        Outcomes recorded afterwards are kept and count for neither arm.
        """
        if self.stopped is None:
            self._end(reason)
            self._recorder.event(STOPPED, reason=reason)

    def close(self) -> None:
        """Stop watching, and end the run if it is the test's own; the end of the process does it too."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.stop(_END_SECONDS)
        self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -- what it says -----------------------------------------------------------------------------

    def result(self) -> ABResult:
        """What the test says up to now, of all processes whose records the lake has; look whenever you like.

        Raises ConfigError where another test was recorded under this name.
        """
        return self._judge()

    def check(self) -> ABResult:
        """Judge the guardrails now: alert where one is harmed, and end the test (`on_harm="stop"`).

        It also hears of a stop by another process, and records effect, interval and p-value as samples
        `ab.<metric>.effect` and so on, which are exported as every metric is. From the first outcome on it is
        done every `check_seconds`, on a thread, and more rarely where it would take a twentieth of the time.
        """
        result = self._judge(quick=True)
        if result.stopped is not None and self.stopped is None:
            self._end(result.stopped)
        self._publish(result)
        harmed = [one for one in result.guardrails if one.is_harmed and one.metric not in self._told]
        for guardrail in harmed:
            self._told.add(guardrail.metric)
            self._tell(guardrail)
        if harmed and self._on_harm == "stop":
            self.stop("; ".join(one.text for one in harmed))
        return result

    def _judge(self, *, quick: bool = False) -> ABResult:
        design, lake = self.design, self._lake()
        known = Known.read(lake).get(design.name)
        stopped = None
        if known is not None:
            known.check(design)
            stopped = known.stopped
            self._told |= known.told
        outcomes = {metric: Outcomes.read(lake, design.name, metric) for metric in design.metrics}
        return judge(design, outcomes, stopped or self.stopped, quick=quick)

    def _lake(self) -> Lake:
        monitor = self._recorder.monitor
        if monitor is None and self._given_lake is None:
            latest = lifetime.latest()
            monitor = latest if isinstance(latest, Monitor) else None
        if monitor is not None:
            return monitor.lake
        settings = RunSettings.find()
        return make_lake(replace(settings, lake=settings.choose_lake(self._given_lake)), None)

    # -- watching ---------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Outcomes go into another run from now on."""
        if self._check_seconds is None:
            return
        watcher = self._watcher
        if watcher is None or watcher.is_forked:
            self._watcher = watcher = Worker("entrenar-ab", _looking(self), self._check_seconds)
            _watched.add(self)
            lifetime.at_last(_close_watched)
        with suppress(RuntimeError):  # the interpreter is going down
            watcher.wake()

    @property
    def is_watched(self) -> bool:
        """Whether a thread of this process calls `check`."""
        return self._watcher is not None and not self._watcher.is_forked

    def _end(self, reason: str) -> None:
        self.stopped = reason
        self._split.close()
        logger.warning("A/B test %s is stopped, everybody is in arm A: %s", self.design.name, reason)

    def _tell(self, guardrail: GuardrailResult) -> None:
        monitor = self._recorder.monitor
        if monitor is None or monitor.is_closed:
            return
        action = "the test is stopped" if self._on_harm == "stop" else "the test goes on (on_harm='notify')"
        monitor.report_finding(
            Finding(
                _DETECTOR,
                Series.of(AB_PREFIX + guardrail.metric, {"test": self.design.name}),
                Severity.HIGH,
                Coordinates(time_ns=SYSTEM_CLOCK.time_ns()),
                guardrail.b.mean,
                guardrail.a.mean,
                guardrail.worse,
                text=f"{self.design.name}: {guardrail.text}; {action}",
            ),
            _RULE,
        )
        self._recorder.event(HARMED, metric=guardrail.metric)

    def _publish(self, result: ABResult) -> None:
        monitor = self._recorder.monitor
        if monitor is None or monitor.is_closed:
            return
        name = AB_PREFIX + result.metric
        values = {"effect": result.effect, "low": result.low, "high": result.high, "p_value": result.p_value}
        values["users"] = float(result.a.users + result.b.users)
        finite = {f"{name}.{key}": value for key, value in values.items() if math.isfinite(value)}
        monitor.record_aside(finite, tags={"test": self.design.name})

    def __repr__(self) -> str:
        state = "" if self.stopped is None else ", stopped"
        return f"<ABTest {self.design.name}, {self.design.metric}, {self.design.traffic_split:g} in B{state}>"


def _restored(design: Design, on_harm: OnHarm, check_seconds: float | None, lake: Any) -> ABTest:
    test = ABTest.__new__(ABTest)
    test._begin(design, on_harm, check_seconds, None, lake)
    return test


def _given_text(key: str, value: str | None) -> str:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ConfigError(f"expected {key} to be text, got {describe(value)}")
    return value or ""


def _check_binary(value: Any) -> None:
    number = math.inf
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        number = number_of(value)
    if number not in (0.0, 1.0) and not math.isnan(number):
        raise BadInput(f"expected 0 or 1 (kind='binary'), got {describe(value)}")


def _looking(test: ABTest) -> Callable[[], None]:
    """What the watching thread does: it holds no test that nobody else does, and has other things to do."""
    test_of = weakref.ref(test)
    due = 0.0

    def look() -> None:
        nonlocal due
        began = time.monotonic()
        if (test := test_of()) is not None and test.is_watched and began >= due:
            test.check()
            ended = time.monotonic()
            due = ended + _REST * (ended - began)

    return look


def _close_watched() -> None:
    for test in tuple(_watched):
        with guard("A/B test"):
            test.close()
