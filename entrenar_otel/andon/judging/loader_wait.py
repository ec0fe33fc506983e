"""Loader wait: how long a thread has waited in one and the same call for its next batch.

Between two steps nobody says whether a loop waits for data or evaluates. Its stack does: it is in the
`__next__` of an iterator, or in a lock, a queue or a socket that a generator waits for, and in the same call
as before.
"""

from __future__ import annotations

import inspect
import sys
import threading
from types import FrameType

#: The modules in whose frames a thread waits for others.
_WAITING = (
    *("queue", "threading", "multiprocessing", "concurrent", "selectors", "socket", "ssl", "subprocess"),
    *("asyncio", "select"),
)
_OURS = "entrenar_otel"


class LoaderWait:
    """Is asked at every tick of a silence; holds one frame of the thread, and no longer than it waits.

    >>> LoaderWait().seconds(None, 30.0)
    0.0
    """

    def __init__(self) -> None:
        self._held: FrameType | None = None  # so that no other frame can have its identity
        self._since = 0.0

    def seconds(self, thread: int | None, now: float) -> float:
        """How long the thread (None: the main one) has been in the call it waits in; 0 where it does not."""
        frame = _waits_in(threading.main_thread().ident if thread is None else thread)
        if frame is None or frame is not self._held:
            self._held, self._since = frame, now
        return now - self._since

    def forget(self) -> None:
        """The thread goes on."""
        self._held = None


def _waits_in(thread: int | None) -> FrameType | None:
    """The call in which a thread waits for what an iterator gives next."""
    frame = innermost = sys._current_frames().get(thread or 0)
    inner: FrameType | None = None
    while frame is not None and innermost is not None:
        code = frame.f_code
        is_ours = _package(frame) == _OURS
        if code.co_name == "__next__" and not is_ours:
            return frame
        is_generator = bool(code.co_flags & inspect.CO_GENERATOR) and not is_ours
        if is_generator and inner is not None and _package(innermost) in _WAITING:
            return inner
        inner, frame = frame, frame.f_back
    return None


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
