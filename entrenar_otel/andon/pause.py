"""Pause: holds the loop inside `log` until somebody answers, or for as long as is allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from entrenar_processors.alert import Action, Alert
from entrenar_processors.durations import text_of

from entrenar_otel.andon.callbacks import Callbacks
from entrenar_otel.andon.loop_context import LoopContext
from entrenar_otel.errors import guard
from entrenar_otel.recording.process.control import Command, CommandRequest

#: How often a paused loop looks for a command.
_LOOK_SECONDS = 0.2


class Pause:
    """One loop's pauses.

    Args:
        timeout_seconds: how long a pause waits for an answer.
        after: `stop` or `resume`, what happens without one.
        seconds: the clock of the samples, which `total_seconds` is measured by.
    """

    def __init__(
        self,
        context: LoopContext,
        callbacks: Callbacks,
        *,
        timeout_seconds: float,
        after: str,
        seconds: Callable[[], float],
    ) -> None:
        self._context, self._callbacks = context, callbacks
        self._timeout, self._after = timeout_seconds, after
        self._seconds = seconds
        self._resumed = threading.Event()
        self._is_closed = False
        self.is_active = False
        #: How long the loop was paused in all.
        self.total_seconds = 0.0

    def expect(self) -> None:
        """A pause is to come: a `resume` from here on is one of this pause, not of one before."""
        self._resumed.clear()

    def resume(self) -> None:
        """Let the loop go on, from any thread."""
        self._resumed.set()

    def close(self) -> None:
        """The run is over: nobody waits any more."""
        self._is_closed = True
        self._resumed.set()

    def hold(self, alert: Alert) -> Alert | None:
        """Hold this thread; returns the alert to stop for, or None where the loop goes on."""
        if self._is_closed:
            return None
        start, clock_start = time.monotonic(), self._seconds()
        self.is_active = True
        try:
            with guard("pause"):  # what cannot be said or recorded of it is no reason not to pause
                self._announce(alert)
            self._callbacks.call("pause", alert)
            stop = self._wait(alert, start + self._timeout)
        finally:
            self.total_seconds += self._seconds() - clock_start
            self.is_active = False
            if not self._is_closed:
                self._resumed.clear()
                self._context.set_state("running")
        if self._is_closed:
            return None
        if stop is None:
            self._context.record_action("resume", alert)
            self._context.say("resumed")
            self._callbacks.call("resume", alert)
        return stop

    def _announce(self, alert: Alert) -> None:
        context = self._context
        context.set_state("paused")
        context.record_action("pause", alert)
        at = f" at {alert.where}" if alert.where else ""
        context.say(f"paused: {alert.summary}{at}")
        context.say(f"resume it with `{context.resume_command()}`")
        context.say(f"without an answer it will {self._after} in {text_of(self._timeout)}")

    def _wait(self, alert: Alert, deadline: float) -> Alert | None:
        """Wait for `resume`, `stop`, the end of the run or the deadline."""
        while time.monotonic() < deadline:
            request = self._take_command()
            if request is not None and request.command is Command.STOP:
                return replace(alert, action=Action.STOP, summary=f"{request} (paused: {alert.summary})")
            if request is not None and request.command is Command.RESUME:
                self._resumed.set()
            if self._resumed.wait(min(_LOOK_SECONDS, self._timeout)):
                return None
        doing = "stopping" if self._after == "stop" else "resuming"
        self._context.say(f"no answer within {text_of(self._timeout)}: {doing}")
        return replace(alert, action=Action.STOP) if self._after == "stop" else None

    def _take_command(self) -> CommandRequest | None:
        with guard("control"):
            return self._context.take_command()
        return None
