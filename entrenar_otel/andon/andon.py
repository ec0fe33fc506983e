"""Andon: does in the loop what alerts ask for, at the loop's next `log`.

Deciding is the policy's, on the heartbeat's thread; acting happens here, on the thread that calls `log`,
inside that call: callbacks, pause, AndonStop. So a callback may touch model and optimizer.

Where several ranks train together, each of them waits for the others in every collective. So no rank
pauses (a pause is a stop), and a rank that acts alone calls only what waits for nobody. With `agree` no
rank stops alone: a stop waits until all ranks are asked, which only `raise_if_stopped` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from entrenar_processors.alert import Action, Alert

from entrenar_otel.andon.callbacks import Callback, Callbacks
from entrenar_otel.andon.control_alerts import control_alert
from entrenar_otel.andon.loop_context import LoopContext
from entrenar_otel.andon.pause import Pause
from entrenar_otel.console import logger
from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.process.control import CONTROL, Command, CommandRequest

#: Alerts that wait for a loop which does not log.
_MAX_PENDING = 1000


class Andon:
    """Collects the alerts that ask for something, and acts on them when the loop calls `act`.

    `schedule` may be called from any thread, `act` and `decide_together` from a loop's. `lost` counts the
    alerts that found no room, or no `log` before the run ended.
    """

    def __init__(
        self,
        context: LoopContext,
        *,
        pause_timeout_seconds: float = 300.0,
        after_pause: str = "stop",
        agree: Callable[[bool], bool] | None = None,
        seconds: Callable[[], float] = time.monotonic,
        lost: Callable[[int], None] = lambda _n: None,
    ) -> None:
        self._context = context
        self._agree = agree if context.world_size > 1 else None
        self._lost = lost
        self.callbacks = Callbacks(world_size=context.world_size, agrees=self._agree is not None)
        self.pause = Pause(
            context, self.callbacks, timeout_seconds=pause_timeout_seconds, after=after_pause, seconds=seconds
        )
        self.is_closed = False
        self._lock = threading.RLock()
        self._acting = threading.local()
        self._pending: list[Alert] = []
        self._stops: list[Alert] = []  # those that wait until all ranks are asked
        self._lr_factors: dict[tuple[str, object], float] = {}  # by which each rule has lowered it in all
        #: What AndonStop was last raised for.
        self.stopped: Alert | None = None
        self._incidents: dict[str, str | None] = {}  # of the episodes that stopped the line

    @property
    def is_paused(self) -> bool:
        """Whether the loop waits in a pause now."""
        return self.pause.is_active

    @property
    def wants_stop(self) -> bool:
        """Whether the next `act` raises AndonStop, unless a callback does something else."""
        with self._lock:
            return any(alert.action is Action.STOP for alert in self._pending)

    def on(self, occasion: str, call: Callback, *, local: bool = False) -> None:
        """Register a callback. Raises ConfigError."""
        self.callbacks.on(occasion, call, local=local)

    # -- any thread -----------------------------------------------------------------------------

    def schedule(self, alert: Alert) -> None:
        """Act on this alert at the loop's next `log`, where it asks for anything."""
        is_wanted = alert.action.is_for_loop or self.callbacks.has("alert")
        if not is_wanted or alert.is_resolved or self.is_closed:
            return
        size = self._context.world_size
        if alert.action is Action.PAUSE and size > 1:  # the others would wait for this rank in a collective
            summary = f"{alert.summary} (a pause is a stop where there are {size} ranks)"
            alert = replace(alert, action=Action.STOP, summary=summary)
        waits_for_ranks = self._agree is not None and alert.action is Action.STOP
        with self._lock:
            queue = self._stops if waits_for_ranks else self._pending
            if any(queued.episode == alert.episode and queued.action is alert.action for queued in queue):
                return
            queue.append(alert)
            if alert.action is Action.PAUSE:
                self.pause.expect()
            if len(queue) > _MAX_PENDING:  # the mildest goes
                self._lost(1)
                queue[:] = sorted(queue, key=_rank)[-_MAX_PENDING:]
        if waits_for_ranks:
            logger.warning("%s: all ranks stop at their next monitor.raise_if_stopped()", alert.summary)
        else:
            self._context.hold()

    def handle(self, request: CommandRequest) -> Alert | None:
        """What another process asks for; returns the alert to report and schedule, of a resume None."""
        if request.command is Command.RESUME:
            self.pause.resume()
            with self._lock:  # pauses that were asked for, and that no log has come to yet
                back = [
                    pending
                    for pending in self._pending
                    if (pending.source, pending.action) == (CONTROL, Action.PAUSE)
                ]
                self._pending = [pending for pending in self._pending if pending not in back]
            for alert in back:
                self._context.record_action("resume", alert, outcome="before it paused")
            return None
        action = Action.STOP if request.command is Command.STOP else Action.PAUSE
        return control_alert(action, str(request), "control", self._context.here())

    def close(self) -> None:
        """The run is over: nobody waits any longer, and a stop that no loop carried out is reported."""
        self.is_closed = True
        self.pause.close()
        with self._lock:
            left = [*self._stops, *self._pending]
        stops = [alert for alert in left if alert.action is Action.STOP]
        if stops and not self._incidents:
            stop = stops[0]
            left.remove(stop)
            how = "its next log" if self._agree is None else "a monitor.raise_if_stopped() of all ranks"
            logger.warning("%s: the run ended before %s", stop.summary, how)
            incident = self._context.write_incident(stop)
            self._context.record_action("stop", stop, outcome="the run ended first", incident=incident)
        if left:
            self._lost(len(left))

    # -- the loop's thread ----------------------------------------------------------------------

    def act(self) -> None:
        """Act on what is pending, the mildest first; no pause where a stop follows. Raises AndonStop."""
        if self._is_acting:  # a callback logs something
            return
        with self._lock:  # a signal handler may act in the middle of this: it takes all or nothing
            due, self._pending = self._pending, []
        due.sort(key=_rank)
        stops = bool(due) and due[-1].action is Action.STOP
        self._as_actor(lambda: self._act_on_all(due, pauses=not stops))

    def _act_on_all(self, due: list[Alert], *, pauses: bool) -> None:
        try:
            for alert in tuple(due):
                if alert.action is not Action.STOP:  # that one is not over before it has stopped the loop
                    due.remove(alert)
                try:
                    with guard("andon"):
                        self._act_on(alert, pauses=pauses)
                except AndonStop as stop:
                    if self._agree is None:
                        raise
                    # A callback of the user's raised it: here too all ranks are asked.
                    self.schedule(replace(alert, action=Action.STOP, summary=str(stop)))
        except AndonStop:
            raise
        except BaseException:  # Ctrl-C, or a signal handler's: the next `log` does what is left
            self._pending = [*due, *self._pending]
            raise

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
            if from_outside(error):
                raise
            if not wanted:
                raise
            logger.warning("the ranks could not agree (%s: %s): this one stops", type(error).__name__, error)
            self._as_actor(lambda: self._act_on(self._take_stop()))
        if agreed:
            self.callbacks.in_step = True
            self._as_actor(lambda: self._act_on(self._take_stop(), agreed=True))

    @property
    def _is_acting(self) -> bool:
        return getattr(self._acting, "now", False)

    def _as_actor(self, act: Callable[[], None]) -> None:
        """Act; what is logged meanwhile, by a callback or a signal handler, does not act itself."""
        self._acting.now = True  # right before `try`: an exception in between would leave it so
        try:
            act()
        finally:
            self._acting.now = False
            if self._pending:  # scheduled meanwhile, perhaps by what a callback logged
                self._context.hold()

    def _take_stop(self) -> Alert:
        """Why this rank stops: the first reason of its own, or that another rank has one."""
        with self._lock:
            own, self._stops = self._stops, []
        if own:
            return own[0]
        return control_alert(Action.STOP, "Another rank asked to stop", "agreed", self._context.here())

    def _act_on(self, alert: Alert, *, pauses: bool = True, agreed: bool = False) -> None:
        # What all ranks agreed on is called on all: also where this one was stopped for it before.
        if agreed or alert.episode not in self._incidents:
            self.callbacks.call("alert", alert, agreed=agreed)
        if alert.action is Action.REDUCE_LR:
            self._reduce_lr(alert)
        elif alert.action is Action.PAUSE and pauses:
            if (stop := self.pause.hold(alert)) is not None:
                self._stop(stop)
        elif alert.action is Action.STOP:
            self._stop(alert, agreed=agreed)

    def _reduce_lr(self, alert: Alert) -> None:
        factor = alert.factor or 0.5
        key = (alert.name, alert.series)
        so_far = self._lr_factors.get(key, 1.0)
        floor = alert.min_factor or 0.0
        factor = max(factor, floor / so_far) if so_far > 0 else 1.0
        if factor >= 1.0:
            logger.warning("%s: the learning rate is at its floor (%g of its start)", alert.summary, so_far)
            self._record_reduce_lr(alert, "at the floor", 1.0)
        elif not self.callbacks.has("reduce_lr"):
            logger.warning(
                "%s: the learning rate should be multiplied by %g, but nothing is registered with "
                "monitor.on('reduce_lr', …); notified only",
                alert.summary,
                factor,
            )
            self._record_reduce_lr(alert, "no callback", factor)
        else:
            outcome = self.callbacks.call("reduce_lr", alert, factor)
            if outcome == "done":
                self._lr_factors[key] = so_far * factor
            self._record_reduce_lr(alert, outcome, factor)

    def _record_reduce_lr(self, alert: Alert, outcome: str, factor: float) -> None:
        total = self._lr_factors.get((alert.name, alert.series), 1.0)
        self._context.record_action("reduce_lr", alert, outcome=outcome, factor=factor, total_factor=total)

    def _stop(self, alert: Alert, *, agreed: bool = False) -> NoReturn:
        self.stopped = alert
        incident, message = self._incidents.get(alert.episode), alert.summary
        is_first = alert.episode not in self._incidents
        if is_first:
            self._incidents[alert.episode] = None
            with guard("incident"):
                incident = self._incidents[alert.episode] = self._context.write_incident(alert)
            with guard("stop"):
                self._context.record_action("stop", alert, incident=incident)
        if agreed or is_first:
            self.callbacks.call("stop", alert, agreed=agreed)
        with guard("stop"):
            message = self._context.stop_message(alert)
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
            when = "is" if self._context.has_incident() else "will be, once the lake answers,"
            stop.add_note(f"Everything that was known then {when} in {incident}")
        raise stop


def _rank(alert: Alert) -> int:
    return alert.action.rank
