"""Lifetime: what happens to open runs at exit, on SIGTERM, in forked children and in notebooks."""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import sys
from collections.abc import Callable
from typing import Protocol

from entrenar_otel.console import ipython_shell, say
from entrenar_otel.delivery.exit_gate import gate
from entrenar_otel.errors import AndonStop, guard
from entrenar_otel.identity.helper import mark_recording, unmark_recording
from entrenar_otel.redact import redacted
from entrenar_otel.run.exit_code import final_exit, unwatch_exit, watch_exit
from entrenar_otel.run.termination import Termination


class ClosableRun(Protocol):
    """A run as the end of the process sees it."""

    run_id: str
    rank: int

    @property
    def is_closed(self) -> bool:
        """Whether the run is over."""

    def close(
        self, state: str | None = None, reason: str | None = None, *, error: BaseException | None = None
    ) -> None:
        """End the run, bounded."""

    def abandon(self) -> None:
        """Become the no-op twin, in a forked child."""


_open: list[ClosableRun] = []
_starting: list[ClosableRun] = []
_at_last: list[Callable[[], None]] = []
_newest: ClosableRun | None = None
_watches_forks = False
_hooks_pid = 0  # of the process that has set them


def created(monitor: ClosableRun) -> None:
    """A monitor exists that may not have started yet."""
    global _newest
    _newest = monitor


def latest() -> ClosableRun | None:
    """The run that plain meters record into: the one made last that is not over, or None."""
    if _newest is not None and not _newest.is_closed:
        return _newest
    return _open[-1] if _open else None


def open_runs() -> tuple[ClosableRun, ...]:
    """The runs of this process that have started and are not over, oldest first."""
    return tuple(_open)


def starting(monitor: ClosableRun) -> None:
    """A run is about to take its locks: a child that another thread forks meanwhile must let go of them."""
    global _watches_forks
    _starting.append(monitor)
    if not _watches_forks:
        os.register_at_fork(after_in_child=_after_fork)
        _watches_forks = True


def opened(monitor: ClosableRun, given_rank: int | None = None) -> None:
    """A run has started in this process; `given_rank` is what its program said, not its launcher."""
    global _hooks_pid
    _open.append(monitor)
    _started(monitor)
    mark_recording(monitor.run_id, monitor.rank, given_rank)
    if not _hooks_pid:
        gate.close_at_exit()  # after the runs, which ask their last queries
        atexit.register(close_all)
    if _hooks_pid != os.getpid():
        # A multiprocessing child leaves by os._exit, past atexit, but runs finalizers: its own only.
        multiprocessing.util.Finalize(None, close_all, exitpriority=10)
        _hooks_pid = os.getpid()
    watch_exit()
    _termination.set()


def closed(monitor: ClosableRun) -> None:
    """A run has ended in this process, or did not start."""
    _started(monitor)
    if monitor in _open:
        _open.remove(monitor)
    if not _open:
        unmark_recording()
        unwatch_exit()
        _termination.unset()


def _started(monitor: ClosableRun) -> None:
    if monitor in _starting:
        _starting.remove(monitor)


def supersede(monitor: ClosableRun) -> None:
    """End the open run that the new one takes the place of: same id, or a notebook cell run again."""
    for earlier in tuple(_open):  # close() removes it
        if earlier.run_id == monitor.run_id or is_interactive():
            earlier.close("stopped", f"superseded by {monitor.run_id}")
            say(f"run {earlier.run_id} ended, superseded by {monitor.run_id}")


def is_interactive() -> bool:
    """Whether this is a notebook, or Python's prompt."""
    return hasattr(sys, "ps1") or ipython_shell() is not None


def state_of(error: BaseException | None) -> tuple[str | None, str | None]:
    """How a run ended that was left with this exception; None: well, as far as this tells."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return None, None
    text = _text(error)
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, AndonStop | KeyboardInterrupt | GeneratorExit):
        return "stopped", reason
    return "crashed", reason


def _text(error: BaseException) -> str:
    try:
        return redacted(str(error))
    except Exception:  # a stranger's __str__
        return ""


def close_all() -> None:
    """Close what was left open, at exit."""
    # A multiprocessing child is here while its error is on the way up.
    error = sys.exc_info()[1] or getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    error = error or final_exit()
    state, reason = state_of(error)
    for monitor in tuple(_open):
        with guard("exit"):
            monitor.close(state, reason, error=error)
    for wait in _at_last:
        with guard("exit"):
            wait()


def at_last(wait: Callable[[], None]) -> None:
    """At exit, when all runs are closed, do this once."""
    if wait not in _at_last:
        _at_last.append(wait)


def _after_fork() -> None:
    if _open or _starting:
        for monitor in (*_open, *_starting):
            monitor.abandon()
        _open.clear()
        _starting.clear()
        unwatch_exit()
        _termination.unset()


def _close_terminated() -> None:
    for monitor in tuple(_open):
        with guard("SIGTERM"):
            monitor.close("stopped", "SIGTERM")


_termination = Termination(_close_terminated)
