"""Which callbacks are called, where one fails and where several ranks train together."""

from __future__ import annotations

import logging

import pytest

from entrenar_otel.andon.callbacks import Callbacks
from entrenar_otel.errors import AndonStop


def fail() -> None:
    raise OSError("no space")


def test_one_that_fails_prevents_none(caplog: pytest.LogCaptureFixture) -> None:
    """It is named and counted, and the outcome says so, whoever succeeds after it."""
    called: list[str] = []
    callbacks = Callbacks(world_size=1, agrees=False)
    assert callbacks.call("reduce_lr") == "not called"
    callbacks.on("reduce_lr", lambda: called.append("first"))
    assert callbacks.call("reduce_lr") == "done"
    callbacks.on("reduce_lr", fail)
    callbacks.on("reduce_lr", lambda: called.append("last"))
    assert callbacks.call("reduce_lr") == "failed"
    assert called == ["first", "first", "last"]
    assert callbacks.failures == {"reduce_lr": 1}
    assert "the callback fail on reduce_lr failed: OSError: no space" in caplog.text


def test_a_stop_passes() -> None:
    """AndonStop is no failure of a callback."""
    callbacks = Callbacks(world_size=1, agrees=False)

    def stop() -> None:
        raise AndonStop("enough")

    callbacks.on("alert", stop)
    with pytest.raises(AndonStop, match="enough"):
        callbacks.call("alert")
    assert callbacks.failures == {}


def test_a_rank_alone_calls_only_what_is_local(caplog: pytest.LogCaptureFixture) -> None:
    """What may wait for the others is not called, and that is said once per occasion."""
    caplog.set_level(logging.WARNING)
    called: list[str] = []
    callbacks = Callbacks(world_size=2, agrees=False)
    callbacks.on("stop", lambda: called.append("together"))
    assert callbacks.call("stop") == "not called"
    callbacks.on("stop", lambda: called.append("local"), local=True)
    assert callbacks.call("stop") == "done"
    assert called == ["local"]
    assert callbacks.call("stop", agreed=True) == "done"
    assert called == ["local", "together", "local"]
    assert len(caplog.records) == 1
    assert "Register it with local=True if it does not, or give AndonConfig(agree=…)" in caplog.text


def test_after_a_failure_the_ranks_are_out_of_step(caplog: pytest.LogCaptureFixture) -> None:
    """The others may wait within that call: a later one would meet them there, so it is not called."""
    called: list[str] = []
    callbacks = Callbacks(world_size=2, agrees=True)
    callbacks.on("stop", fail, local=True)
    callbacks.on("stop", lambda: called.append("before"))
    callbacks.on("stop", fail)
    callbacks.on("stop", lambda: called.append("after"))
    callbacks.on("stop", lambda: called.append("local"), local=True)
    assert callbacks.call("stop", agreed=True) == "failed"
    assert called == ["before", "local"]
    assert "a callback on stop is not called: one before it failed on this rank" in caplog.text
    callbacks.in_step = True
    callbacks.call("stop", agreed=True)
    assert called == ["before", "local"] * 2
