"""A promise: done, failed, or still hanging, and never anybody else's thread."""

from __future__ import annotations

import threading

import pytest

from entrenar_otel.delivery.promise import Promise


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_one_that_hangs_is_not_waited_for() -> None:
    """It is not done; when it goes on, its result is there, and its thread is gone."""
    gate = threading.Event()
    promise = Promise("hangs", lambda: gate.wait(60) and "late")
    assert (promise.wait(0.01), promise.is_done) == (False, False)
    gate.set()
    assert (promise.result(), promise.is_done, threads("hangs")) == ("late", True, [])


def test_what_is_raised_is_raised_to_who_asks() -> None:
    """Each time, and also what is no Exception."""

    def fail() -> None:
        raise KeyboardInterrupt("mine")

    promise = Promise("fails", fail)
    assert promise.wait(60)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt, match="mine"):
            promise.result()


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the exit of Python 3.12: the work is done at once, by whoever made the promise."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert Promise("now", threading.get_ident).result() == threading.get_ident()
