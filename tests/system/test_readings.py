"""Readings: totals become what was added, and what a machine does not give is left out."""

from __future__ import annotations

import logging

import pytest
from entrenar_processors import Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.system.readings import Readings


@given(st.lists(st.integers(0, 10**6), min_size=1))
def test_what_was_added_is_a_total_again(amounts: list[int]) -> None:
    readings, total, seen = Readings(), 7, 0.0
    readings.add_since("system.disk.io", total)
    for amount in amounts:
        total += amount
        readings.add_since("system.disk.io", total)
        seen += readings.take()[Series("system.disk.io")]
    assert seen == sum(amounts)


def test_a_total_that_began_anew_adds_nothing_once() -> None:
    """A network card that was taken out and put back counts from zero: the rest is known again at once."""
    readings = Readings()
    taken = []
    for total in (500, 700, 20, 25):
        readings.add_since("system.network.io", total, {"network.io.direction": "receive"})
        taken.append(list(readings.take().values()))
    assert taken == [[], [200.0], [], [5.0]]


def test_what_cannot_be_read_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "entrenar_otel")
    readings, tries = Readings(), []

    def broken() -> float:
        tries.append(1)
        raise FileNotFoundError("/proc/diskstats")

    assert [readings.attempt("the disks", broken) for _ in range(3)] == [None] * 3
    assert len(tries) == 3
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "the disks is not read on this machine: FileNotFoundError" in caplog.text


def test_ctrl_c_is_nobodys_failure() -> None:
    def interrupted() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Readings().attempt("anything", interrupted)
