"""Interruption: an exception that a signal handler raised while it interrupted us, and that is not ours."""

from __future__ import annotations

import inspect
import signal
from types import CodeType, FrameType
from typing import Any


def from_outside(error: BaseException) -> bool:
    """Whether a signal handler (or a trace function) raised this while it interrupted the code at hand.

    What our own code raises, or that of an argument (`__float__`, say), does so in a call that somebody
    wrote. A handler is called by the interpreter, with the frame that it interrupts as an argument: nobody
    else passes that. One that hides its arguments is known by its code while it is installed.
    """
    trace = error.__traceback__
    if trace is None or trace.tb_next is None:
        return False
    handlers = _handlers()
    while trace is not None and (inner := trace.tb_next) is not None:
        called = inner.tb_frame
        if called.f_code in handlers or _is_given(called, trace.tb_frame):
            return True
        trace = inner
    return False


_ABOUT_A_RECORD = (TypeError, ValueError, LookupError, ArithmeticError, MemoryError)


def is_foreign(error: Exception) -> bool:
    """Whether what left the fast path of a recorder has nothing to do with the record.

    Also what another thread has this one raise (PyThreadState_SetAsyncExc): it comes without arguments, and
    what C code raises about a record has some.
    """
    trace = error.__traceback__
    if trace is not None and trace.tb_next is None:
        return not error.args and not isinstance(error, _ABOUT_A_RECORD)
    return from_outside(error)


def _is_given(called: FrameType, interrupted: FrameType) -> bool:
    """Whether this call has the frame of its caller among its arguments."""
    code = called.f_code
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    given = called.f_locals
    for name in code.co_varnames[:count]:
        value = given.get(name)
        if value is interrupted or (
            type(value) is tuple and any(element is interrupted for element in value)
        ):
            return True
    return False


def _handlers() -> set[CodeType]:
    """The code of the signal handlers that are installed."""
    codes = set()
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        if callable(handler):
            handler = getattr(handler, "func", handler)  # a partial's
            handler = getattr(handler, "__func__", handler)  # a method's
            if not hasattr(handler, "__code__"):
                handler = type(handler).__call__
            if isinstance(code := getattr(handler, "__code__", None), CodeType):
                codes.add(code)
    return codes
