"""Numerical warnings of Python become findings, with the span they were raised in; none goes uncounted."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
from entrenar_processors import Coordinates

from entrenar_otel.andon.judging import numerical_warnings
from entrenar_otel.andon.judging.numerical_warnings import NumericalWarnings, finding_of, is_numerical

OVERFLOW = {"source": "warnings", "category": "RuntimeWarning", "message": "overflow encountered in exp"}


@pytest.mark.parametrize(
    ("category", "message", "expected"),
    [
        ("RuntimeWarning", "invalid value encountered in log", True),
        ("RuntimeWarning", "divide by zero encountered in divide", True),
        ("UserWarning", "Detected NaNs in the input", True),
        ("LinAlgWarning", "whatever it says", True),
        ("RuntimeWarning", "coroutine was never awaited", False),
        ("UserWarning", "the function nanobot() is slow", False),
        ("FutureWarning", "overflow behaviour will change", False),
    ],
)
def test_which_are_about_numbers(category: str, message: str, expected: bool) -> None:
    """By category, or by what they say; deprecations never are."""
    warning = {"source": "warnings", "category": category, "message": message}
    assert is_numerical(warning) is expected
    assert not is_numerical(warning | {"source": "logging"})


def test_one_of_a_run(judged: Any) -> None:
    """Raised in a span of the loop: an alert at the next tick, which names span, file and line."""
    with judged() as one:
        with one.monitor.span("expert", expert=3), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("overflow encountered in exp", RuntimeWarning, stacklevel=1)
        assert [alert.name for alert in one.monitor.alerts] == []
        (alert,) = one.alerts
        assert (alert.name, str(alert.action), str(alert.level)) == ("warning", "notify", "WARNING")
        assert alert.summary.startswith(
            "Numerical warning: expert=3: overflow encountered in exp (RuntimeWarning, "
        )
        assert "test_numerical_warnings.py:" in alert.summary
        assert alert.series is not None
        assert dict(alert.series.tags)["expert"] == "3"


def test_a_long_message_shows_that_it_is_cut() -> None:
    """The whole of it is in the event `training.warning`."""
    finding = finding_of(OVERFLOW | {"message": "nan " * 100}, Coordinates())
    assert finding.text == f"{('nan ' * 50)[:199]}… (RuntimeWarning)"


def test_too_many_between_two_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go, counted; what is taken is not there a second time."""
    monkeypatch.setattr(numerical_warnings, "MAX_WAITING", 3)
    lost: list[int] = []
    waiting = NumericalWarnings(lost.append)
    for step in range(5):
        waiting.add(OVERFLOW, Coordinates(step=step))
    waiting.add(OVERFLOW | {"source": "logging"}, Coordinates(step=9))
    assert [finding.at.step for finding in waiting.take()] == [2, 3, 4]
    assert sum(lost) == 2
    assert waiting.take() == []


def test_threads_lose_none() -> None:
    """Every warning is taken or counted, whoever adds while another takes."""
    lost: list[int] = []
    waiting = NumericalWarnings(lost.append)

    def add() -> None:
        for _ in range(2000):
            waiting.add(OVERFLOW, Coordinates())

    threads = [threading.Thread(target=add) for _ in range(4)]
    taken = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += len(waiting.take())
    for thread in threads:
        thread.join()
    assert taken + len(waiting.take()) + sum(lost) == 8000
