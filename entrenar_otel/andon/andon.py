"""Andon: the cord. Alerts that ask for something of the loop wait here until its next `log`.

Deciding is the policy's, on the heartbeat's thread; acting happens here, on the thread that calls `log`,
inside that call: callbacks, pause, AndonStop. So a callback may touch model and optimizer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from entrenar_processors.alert import Action, Alert, Level

from entrenar_otel.andon.control import Command, Request
from entrenar_otel.errors import AndonStop, ConfigError, guard

logger = logging.getLogger("entrenar_otel")

#: What `monitor.on` takes: the actions, `alert` for every one that begins, and the end of a pause.
OCCASIONS = ("alert", "reduce_lr", "pause", "resume", "stop")
#: How often a paused loop looks for a command.
_LOOK_SECONDS = 0.2
#: Alerts that wait for a loop which does not log.
_MAX_PENDING = 1000

Callback = Callable[..., object]


class Surroundings(Protocol):
    """What the cord needs of its run."""

    world_size: int

    def hold(self) -> None:
        """Let the next `log` call `act`."""

    def event(self, action: str, alert: Alert, **attributes: Any) -> None:
        """Note a `training.action`."""

    def set_state(self, state: str) -> None:
        """`running` or `paused`."""

    def keep_incident(self, alert: Alert) -> str | None:
        """Write the incident of a stop, now and bounded; returns where it is."""

    def stop_message(self, alert: Alert) -> str:
        """What AndonStop says."""

    def resume_command(self) -> str:
        """What to type so that a paused run goes on."""

    def take_command(self) -> Request | None:
        """A command of another process, if one waits."""

    def say(self, line: str) -> None:
        """A line for the person at the terminal."""


@dataclass(frozen=True)
class _Registered:
    call: Callback
    is_local: bool


class Andon:
    """Collects what is to be done, and does it when the loop calls `act`.

    `pull` may be called from any thread, `act` and `decide_together` from a loop's.
    """

    def __init__(
        self,
        around: Surroundings,
        *,
        pause_timeout_seconds: float = 300.0,
        after_pause: str = "stop",
        agree: Callable[[bool], bool] | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._around = around
        self._timeout = pause_timeout_seconds
        self._after_pause = after_pause
        self._agree = agree if around.world_size > 1 else None
        self._seconds = seconds
        self._lock = threading.Lock()
        self._acting = threading.local()
        self._pending: list[Alert] = []
        self._callbacks: dict[str, list[_Registered]] = {name: [] for name in OCCASIONS}
        self._resumed = threading.Event()
        self._reduced: dict[tuple[str, object], float] = {}
        self._incidents: dict[str, str | None] = {}  # of the episodes that stopped the line
        self.is_closed = False
        #: Callbacks that raised, by occasion.
        self.failures: Counter[str] = Counter()
        #: How long the loop was paused in all, by the clock of its samples.
        self.paused_seconds = 0.0
        self.is_paused = False

    # -- callbacks ------------------------------------------------------------------------------

    def on(self, occasion: str, call: Callback, *, local: bool = False) -> None:
        """Register a callback. Raises ConfigError."""
        check_callback(occasion, call)
        self._callbacks[occasion].append(_Registered(call, local))

    def _call(self, occasion: str, *arguments: object, local_only: bool = False) -> bool:
        """Call what is registered; one that raises is logged, counted, and hinders nothing."""
        called = False
        for one in self._callbacks[occasion]:
            if local_only and not one.is_local:
                logger.warning(
                    "a callback on %s is not called: it may wait for other ranks, which have not agreed. "
                    "Register it with local=True if it does not, or give AndonConfig(agree=…)",
                    occasion,
                )
                continue
            called = True
            try:
                one.call(*arguments)
            except AndonStop:
                raise
            except Exception as error:
                self.failures[occasion] += 1
                logger.warning("a callback on %s failed: %s: %s", occasion, type(error).__name__, error)
        return called

    # -- any thread -----------------------------------------------------------------------------

    def pull(self, alert: Alert) -> None:
        """Something is to be done about this alert, at the loop's next `log`."""
        wanted = alert.action.is_for_loop or bool(self._callbacks["alert"])
        if not wanted or alert.is_over or self.is_closed:
            return
        size = self._around.world_size
        if alert.action is Action.PAUSE and size > 1:  # the others would wait for this rank in a collective
            logger.warning("%s: a pause is a stop where there are %d ranks", alert.summary, size)
            alert = replace(alert, action=Action.STOP)
        with self._lock:
            self._pending.append(alert)
            if len(self._pending) > _MAX_PENDING:  # the mildest go
                self._pending = sorted(self._pending, key=_rank)[-_MAX_PENDING:]
        if not self._is_deferred(alert):
            self._around.hold()

    def close(self) -> None:
        """The run is over: nobody is kept waiting any more."""
        self.is_closed = True
        self._resumed.set()

    def _is_deferred(self, alert: Alert) -> bool:
        """Whether it waits for `decide_together`."""
        return self._agree is not None and alert.action is Action.STOP

    def command(self, request: Request) -> Alert | None:
        """Another process asks for something; returns what is to be pulled for it."""
        if request.command is Command.RESUME:
            self._resumed.set()
            return None
        action = Action.STOP if request.command is Command.STOP else Action.PAUSE
        now = time.time_ns()
        return Alert(
            name=str(request.command),
            source="control",
            level=Level.ERROR,
            action=action,
            summary=str(request),
            episode=f"control-{now}",
            started_ns=now,
        )

    # -- the loop's thread ----------------------------------------------------------------------

    def act(self) -> None:
        """Do what waits, the mildest first; no pause where a stop follows. Raises AndonStop."""
        if getattr(self._acting, "now", False):  # a callback logs something
            return
        with self._lock:
            due = sorted((one for one in self._pending if not self._is_deferred(one)), key=_rank)
            self._pending = [one for one in self._pending if self._is_deferred(one)]
        stops = bool(due) and due[-1].action is Action.STOP
        self._acting.now = True
        try:
            for alert in due:
                with guard("andon"):
                    self._do(alert, pauses=not stops)
        finally:
            self._acting.now = False
            with self._lock:  # pulled meanwhile, perhaps by what a callback logged
                more = any(not self._is_deferred(one) for one in self._pending)
            if more:
                self._around.hold()

    def decide_together(self) -> None:
        """Ask all ranks; if any wants to stop, all do, at this point. Raises AndonStop."""
        self.act()
        if self._agree is None:
            return
        with self._lock:
            mine = next((one for one in self._pending if one.action is Action.STOP), None)
        if self._agree(mine is not None):
            with self._lock:
                self._pending = [one for one in self._pending if one.action is not Action.STOP]
            now = time.time_ns()
            other = Alert(
                name="stop",
                source="control",
                level=Level.ERROR,
                action=Action.STOP,
                summary="Another rank stopped the line",
                episode=f"agreed-{now}",
                started_ns=now,
            )
            self._stop(mine or other, agreed=True)

    def _do(self, alert: Alert, *, pauses: bool) -> None:
        if alert.episode not in self._incidents:
            self._call("alert", alert, local_only=self._around.world_size > 1)
        if alert.action is Action.REDUCE_LR:
            self._reduce(alert)
        elif alert.action is Action.PAUSE and pauses:
            self._pause(alert)
        elif alert.action is Action.STOP:
            self._stop(alert)

    def _reduce(self, alert: Alert) -> None:
        factor = alert.factor or 0.5
        key = (alert.name, alert.series)
        so_far = self._reduced.get(key, 1.0)
        least = alert.min_factor or 0.0
        factor = max(factor, least / so_far) if so_far > 0 else 1.0
        if factor >= 1.0:
            logger.warning("%s: the learning rate is at its floor (%g of its start)", alert.summary, so_far)
            self._around.event("reduce_lr", alert, outcome="at the floor", factor=1.0, total_factor=so_far)
            return
        if not self._callbacks["reduce_lr"]:
            logger.warning(
                "%s: the learning rate should be multiplied by %g, but nothing is registered with "
                "monitor.on('reduce_lr', …); notified only",
                alert.summary,
                factor,
            )
            self._around.event("reduce_lr", alert, outcome="no callback", factor=factor)
            return
        failed = self.failures["reduce_lr"]
        called = self._call("reduce_lr", alert, factor, local_only=self._around.world_size > 1)
        done = called and self.failures["reduce_lr"] == failed
        if done:
            self._reduced[key] = so_far * factor
        self._around.event(
            "reduce_lr",
            alert,
            outcome="done" if done else "failed" if called else "not called",
            factor=factor,
            total_factor=self._reduced.get(key, 1.0),
        )

    def _pause(self, alert: Alert) -> None:
        around = self._around
        begun, lost = time.monotonic(), self._seconds()
        self._resumed.clear()
        if self.is_closed:
            return
        self.is_paused = True
        around.set_state("paused")
        around.event("pause", alert)
        at = f" at {alert.where}" if alert.where else ""
        around.say(f"paused: {alert.summary}{at}")
        around.say(f"go on with `{around.resume_command()}`")
        around.say(f"in {self._timeout:g} s the run will {self._after_pause} by itself")
        outcome = self._after_pause
        try:
            self._call("pause", alert)
            while time.monotonic() - begun < self._timeout:
                request = None
                with guard("control"):
                    request = around.take_command()
                if request is not None:
                    if request.command is Command.STOP:
                        alert = replace(alert, summary=f"{request} (paused: {alert.summary})")
                        outcome = "stop"
                        break
                    if request.command is Command.RESUME:
                        self._resumed.set()
                if self._resumed.wait(min(_LOOK_SECONDS, self._timeout)):
                    outcome = "resume"
                    break
            else:
                around.say(f"nobody answered for {self._timeout:g} s: {self._after_pause}")
        finally:
            self.paused_seconds += self._seconds() - lost
            self.is_paused = False
            if not self.is_closed:
                around.set_state("running")
        if self.is_closed:
            return
        if outcome == "stop":
            self._stop(replace(alert, action=Action.STOP))
        around.event("resume", alert)
        around.say("resumed")
        self._call("resume", alert)

    def _stop(self, alert: Alert, *, agreed: bool = False) -> NoReturn:
        incident, message = self._incidents.get(alert.episode), alert.summary
        if alert.episode not in self._incidents:
            self._incidents[alert.episode] = None
            with guard("incident"):
                incident = self._incidents[alert.episode] = self._around.keep_incident(alert)
            with guard("stop"):
                self._around.event("stop", alert, incident=incident)
            self._call("stop", alert, local_only=self._around.world_size > 1 and not agreed)
        with guard("stop"):
            message = self._around.stop_message(alert)
        stop = AndonStop(
            message,
            alert=alert,
            incident=incident,
            metric=alert.series.metric if alert.series is not None else None,
            value=alert.value,
            epoch=_known(alert.at.epoch),
            batch=_known(alert.at.batch),
            step=_known(alert.at.step),
        )
        if incident is not None:
            stop.add_note(f"Everything that was known then is in {incident}")
        raise stop


def check_callback(occasion: str, call: Callback) -> None:
    """Raise ConfigError where this cannot be a callback."""
    if occasion not in OCCASIONS:
        raise ConfigError(f"expected one of {', '.join(OCCASIONS)}, got {occasion!r}")
    if not callable(call):
        raise ConfigError(f"expected a function to call on {occasion}, got {call!r}")


def _rank(alert: Alert) -> int:
    return alert.action.rank


def _known(coordinate: int) -> int | None:
    return None if coordinate < 0 else coordinate
