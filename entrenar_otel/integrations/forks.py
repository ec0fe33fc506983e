"""Forks: what goes on in a process is not what its forked child is at."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class LeftByFork(Protocol):
    """Something that only the process that began it goes on with."""

    def leave(self) -> None:
        """This is a forked child: it is none of its own."""


_begun: weakref.WeakSet[LeftByFork] = weakref.WeakSet()


def leave_in_children(begun: LeftByFork) -> None:
    """Have `leave` called in each child that is forked from now on.

    To ask at each step which process it is would cost more.

    >>> class Training:
    ...     def leave(self):
    ...         os._exit(7)
    >>> training = Training()
    >>> leave_in_children(training)
    >>> os.waitstatus_to_exitcode(os.waitpid(os.fork(), 0)[1])
    7
    """
    _begun.add(begun)


def _after_fork() -> None:
    for begun in list(_begun):
        begun.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
