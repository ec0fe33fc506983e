"""Native path: what the native core does of a recorder's hot path, where there is one.

The reference is Python, and complete. A native `log` or bound function does what is usual in one C call,
which runs no code of Python's and so is whole or nothing; whatever is unusual it hands on as it came.
"""

from __future__ import annotations

import copyreg
import functools
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import entrenar_native
import numpy as np

from entrenar_otel.clock import Clock
from entrenar_otel.interruption import is_foreign

if TYPE_CHECKING:
    from entrenar_native._core import HotPath

_PLACE = ("epoch", "batch", "step")
#: Of a plan: the layout's head, how many metrics, where among the arguments epoch, batch, step and the
#: watched metric are. The native core has the same as a struct.
_PLAN = struct.Struct("=Q5H6x")
_NOWHERE = 0xFFFF

if entrenar_native.core is not None:  # as functions are pickled and copied: by name
    copyreg.pickle(entrenar_native.core.Call, lambda call: call.__qualname__)


def native_path(clock: Clock, namespace: dict[str, Any]) -> HotPath | None:
    """What the native calls of one recorder share; None: without a native core, or with another clock.

    What the reference knows of a combination of names is in `namespace["writers"]`.
    """
    if (core := entrenar_native.core) is None or clock.monotonic_ns is not time.monotonic_ns:
        return None
    kept = (np.float64, np.float32, core.Writer, core.Call, *_PLACE)
    path: HotPath = core.HotPath(lambda names: _learn(namespace, names), kept)
    return path


def native_call(
    path: HotPath, reference: Callable[..., None], values: int = 0, watched: int | None = None
) -> Any:
    """A native `log`, or a function bound to so many values, that looks as its reference does."""
    call = path.call(reference, values, -1 if watched is None else watched)
    return functools.update_wrapper(call, reference, updated=())


def step_calls(
    path: HotPath | None, begin: Callable[..., None], end: Callable[..., None], holder: int
) -> tuple[Callable[..., None], Callable[..., None]]:
    """What begins and ends a training step, natively where it can be; these are the reference.

    `holder` is the `StepState.holder` of a step that is begun without one.
    """
    if path is None:
        return begin, end
    calls = path.call(begin, holder, -1, "begin"), path.call(end, holder, -1, "end")
    return functools.update_wrapper(calls[0], begin, updated=()), functools.update_wrapper(
        calls[1], end, updated=()
    )


def _learn(namespace: dict[str, Any], names: tuple[str, ...]) -> bytes | None:
    """How a call of `log` with these keywords is recorded; None: not by the native core."""
    try:
        _, head, _, watched = namespace["writers"][tuple([name for name in names if name not in _PLACE])]
        at = [names.index(name) if name in names else _NOWHERE for name in (*_PLACE, watched)]
        return _PLAN.pack(head, len(names) - sum(name in names for name in _PLACE), *at) if head else None
    except Exception as error:  # not known, or too many
        if is_foreign(error):
            raise
        return None


class HeldPlace:
    """A coordinate among the reference's globals that the native core keeps: `struct` asks for its number.

    `which` is 0 for the epoch, 1 for the batch, 2 for the step.
    """

    __slots__ = ("_name", "_path")

    def __init__(self, path: HotPath, which: int) -> None:
        self._path, self._name = path, _PLACE[which]

    def __index__(self) -> int:
        number: int = getattr(self._path, self._name)
        return number
