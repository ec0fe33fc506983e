"""Andon: the cord. Alerts that ask for something of the loop wait here until its next `log`.

Deciding is the policy's, on the heartbeat's thread; acting happens here, on the thread that calls `log`,
inside that call: callbacks, pause, AndonStop. So a callback may touch model and optimizer.

Where several ranks train together, each of them waits for the others in every collective. So no rank
pauses (a pause is a stop), and a rank that acts alone calls only what waits for nobody. With `agree` no
rank stops alone: a stop waits until all ranks are asked, which only `raise_if_stopped` does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from entrenar_processors import Coordinates
from entrenar_processors.alert import Action, Alert, Level
from entrenar_processors.durations import text_of

from entrenar_otel.errors import AndonStop, ConfigError, guard
from entrenar_otel.recording.control import CONTROL, Command, Request

logger = logging.getLogger("entrenar_otel")

#: What `monitor.on` takes: the actions, `alert` for every one that begins, and the end of a pause.
OCCASIONS = ("alert", "reduce_lr", "pause", "resume", "stop")
#: How often a paused loop looks for a command.
_LOOK_SECONDS = 0.2
#: Alerts that wait for a loop which does not log.
_MAX_PENDING = 1000

Callback = Callable[..., object]


class LoopContext(Protocol):
    """What the cord needs of its run."""

    world_size: int

    def hold(self) -> None:
        """Let the next `log` call `act`."""

    def here(self) -> Coordinates:
        """Where the loop is."""

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
        around: LoopContext,
        *,
        pause_timeout_seconds: float = 300.0,
        after_pause: str = "stop",
        agree: Callable[[bool], bool] | None = None,
        seconds: Callable[[], float] = time.monotonic,
        lost: Callable[[int], None] = lambda _n: None,
    ) -> None:
        self._around = around
        self._timeout = pause_timeout_seconds
        self._after_pause = after_pause
        self._agree = agree if around.world_size > 1 else None
        self._seconds = seconds
        self._lost = lost
        self._lock = threading.Lock()
        self._acting = threading.local()
        self._pending: list[Alert] = []
        self._stops: list[Alert] = []  # those that wait until all ranks are asked
        self._callbacks: dict[str, list[_Registered]] = {name: [] for name in OCCASIONS}
        self._resumed = threading.Event()
        self._reduced: dict[tuple[str, object], float] = {}
        self._incidents: dict[str, str | None] = {}  # of the episodes that stopped the line
        self._not_called: set[str] = set()
        self._in_step = True  # with the other ranks, in an agreed stop
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

    def _call(self, occasion: str, *arguments: object, agreed: bool = False) -> bool:
        """Call what is registered; one that raises is logged, counted, and hinders nothing.

        Where several ranks train together, one that is not `local` is called only if all of them call it.
        """
        called = False
        for one in self._callbacks[occasion]:
            everywhere = self._around.world_size > 1 and not one.is_local
            if everywhere and not (agreed and self._in_step):
                self._say_not_called(occasion, agreed=agreed)
                continue
            called = True
            try:
                one.call(*arguments)
            except AndonStop:
                raise
            except Exception as error:
                self.failures[occasion] += 1
                # The others may wait for this rank within that call: one more would meet them there.
                self._in_step = self._in_step and not everywhere
                name = getattr(one.call, "__qualname__", repr(one.call))
                kind = type(error).__name__
                logger.warning("the callback %s on %s failed: %s: %s", name, occasion, kind, error)
        return called

    def _say_not_called(self, occasion: str, *, agreed: bool) -> None:
        if agreed:
            logger.warning("a callback on %s is not called: one before it failed on this rank", occasion)
        elif occasion not in self._not_called:
            self._not_called.add(occasion)
            logger.warning(
                "a callback on %s is not called: it may wait for other ranks, which have not agreed. "
                "Register it with local=True if it does not%s",
                occasion,
                ", or give AndonConfig(agree=…)" if occasion == "stop" and self._agree is None else "",
            )

    # -- any thread -----------------------------------------------------------------------------

    def pull(self, alert: Alert) -> None:
        """Something is to be done about this alert, at the loop's next `log`."""
        wanted = alert.action.is_for_loop or bool(self._callbacks["alert"])
        if not wanted or alert.is_resolved or self.is_closed:
            return
        size = self._around.world_size
        if alert.action is Action.PAUSE and size > 1:  # the others would wait for this rank in a collective
            summary = f"{alert.summary} (a pause is a stop where there are {size} ranks)"
            alert = replace(alert, action=Action.STOP, summary=summary)
        waits = self._agree is not None and alert.action is Action.STOP
        with self._lock:
            queue = self._stops if waits else self._pending
            if any(one.episode == alert.episode and one.action is alert.action for one in queue):
                return
            queue.append(alert)
            if alert.action is Action.PAUSE:
                self._resumed.clear()  # from here on a `resume` is one of this pause
            if len(queue) > _MAX_PENDING:  # the mildest goes
                self._lost(1)
                queue[:] = sorted(queue, key=_rank)[-_MAX_PENDING:]
        if waits:
            logger.warning("%s: all ranks stop in their next monitor.raise_if_stopped()", alert.summary)
        else:
            self._around.hold()

    def close(self) -> None:
        """The run is over: nobody waits any more, and a stop that no loop came to carry out is told."""
        self.is_closed = True
        self._resumed.set()
        with self._lock:
            left = [one for one in (*self._stops, *self._pending) if one.action is Action.STOP]
        if left and not self._incidents:
            how = "its next log" if self._agree is None else "a monitor.raise_if_stopped() of all ranks"
            logger.warning("%s: the run ended before %s", left[0].summary, how)
            incident = self._around.keep_incident(left[0])
            self._around.event("stop", left[0], outcome="the run ended first", incident=incident)

    def command(self, request: Request) -> Alert | None:
        """Another process asks for something; returns what is to be pulled for it."""
        if request.command is Command.RESUME:
            self._resumed.set()
            with self._lock:  # pauses that were asked for, and that no log has come to yet
                back = [one for one in self._pending if (one.source, one.action) == (CONTROL, Action.PAUSE)]
                self._pending = [one for one in self._pending if one not in back]
            for one in back:
                self._around.event("resume", one, outcome="before it paused")
            return None
        action = Action.STOP if request.command is Command.STOP else Action.PAUSE
        return self._asked(action, str(request), "control")

    def _asked(self, action: Action, summary: str, kind: str) -> Alert:
        """The alert of what no rule found: a person, or another rank, asks for it."""
        now = time.time_ns()
        return Alert(
            name=str(action),
            source=CONTROL,
            level=Level.ERROR,
            action=action,
            summary=summary,
            episode=f"{kind}-{now}",
            started_ns=now,
            at=self._around.here(),
        )

    # -- the loop's thread ----------------------------------------------------------------------

    def act(self) -> None:
        """Do what waits, the mildest first; no pause where a stop follows. Raises AndonStop."""
        if self._is_acting:  # a callback logs something
            return
        with self._lock:
            due, self._pending = sorted(self._pending, key=_rank), []
        stops = bool(due) and due[-1].action is Action.STOP
        with self._acts():
            for alert in due:
                try:
                    with guard("andon"):
                        self._do(alert, pauses=not stops)
                except AndonStop as stop:
                    if self._agree is None:
                        raise
                    # a callback of the user's raised it: here too all ranks are asked
                    self.pull(replace(alert, action=Action.STOP, summary=str(stop)))

    def decide_together(self) -> None:
        """Ask all ranks; if any wants to stop, all do, here. Raises AndonStop, or what `agree` raises."""
        self.act()
        if self._agree is None or self._is_acting:
            return
        with self._lock:
            wanted = bool(self._stops)
        try:
            agreed = self._agree(wanted)
        except Exception as error:
            if not wanted:
                raise
            logger.warning("the ranks could not agree (%s: %s): this one stops", type(error).__name__, error)
            with self._acts():
                self._do(self._take_stop())
        if agreed:
            self._in_step = True
            with self._acts():
                self._do(self._take_stop(), agreed=True)

    @property
    def _is_acting(self) -> bool:
        return getattr(self._acting, "now", False)

    @contextmanager
    def _acts(self) -> Iterator[None]:
        self._acting.now = True
        try:
            yield
        finally:
            self._acting.now = False
            if self._pending:  # pulled meanwhile, perhaps by what a callback logged
                self._around.hold()

    def _take_stop(self) -> Alert:
        """Why this rank stops: the first reason of its own, or that another has one."""
        with self._lock:
            own, self._stops = self._stops, []
        return own[0] if own else self._asked(Action.STOP, "Another rank stopped the line", "agreed")

    def _do(self, alert: Alert, *, pauses: bool = True, agreed: bool = False) -> None:
        # What all ranks agreed on is called on all: also where this one was stopped for it before.
        if agreed or alert.episode not in self._incidents:
            self._call("alert", alert, agreed=agreed)
        if alert.action is Action.REDUCE_LR:
            self._reduce(alert)
        elif alert.action is Action.PAUSE and pauses:
            self._pause(alert)
        elif alert.action is Action.STOP:
            self._stop(alert, agreed=agreed)

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
        called = self._call("reduce_lr", alert, factor)
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
        if self.is_closed:
            return
        self.is_paused = True
        around.set_state("paused")
        around.event("pause", alert)
        at = f" at {alert.where}" if alert.where else ""
        around.say(f"paused: {alert.summary}{at}")
        around.say(f"go on with `{around.resume_command()}`")
        around.say(f"in {text_of(self._timeout)} the run will {self._after_pause} by itself")
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
                around.say(f"nobody answered for {text_of(self._timeout)}: {self._after_pause}")
        finally:
            self.paused_seconds += self._seconds() - lost
            self.is_paused = False
            if not self.is_closed:
                self._resumed.clear()
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
        again = alert.episode in self._incidents
        if not again:
            self._incidents[alert.episode] = None
            with guard("incident"):
                incident = self._incidents[alert.episode] = self._around.keep_incident(alert)
            with guard("stop"):
                self._around.event("stop", alert, incident=incident)
        if agreed or not again:
            self._call("stop", alert, agreed=agreed)
        with guard("stop"):
            message = self._around.stop_message(alert)
        epoch, batch, step = alert.at.place
        stop = AndonStop(
            message,
            alert=alert,
            incident=incident,
            metric=alert.series.metric if alert.series is not None else None,
            value=alert.value,
            epoch=epoch,
            batch=batch,
            step=step,
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
