"""What a signal handler raises is told from what our own lines raise, whatever kind it is."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.interruption import from_outside


class Late(Exception):
    """A time limit, say."""


class LateTimeout(TimeoutError):
    """One that is an OSError, as a full disk's is."""


class LateValue(ValueError):
    """One that is a ValueError, as a full segment's is."""


def raised(call: Callable[[], Any]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        call()
    return caught.value


class Handlers:
    def method(self, _number: int, _frame: Any) -> None:
        raise Late

    def __call__(self, *_given: Any) -> None:
        raise Late


def plain(_number: int, _frame: Any) -> None:
    raise Late


def hidden(number: Any, frame: Any) -> None:
    del number, frame
    raise Late


def keeping(frame: Any, _number: int = 0, **_: Any) -> None:
    raise Late


def with_first(_first: int, _number: int, _frame: Any) -> None:
    raise Late


HANDLERS = [
    plain, hidden, Handlers().method, Handlers(), functools.partial(with_first, 1), lambda *_: plain(1, 2),
]  # fmt: skip


@pytest.mark.parametrize("handler", HANDLERS)
def test_what_a_handler_raises_is_from_outside(handler: Any, on_signal: Any) -> None:
    """Whatever kind of function it is, and however deep in our code it comes."""
    on_signal(handler)

    def deeper() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    assert from_outside(raised(deeper))
    assert from_outside(raised(functools.partial(sorted, [1], key=lambda _: deeper())))


class Odd:
    """A value that fails."""

    def __float__(self) -> float:
        raise Late


def test_what_a_value_raises_is_ours(recorder: Any) -> None:
    """An argument's own code was called by us: it is refused, and the loop goes on."""
    assert not from_outside(raised(lambda: float(Odd())))
    assert not from_outside(Late())
    recorder.log(loss=1.0)
    recorder.log(loss=Odd(), accuracy=2.0)
    bound = recorder.bind(["loss"], None)
    bound(1.0)
    bound(Odd())
    assert recorder.values() == [{"loss": 1.0}, {"accuracy": 2.0}, {"loss": 1.0}]


def test_what_another_thread_has_this_one_raise_leaves_log(recorder: Any) -> None:
    """PyThreadState_SetAsyncExc: no frame of its own, and no argument."""
    import ctypes

    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    recorder.log(loss=0.0)
    if recorder.hot is not None:
        recorder.hot.writer = None  # a native call is one instruction; the reference is several
    ident = ctypes.c_ulong(threading.get_ident())
    write = recorder.namespace["write"]
    # as a thread would between two instructions of the fast path: behind this call of C code
    recorder.namespace["write"] = functools.partial(raise_in, ident, ctypes.py_object(Late))
    with pytest.raises(Late):
        recorder.log(loss=1.0)
    recorder.namespace["write"] = write
    assert recorder.values() == [{"loss": 0.0}]
