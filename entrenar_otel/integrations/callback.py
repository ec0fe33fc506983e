"""Training run: what a callback of any framework tells a Monitor, in the order in which frameworks do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from entrenar_otel.errors import AndonStop
from entrenar_otel.integrations.choice import OnStop as OnStop
from entrenar_otel.integrations.lifecycle import Lifecycle
from entrenar_otel.integrations.saved_files import record_checkpoint


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
    >>> run.begin_step(step=1)
    >>> run.log({"loss": 0.5, "eval_acc": 0.9})
    >>> run.end_step(size=32)
    >>> run.finish()
    >>> run.monitor.model_id, sorted(str(series) for series in run.monitor.summary())
    ('list', ['accuracy{split="validation"}', 'loss', 'samples', 'step_duration'])
    """

    def begin_step(self, step: int | None = None, batch: int | None = None) -> None:
        """See `Monitor.begin_step`."""
        if (monitor := self._on) is not None:
            monitor.begin_step(None, batch, step)

    def end_step(self, size: int | None = None) -> None:
        """See `Monitor.end_step`."""
        if (monitor := self._on) is not None:
            try:
                monitor.end_step(size)
            except AndonStop as stop:
                self._stop(stop)

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
        if (monitor := self._on) is not None:
            reported = self.reported
            for group in reported.groups(values, split):
                try:
                    group.log(monitor, values, step, epoch, reported.added)
                except AndonStop as stop:
                    self._stop(stop)

    def checkpoint(self, path: str | os.PathLike[str], step: int | None = None) -> None:
        """One was written: an event `training.checkpoint` and the sidecar, of the first rank."""
        if (monitor := self._on) is not None and monitor.rank == 0:
            record_checkpoint(monitor, path, step)

    def _stop(self, stop: AndonStop) -> None:
        if self._given[1] == "raise":
            raise stop
        self.stopped = self.stopped or stop
