"""LoopThreads: whose loop is the run's, where several threads run loops on one monitor."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrenar_otel.console import logger

if TYPE_CHECKING:
    from entrenar_native._core import HotPath

    from entrenar_otel.andon.judging.stall_watch import LoopPlace
    from entrenar_otel.monitor.step_state import StepState


class LoopThreads:
    """The first thread's epochs and steps are the run's; those of a thread beside it are its own alone.

    Threads that take turns are one loop. Once two were at it together, the first stays the first.

    Args:
        give_places: called once, as a second thread begins, with the threads whose epoch and whose batch and
            step are those of the run.
        state: of the training steps; its `thread` is the one that runs them now.
    """

    def __init__(self, give_places: Callable[[int, int], None], state: StepState | HotPath) -> None:
        self._give_places = give_places
        self.state = state
        self._owners: tuple[int, int] | None = None
        self.in_epochs: int | None = None  # the thread that runs epochs now
        self.second = SecondLoop()

    @property
    def are_several(self) -> bool:
        """Whether two threads were at it together, ever."""
        return self._owners is not None

    def begins_second_epochs(self) -> bool:
        """Whether the epochs that this thread begins are those of a second loop."""
        return self._is_second(self.in_epochs, 0)

    def begins_second_steps(self) -> bool:
        """Whether the steps that this thread begins are those of a second loop."""
        return self._is_second(self.state.thread or None, 1)

    def where(self, *, is_over: bool) -> LoopPlace:
        """What the run's loop is at, and on which thread."""
        if thread := self.state.thread:
            return "steps", thread
        if self.in_epochs is not None:
            return "epochs", self.in_epochs
        return ("over" if is_over else "unknown"), None

    def _is_second(self, busy: int | None, kind: int) -> bool:
        me = threading.get_ident()
        if self._owners is not None:
            return me != self._owners[kind]
        if busy is None or busy == me:
            return False
        self._owners = self.in_epochs or busy, self.state.thread or busy
        self._give_places(*self._owners)
        logger.warning(
            "two threads run loops on one monitor: each counts its own epoch, batch and step, and only the "
            "first one's steps are timed. For two trainings, give each a Monitor with a run id of its own"
        )
        return True


class SecondLoop(threading.local):
    """What a thread counts whose loop is not the run's."""

    def __init__(self) -> None:
        self.steps = itertools.count()
        self.batches = itertools.count()  # of steps that nothing iterates over
        self.is_stepping = False
