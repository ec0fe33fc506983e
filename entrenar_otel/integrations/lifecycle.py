"""Lifecycle: how a framework's training begins and ends on a Monitor, and its epochs."""

from __future__ import annotations

from typing import Any

from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.integrations.choice import OnStop, check_options, monitor_for
from entrenar_otel.integrations.forks import leave_in_children
from entrenar_otel.integrations.reported import Reported
from entrenar_otel.monitor.counted import Counted
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.run import lifetime


class Lifecycle:
    """From `begin` to `finish` or `fail`; what is in between is `TrainingRun`'s, with the same arguments.

    `monitor` is what it is recorded on, `reported` knows this training's names, `stopped` is an AndonStop
    that was kept.
    """

    def __init__(self, monitor: Monitor | None = None, *, on_stop: OnStop = "raise", **options: Any) -> None:
        check_options(monitor, on_stop, options)
        self._given = monitor, on_stop, options
        self._forget()

    def _forget(self) -> None:
        self.monitor = self._given[0]
        self.stopped: AndonStop | None = None
        self._on: Monitor | None = None
        self.leave()
        self._is_own = False
        self._epoch: Counted[int] | None = None
        self.reported = Reported()

    def __getstate__(self) -> dict[str, Any]:
        return {"_given": self._given}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._given = state["_given"]
        self._forget()

    @property
    def is_on(self) -> bool:
        """Whether this process has begun it, and it is not over."""
        return self._on is not None

    def leave(self) -> None:
        """This process is a forked child of the one that has begun it, or it is over."""
        self._on = None  # else the monitor

    def _begun(self, monitor: Monitor) -> None:
        """From here on it is recorded on this monitor."""

    def begin(
        self, model: Any = None, config: Any = None, *, rank: int | None = None, world_size: int | None = None
    ) -> None:
        """Begin. A Monitor of its own has the model's class as its id, and of `config` what is plain."""
        if self.is_on:
            self.fail(RuntimeError("this training was left, and another one begun"))
        self._forget()
        if self.monitor is None:
            self.monitor, self._is_own = monitor_for(self._given[2], model, config, rank, world_size)
        self._on = self.monitor
        leave_in_children(self)
        self._begun(self.monitor.start())

    def finish(self) -> None:
        """The training ended by itself, early perhaps, or by `stopped`. The user's Monitor goes on."""
        self._end(self.stopped, None)

    def fail(self, error: BaseException) -> None:
        """The training was left by an exception: the run is crashed, or stopped."""
        self._end(error, error)

    def _end(self, cause: BaseException | None, error: BaseException | None) -> None:
        with guard("callback"):
            self.end_epoch()
            if (monitor := self._on) is not None and self._is_own:
                self.leave()
                monitor.close(*lifetime.state_of(cause), error=error)

    def begin_epoch(self, epoch: int, epochs: int | None = None) -> None:
        """An epoch, of `epochs` in all; one that goes on still ends."""
        if (monitor := self._on) is not None:
            self.end_epoch()
            self._epoch = monitor.epochs(max(epoch + 1, epochs or 0), start=epoch)
            next(self._epoch)

    def end_epoch(self) -> None:
        """What is logged from now on still has its number."""
        epoch, self._epoch = self._epoch, None
        if self.is_on and epoch is not None:
            epoch.close()
