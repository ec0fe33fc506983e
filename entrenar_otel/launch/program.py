"""Program: a process of our own group, on our own terminal, whose signals and end are ours as well.

It has the same descriptors and the same process group as we have: what a terminal sends (Ctrl-C, Ctrl-Z)
reaches it without us. What somebody sends to us alone is handed on.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Handed on to the program, where they come from a process and not from the terminal.
FORWARDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2),
)
_AWAITED = {*FORWARDED, signal.SIGCHLD}
#: How often is looked what the program's processes have told.
_LOOK_SECONDS = 0.2
NOT_EXECUTABLE, NOT_FOUND = 126, 127


class CannotStart(Exception):
    """The program was not started; `code` is what a shell would exit with."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Ended:
    """How a program ended: with an exit code, or by a signal; `forwarded` is the last one handed on to it."""

    exit_code: int | None
    signal_number: int | None = None
    forwarded: int | None = None

    @property
    def text(self) -> str:
        """In words.

        >>> Ended(3).text, Ended(None, 9).text
        ('exit code 3', 'SIGKILL')
        """
        if self.signal_number is None:
            return f"exit code {self.exit_code}"
        return _name(self.signal_number)

    @property
    def state(self) -> tuple[str, str | None]:
        """State and reason of a run of which nothing else is known.

        A program that ends after a signal which asks it to end was stopped, whatever its exit code.

        >>> Ended(0).state, Ended(1).state, Ended(None, 15).state
        (('completed', None), ('crashed', 'exit code 1'), ('stopped', 'SIGTERM'))
        >>> Ended(1, forwarded=15).state, Ended(130).state
        (('stopped', 'SIGTERM, exit code 1'), ('stopped', 'SIGINT, exit code 130'))
        """
        if self.exit_code == 0:
            return "completed", None
        asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if self.signal_number is not None:
            return ("stopped" if self.signal_number in asked else "crashed"), self.text
        by = self.forwarded or (self.exit_code or 0) - 128
        if by in asked:
            return "stopped", f"{_name(by)}, {self.text}"
        return "crashed", self.text


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class Program:
    """A started program. `start` blocks the signals that are handed on, for this process and its threads."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._forwarded: int | None = None

    @classmethod
    def start(cls, command: Sequence[str], environ: Mapping[str, str]) -> Program:
        """Start it. Raises CannotStart with the words and the exit code of a shell."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        try:
            pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environ),
                setsigmask=before,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores, and its children would
            )
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise CannotStart(*_problem(command[0], error)) from None
        return cls(pid)

    def wait(self, look: Callable[[], None]) -> Ended:
        """Wait for its end, hand signals on, and `look` several times a second."""
        while True:
            if (ended := self._ended()) is not None:
                return ended
            info = signal.sigtimedwait(_AWAITED, _LOOK_SECONDS)
            if info is None:
                look()
            elif info.si_signo in FORWARDED and info.si_code <= 0:  # not the kernel's, for a whole group
                self.send(info.si_signo)

    def send(self, number: int) -> None:
        """Send it a signal, where it still runs."""
        self._forwarded = number
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def _ended(self) -> Ended | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        if os.WIFSIGNALED(status):
            return Ended(None, os.WTERMSIG(status), self._forwarded)
        return Ended(os.WEXITSTATUS(status), None, self._forwarded)


def end_as(ended: Ended) -> None:
    """End this process as the program ended, by its signal too: shells and schedulers tell the two apart."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    if ended.signal_number is None:
        os._exit(ended.exit_code or 0)
    resource.setrlimit(
        resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1])
    )  # it has its own
    if ended.signal_number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(ended.signal_number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {ended.signal_number})
    os.kill(os.getpid(), ended.signal_number)
    os._exit(128 + ended.signal_number)


def _problem(name: str, error: OSError) -> tuple[str, int]:
    """What a shell would say, and what is to be done."""
    if error.errno == errno.ENOENT:
        if os.path.isfile(name) and "/" not in name:
            return f"{name}: not found in PATH: write ./{name}, or python {name}", NOT_FOUND
        return f"{name}: not found", NOT_FOUND
    if error.errno == errno.ENOEXEC:
        return f"{name}: not a program: its first line names no interpreter", NOT_EXECUTABLE
    if os.path.isdir(name):
        return f"{name}: is a folder", NOT_EXECUTABLE
    hint = f": write python {name}" if name.endswith(".py") else ""
    return f"{name}: {(error.strerror or str(error)).lower()}{hint}", NOT_EXECUTABLE
