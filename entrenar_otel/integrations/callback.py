"""Training run: what a callback of any framework tells a Monitor, in the order in which frameworks do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from entrenar_otel.errors import AndonStop
from entrenar_otel.integrations.choice import OnStop as OnStop
from entrenar_otel.integrations.lifecycle import Lifecycle
from entrenar_otel.integrations.metric_group import floored, host_number
from entrenar_otel.integrations.saved_files import record_checkpoint
from entrenar_otel.monitor.monitor import Monitor


class TrainingRun(Lifecycle):
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
    >>> run.begin_step(None, 0, 1)
    >>> run.log({"loss": 0.5, "eval_acc": 0.9})
    >>> run.end_step(size=32)
    >>> run.finish()
    >>> run.monitor.model_id, sorted(str(series) for series in run.monitor.summary())
    ('list', ['accuracy{split="validation"}', 'loss', 'samples', 'step_duration'])
    """

    # A step of somebody else's loop has thrown all of this out of the caches, and what a call costs is what
    # has to be fetched again: so each step goes through few functions, and few objects.

    def begin_step(self, epoch: int | None = None, batch: int | None = None, step: int | None = None) -> None:
        """See `Monitor.begin_step`, whose own function stands here while a training is on."""

    def end_step(self, size: int | None = None) -> None:
        """See `Monitor.end_step`, whose own stands here where it may raise."""
        if (monitor := self._on) is not None:
            try:
                monitor.end_step(size)
            except AndonStop as stop:
                self.stop(stop)

    def begin_wait(self) -> None:
        """See `Monitor.begin_wait`: after an evaluation or a checkpoint."""
        if (monitor := self._on) is not None:
            monitor.begin_wait()

    def log(
        self,
        values: Mapping[str, Any],
        step: int | None = None,
        *,
        epoch: float | None = None,
        split: str | None = None,
    ) -> None:
        """Record what a framework reports (see `Reported`); `split` is that of names which say none."""
        if (monitor := self._on) is None:
            return
        reported = self.reported
        if (plan := reported.plans.get((split, *values))) is None:
            plan = reported.groups(values, split)
        for group in plan:
            try:
                if (write := group.write) is None:
                    group.log(monitor, values, step, epoch, reported.added)
                    continue
                numbers = []
                for raw in group.raws:
                    if type(value := values[raw]) is not float and (value := host_number(value)) is None:
                        group.log(monitor, values, step, epoch, reported.added)  # a name less
                        break
                    numbers.append(value)
                else:
                    for place in group.totals:
                        numbers[place] = reported.added(group.raws[place], numbers[place])
                    if step is epoch is None:
                        write(*numbers)
                    else:
                        write(*numbers, step=step, epoch=floored(epoch))
            except AndonStop as stop:
                self.stop(stop)

    def checkpoint(self, path: str | os.PathLike[str], step: int | None = None) -> None:
        """One was written: an event `training.checkpoint` and the sidecar, of the first rank."""
        if (monitor := self._on) is not None and monitor.rank == 0:
            record_checkpoint(monitor, path, step)

    def log_loss(self, loss: Any) -> None:
        """Record a step's loss alone; where it may raise, a function of the monitor's stands here."""
        self.log({"loss": loss})

    def _begun(self, monitor: Monitor) -> None:
        vars(self)["begin_step"] = monitor.begin_step
        if self._given[1] == "raise":
            vars(self).update(end_step=monitor.end_step, log_loss=monitor.bind("loss"))

    def leave(self) -> None:
        """This process is a forked child of the one that has begun it, or it is over."""
        super().leave()
        for name in ("begin_step", "end_step", "log_loss"):
            vars(self).pop(name, None)

    def stop(self, stop: AndonStop) -> None:
        """Raise it, or keep it: as `on_stop` says."""
        if self._given[1] == "raise":
            raise stop
        self.stopped = self.stopped or stop
