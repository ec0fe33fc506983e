"""Termination: SIGTERM closes the runs of this process, then ends it as it would without us.

A handler of Python's runs between two of its instructions, on the main thread. Where that is stuck in C (a
collective that waits for a dead rank, a driver), it never does, and the process would live until SIGKILL. So
a thread of ours listens at the wake-up descriptor, to which the C part of every handler writes at once, and
does it where the main thread does not come.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from types import FrameType

#: How long SIGTERM may take: schedulers kill after 10 to 30 seconds.
TERM_SECONDS = 4.0
#: How long the main thread has to come to the handler.
_STUCK_SECONDS = 1.0
_CREDENTIALS = struct.Struct("iII")  # pid, user, group


class Termination:
    """Calls `close` on SIGTERM, and dies of it within TERM_SECONDS; unless somebody else handles it."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._watch: _Watch | None = None
        self._has_begun = False
        self.is_set = False

    def set(self) -> None:
        """From now on. Does nothing on another thread than the main one, where Python has no handlers."""
        if self.is_set or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._handler = self._on_term  # a method is another object each time
            signal.signal(signal.SIGTERM, self._handler)
            self.is_set = True
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # no descriptors, no threads left
                self._watch = _Watch(self._on_wake_up)

    def unset(self) -> None:
        """Leave everything as it was."""
        if not self.is_set or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is self._handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.is_set = False
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.end()

    def _on_term(self, number: int, _frame: FrameType | None) -> None:
        if self._has_begun:  # a scheduler and a launcher tell it both: the first ends the process, in time
            return
        self._has_begun = True
        try:
            self._close_within(TERM_SECONDS)
        finally:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _on_wake_up(self, number: int) -> None:
        """A signal has come; on the thread that watches."""
        if number != signal.SIGTERM or signal.getsignal(signal.SIGTERM) is not self._handler:
            return  # the program has set a handler of its own meanwhile
        end = time.monotonic() + _STUCK_SECONDS
        while time.monotonic() < end:
            time.sleep(0.02)
            if self._has_begun:
                return
        try:
            self._close_within(TERM_SECONDS - 1.5 * _STUCK_SECONDS)
        finally:
            _die(number)

    def _close_within(self, seconds: float) -> None:
        # In a thread with a deadline: the interrupted code may hold one of our locks. What is then not
        # closed is still safe in its segment, and recovered by the next run.
        end = time.monotonic() + seconds
        closer = threading.Thread(target=self._close, name="entrenar-sigterm", daemon=True)
        closer.start()
        while closer.is_alive() and (left := end - time.monotonic()) > 0:
            # Another handler may raise meanwhile: it must not make the process outlive its end.
            with contextlib.suppress(BaseException):
                closer.join(left)


def _die(number: int) -> None:
    """End this process by a signal's own effect; Python lets only the main thread ask for that."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(number, None)
    os.kill(os.getpid(), number)
    time.sleep(1.0)  # it is on its way
    os._exit(128 + number)


class _Watch:
    """The wake-up descriptor, and the thread that reads from it. Another's gets what it would have got.

    It is a socket that tells who has written: in a child between fork and exec, or before the hooks of a fork
    have run, the descriptor is the same, and a signal to the child is none to us.
    """

    def __init__(self, woken: Callable[[int], None]) -> None:
        self._woken = woken
        self._pid = os.getpid()
        self._reader, self._writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._writer.setblocking(False)
        # Before the thread: between two signals nobody would hear of the first.
        self._thread = threading.Thread(target=self._read, name="entrenar-signals", daemon=True)
        self._thread.start()
        self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def end(self) -> None:
        """Give the descriptor back, unless somebody has put another in its place; on the main thread."""
        current = signal.set_wakeup_fd(-1)
        back = self._before if current == self._writer.fileno() else current
        with contextlib.suppress(OSError, ValueError):  # it was closed meanwhile
            signal.set_wakeup_fd(back)
        if os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                self._writer.send(b"")
                self._thread.join(1.0)
        else:  # a forked child, where nobody reads
            self._reader.close()
        self._writer.close()

    def _read(self) -> None:
        with self._reader:
            while True:
                data, ancillary, *_ = self._reader.recvmsg(64, socket.CMSG_SPACE(_CREDENTIALS.size))
                if not data:
                    return
                if all(_CREDENTIALS.unpack(content)[0] == self._pid for _, _, content in ancillary):
                    if self._before >= 0:
                        with contextlib.suppress(OSError):
                            os.write(self._before, data)
                    for number in data:
                        self._woken(number)
