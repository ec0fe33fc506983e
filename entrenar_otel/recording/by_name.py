"""By name: functions that are made at run time, for pickle, which passes functions on by their names.

In the process that made it, the name leads to the function itself; in any other (a worker that was spawned, a
file that is read later) to one that records nothing, and says so once.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from entrenar_otel.identity.helper import say_unheard

#: Pids come again, in other containers too.
_TOKEN = uuid.uuid4().hex
_PREFIX = "made_"
_numbers = itertools.count()
_made: WeakValueDictionary[str, Callable[..., None]] = WeakValueDictionary()


def unheard(*_args: Any, **_kwargs: Any) -> None:
    """What records nothing where somebody may believe that it does: the first call says so."""
    say_unheard()


class AnyLayout(dict[Any, Any]):
    """In a forked child every combination of names is recorded to nowhere."""

    def __missing__(self, key: Any) -> Any:
        return _discard, 0, _discard, None


def _discard(*_args: Any) -> bytes:
    return b""


def give_name(function: Callable[..., None]) -> None:
    """Let pickle find this function. The name is nobody else's, also of those who fork from here."""
    name = f"{_PREFIX}{_TOKEN}_{os.getpid()}_{next(_numbers)}"
    function.__module__, function.__qualname__ = __name__, name
    _made[name] = function


def __getattr__(name: str) -> Any:
    if not name.startswith(_PREFIX):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _made.get(name, unheard)
