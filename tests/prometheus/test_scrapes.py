"""Scrapes: when the next one is expected, and by whom."""

from __future__ import annotations

import pytest

from entrenar_otel.prometheus.scrapes import Scrapes


@pytest.mark.parametrize(
    ("scrapes", "now", "seconds"),
    [
        ([], 100, 0),  # nobody
        ([("a", 90)], 100, 0),  # somebody looked once
        ([("a", 80), ("a", 95)], 100, 30),
        ([("a", 80), ("a", 95)], 140, 30),  # it missed two
        ([("a", 80), ("a", 95)], 141, 0),  # it is gone
        ([("a", 80), ("b", 81), ("a", 95), ("b", 96)], 100, 30),  # two of a pair, each by itself
        ([("a", 10), ("a", 10.5), ("b", 40), ("b", 70)], 100, 60),  # a person, and the slowest that is there
    ],
)
def test_the_next_scrape(scrapes: list[tuple[str, float]], now: float, seconds: float) -> None:
    """Twice the interval of whoever scrapes still."""
    seen = Scrapes()
    for client, at in scrapes:
        seen.answered(client, at)
    assert seen.next_within(now) == seconds


def test_clients_without_end() -> None:
    """Are not kept without end."""
    seen = Scrapes()
    for number in range(1_000):
        seen.answered(str(number), 1.0)
    assert len(seen._times) == 100


def test_awaiting_one() -> None:
    """One that began before does not count: it may have the state before."""
    seen = Scrapes()
    assert not seen.is_awaited
    assert not seen.is_over
    seen.await_one(1000.0)
    assert seen.is_awaited
    seen.answered("a", 0.0)
    assert not seen.is_over
    assert 900 < seen.left_seconds <= 1000
    seen.answered("a", float("inf"))
    assert seen.is_over
    assert seen.left_seconds == 0
    seen.wait()


def test_none_comes() -> None:
    """Then it is over when the time is."""
    seen = Scrapes()
    seen.await_one(0.01)
    seen.wait()
    assert seen.is_over
