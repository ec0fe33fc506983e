"""The whole report: each part within its time, whatever hangs, fails, or says something."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator

import pytest

from entrenar_otel.console import logger
from entrenar_otel.doctor import report
from entrenar_otel.doctor.check import Check, Level, problem
from entrenar_otel.doctor.report import PARTS, examine
from entrenar_otel.doctor.surroundings import Surroundings


def well(_: Surroundings) -> Iterator[Check]:
    yield Check("well", "it is", facts={"token": "hunter2hunter2", "n": 1})


def test_a_usual_place_has_no_problem() -> None:
    begun: list[str] = []
    found = examine(Surroundings.find(), with_cost=False, begins=begun.append)
    assert [check for check in found.checks if check.level is Level.PROBLEM] == []
    assert (found.is_ok, found.is_hanging) == (True, False)
    assert list(found.parts) == list(PARTS) == begun
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["ok"] is True
    assert {check["part"] for check in document["checks"]} == set(PARTS)
    assert os.listdir() == []


def test_a_part_that_hangs_is_left_behind() -> None:
    """What it found until then is kept, and the others are looked at."""
    goes_on = threading.Event()

    def hangs(_: Surroundings) -> Iterator[Check]:
        yield Check("first", "found")
        goes_on.wait(1000)

    found = examine(Surroundings(), with_cost=False, parts={"hangs": hangs, "on": well}, part_seconds=0.2)
    goes_on.set()
    assert [check.name for check in found.parts["hangs"]] == ["first", "hangs"]
    assert found.parts["hangs"][1].text.startswith("no answer within 0.2 s")
    assert found.parts["on"][0].text == "it is"
    assert (found.is_ok, found.is_hanging) == (False, True)


def test_a_part_that_fails_is_told_of() -> None:
    def fails(_: Surroundings) -> Iterator[Check]:
        yield Check("first", "found")
        raise OSError(5, "Input/output error", "/mnt/x")

    found = examine(Surroundings(), with_cost=False, parts={"fails": fails})
    assert found.parts["fails"][1].level is Level.PROBLEM
    assert "OSError: [Errno 5] Input/output error: '/mnt/x'" in found.parts["fails"][1].text


def test_what_our_logger_says_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def says(_: Surroundings) -> Iterator[Check]:
        for _time in range(2):
            logger.warning("OTEL_X=banana: expected a number")
        yield Check("x", "y")

    found = examine(Surroundings(), with_cost=False, parts={"on": says})
    assert [(check.level, check.text) for check in found.parts["on"]] == [
        (Level.OK, "y"),
        (Level.NOTE, "OTEL_X=banana: expected a number"),
    ]
    assert caplog.text == ""


def test_what_is_shown_has_no_secrets_and_steers_nothing() -> None:
    def strange(_: Surroundings) -> Iterator[Check]:
        yield problem(
            "\x1b[31mred", "http://me:hunter2hunter2@host\n\x07", "token=hunter2hunter2", token="x1y2z3"
        )

    found = examine(Surroundings(), with_cost=False, parts={"a": strange, "on": well})
    (check,) = found.parts["a"]
    assert (check.name, check.text, check.advice) == ("?[31mred", "http://host ?", "token=…")
    assert "hunter2" not in str(found.as_dict())
    assert "x1y2z3" not in str(found.as_dict())
    assert found.parts["on"][0].facts["n"] == 1


def test_the_cost_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing else goes on any more."""
    monkeypatch.setattr(report, "measure", lambda: iter([Check("a step", "1 µs")]))
    begun: list[str] = []
    found = examine(Surroundings(), parts={"on": well}, begins=begun.append)
    assert begun == ["on", "cost"]
    assert list(found.parts) == ["on", "cost"]
