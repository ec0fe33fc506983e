"""Training run: what a callback of any framework tells a Monitor, in the order in which frameworks do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.integrations.choice import OnStop as OnStop
from entrenar_otel.integrations.choice import check_options, monitor_for
from entrenar_otel.integrations.reported import Reported
from entrenar_otel.integrations.saved_files import record_checkpoint
from entrenar_otel.monitor.counted import Counted
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.run import lifetime


class TrainingRun:
    """One training of a framework, on the Monitor that was given, or that is open, or on one of its own.

    Its own is closed by `finish` or `fail`, the others are left open. Before `begin`, and in a process that
    was forked since, it does nothing; a copy is one that has not begun.

    Args:
        monitor: the user's.
        on_stop: `"raise"` lets AndonStop out of the framework's own call; with `"stop"` it is kept in
            `stopped`, for the callback to end the training by the framework's means.
        options: of the Monitor that is made where there is none, see `Monitor`.

    >>> run = TrainingRun(run_id="fitted", lake=tmp_path / "lake", quiet=True)
    >>> run.begin(model=[], config={"lr": 0.1})
    >>> run.begin_step(step=1)
    >>> run.log({"loss": 0.5, "eval_acc": 0.9})
    >>> run.end_step(size=32)
    >>> run.finish()
    >>> run.monitor.model_id, sorted(str(series) for series in run.monitor.summary())
    ('list', ['accuracy{split="validation"}', 'loss', 'samples', 'step_duration'])
    """

    def __init__(self, monitor: Monitor | None = None, *, on_stop: OnStop = "raise", **options: Any) -> None:
        check_options(monitor, on_stop, options)
        self._given = monitor, on_stop, options
        self._forget()

    def _forget(self) -> None:
        self.monitor = self._given[0]
        self.stopped: AndonStop | None = None
        self._pid = 0  # of the process that has begun it
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
        return self._pid == os.getpid()

    def begin(
        self, model: Any = None, config: Any = None, *, rank: int | None = None, world_size: int | None = None
    ) -> None:
        """Begin. A Monitor of its own has the model's class as its id, and of `config` what is plain."""
        if self.is_on:
            self.fail(RuntimeError("this training was left, and another one begun"))
        self._forget()
        self._pid = os.getpid()
        if self.monitor is None:
            self.monitor, self._is_own = monitor_for(self._given[2], model, config, rank, world_size)
        self.monitor.start()

    def finish(self) -> None:
        """The training ended by itself, early perhaps, or by `stopped`. The user's Monitor goes on."""
        self._end(self.stopped, None)

    def fail(self, error: BaseException) -> None:
        """The training was left by an exception: the run is crashed, or stopped."""
        self._end(error, error)

    def _end(self, cause: BaseException | None, error: BaseException | None) -> None:
        with guard("callback"):
            self.end_epoch()
            if self.is_on and self.monitor is not None and self._is_own:
                self._pid = 0
                self.monitor.close(*lifetime.state_of(cause), error=error)

    def begin_epoch(self, epoch: int, epochs: int | None = None) -> None:
        """An epoch, of `epochs` in all; one that goes on still ends."""
        if self.is_on and self.monitor is not None:
            self.end_epoch()
            self._epoch = self.monitor.epochs(max(epoch + 1, epochs or 0), start=epoch)
            next(self._epoch)

    def end_epoch(self) -> None:
        """What is logged from now on still has its number."""
        epoch, self._epoch = self._epoch, None
        if self.is_on and epoch is not None:
            epoch.close()

    def begin_step(self, step: int | None = None, batch: int | None = None) -> None:
        """See `Monitor.begin_step`."""
        if self.is_on and self.monitor is not None:
            self.monitor.begin_step(None, batch, step)

    def end_step(self, size: int | None = None) -> None:
        """See `Monitor.end_step`."""
        if self.is_on and self.monitor is not None:
            try:
                self.monitor.end_step(size)
            except AndonStop as stop:
                self._stop(stop)

    def begin_wait(self) -> None:
        """See `Monitor.begin_wait`: after an evaluation or a checkpoint."""
        if self.is_on and self.monitor is not None:
            self.monitor.begin_wait()

    def log(
        self,
        values: Mapping[str, Any],
        step: int | None = None,
        *,
        epoch: float | None = None,
        split: str | None = None,
    ) -> None:
        """Record what a framework reports (see `Reported`); `split` is that of names which say none."""
        if self.is_on and self.monitor is not None:
            for group, metrics in self.reported.groups(values, split):
                try:
                    group.log(self.monitor, metrics, step, epoch)
                except AndonStop as stop:
                    self._stop(stop)

    def checkpoint(self, path: str | os.PathLike[str], step: int | None = None) -> None:
        """One was written: an event `training.checkpoint` and the sidecar, of the first rank."""
        if self.is_on and self.monitor is not None and self.monitor.rank == 0:
            record_checkpoint(self.monitor, path, step)

    def _stop(self, stop: AndonStop) -> None:
        if self._given[1] == "raise":
            raise stop
        self.stopped = self.stopped or stop
