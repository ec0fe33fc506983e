"""Recording: outcomes of an A/B test as ordinary samples of a run, whichever run this process has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from entrenar_otel.console import say
from entrenar_otel.identity.process import new_run_id
from entrenar_otel.monitor.monitor import Monitor
from entrenar_otel.run import lifetime
from entrenar_otel.semconv import AB_PREFIX, AB_UNIT
from entrenar_otel.serving.ab.design import STARTED, Design
from entrenar_otel.serving.assignment import Arm

#: The arm of outcomes that came after the test was stopped: kept, and in no result.
AFTER_STOP = "after_stop"


class OutcomeRecorder:
    """Writes `ab.<metric>` with the tags arm, model, split and test, and beside it who had the outcome.

    Both are in one record, so that they are kept together or not at all. It goes into the Monitor given, else
    into this process's current run, else into one of its own, which begins with the first outcome;
    where one ends, or the process was forked, the next is chosen. `begun` is called whenever that happens.
    """

    def __init__(
        self, design: Design, monitor: Monitor | None, lake: Any, begun: Callable[[], object]
    ) -> None:
        self.design = design
        self._given, self._lake, self._begun = monitor, lake, begun
        self._monitor: Monitor | None = None
        self._own: Monitor | None = None
        self._functions: dict[tuple[str, str], Callable[..., None]] = {}
        self._lock = threading.RLock()
        self._pid = self._given_pid = os.getpid()

    @property
    def monitor(self) -> Monitor | None:
        """The run that outcomes go into, as far as there is one now."""
        if self._pid != os.getpid():
            return None
        return self._monitor or (self._given if self._pid == self._given_pid else None)

    def write(self, metric: str, arm: Arm | str, value: Any, unit: float) -> None:
        """Record one outcome."""
        monitor = self._monitor
        if monitor is None or monitor.is_closed or self._pid != os.getpid():
            self._choose()
        function = self._functions.get((metric, arm))
        if function is None:
            function = self._bind(metric, arm)
        function(value, unit)

    def event(self, name: str, **attributes: str) -> None:
        """An event of the test in the run that outcomes go into."""
        if self._monitor is None or self._monitor.is_closed or self._pid != os.getpid():
            self._choose()
        if self._monitor is not None:
            self._monitor.event(name, {"test": self.design.name, **attributes})

    def close(self) -> None:
        """End the run of its own, if there is one."""
        if self._own is not None and self._pid == os.getpid():
            self._own.close()

    def _bind(self, metric: str, arm: Arm | str) -> Callable[..., None]:
        name, design = AB_PREFIX + metric, self.design
        tags = {"arm": arm, "split": f"{design.traffic_split:g}", "test": design.name}
        if arm != AFTER_STOP:
            tags["model"] = design.model_b if arm == "B" else design.model_a
        with self._lock:
            monitor = self._monitor
            assert monitor is not None
            function = self._functions[metric, arm] = monitor.bind(name, name + AB_UNIT, tags=tags)
        return function

    def _choose(self) -> None:
        if self._pid != os.getpid():  # a forked child: a thread of the parent's may hold the lock
            self._lock, self._pid = threading.RLock(), os.getpid()
            self._monitor = self._own = None
        with self._lock:
            chosen = self._candidate()
            if chosen is self._monitor:
                return
            self._functions, self._monitor = {}, chosen.start()
            chosen.event(STARTED, {"test": self.design.name, "design": self.design.as_text()})
        self._begun()

    def _candidate(self) -> Monitor:
        if self._given is not None and os.getpid() == self._given_pid:
            return self._given
        known = lifetime.latest()
        if isinstance(known, Monitor) and known.enabled and not known.is_closed:
            return known
        if self._own is None or (self._own.enabled and self._own.is_closed):
            # An id of its own makes a forked worker a process that records, too.
            self._own = Monitor.auto(new_run_id(), lake=self._lake, quiet=True)
            if self._own.enabled:
                say(f"recording A/B test {self.design.name} into {self._own.lake.url}")
        return self._own
