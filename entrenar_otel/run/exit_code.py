"""Exit code: with what the program leaves, which nobody tells what runs at exit.

`sys.exit(1)` raises SystemExit, no hook sees it, and it is gone before functions at exit are called. So
`sys.exit`, and `exit` and `quit` of the site module, leave a mark in the traceback: it goes when the
exception does. If there is no Python code left to go back to then, nobody has caught it, and the program ends
of it. `raise SystemExit(1)` is not seen.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

_Undo = Callable[[], None]
_undo: list[_Undo] = []
#: The exit that nobody caught, once it was seen.
_final: list[SystemExit] = []


class _Mark:
    """Lives as long as the exception of one exit."""

    __slots__ = ("code",)

    def __init__(self, code: Any) -> None:
        self.code = code

    def __del__(self) -> None:
        is_last = sys._getframe().f_back is None
        if is_last and threading.current_thread() is threading.main_thread():
            _final[:] = [SystemExit(self.code)]


def final_exit() -> SystemExit | None:
    """How the program leaves, where that was seen; at exit."""
    return _final[0] if _final else None


def watch_exit() -> None:
    """See with what the program leaves, from now on."""
    if _undo:
        return
    leave = sys.exit

    def exit(status: Any = None, /) -> Any:  # noqa: A001 - it stands for that one
        mark = _Mark(status)
        leave(status)
        return mark  # never: it lives until here

    exit.__doc__, exit.__module__, exit.__qualname__ = leave.__doc__, "sys", "exit"
    sys.exit = exit

    def undo() -> None:
        if sys.exit is exit:  # else somebody has put another in its place, which may call this one
            sys.exit = leave

    _undo.append(undo)
    with contextlib.suppress(ImportError, AttributeError):
        _watch_quitter()


def _watch_quitter() -> None:
    """`exit(1)` of the site module, which scripts use too."""
    from _sitebuiltins import Quitter

    call: Any = Quitter.__call__

    def __call__(self: Any, code: Any = None) -> Any:  # noqa: N807 - it stands for that one
        mark = _Mark(code)
        call(self, code)
        return mark

    Quitter.__call__ = __call__  # type: ignore[method-assign]

    def undo() -> None:
        if Quitter.__call__ is __call__:
            Quitter.__call__ = call  # type: ignore[method-assign]

    _undo.append(undo)


def unwatch_exit() -> None:
    """Leave everything as it was."""
    while _undo:
        _undo.pop()()
