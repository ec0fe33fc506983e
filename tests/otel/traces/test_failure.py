"""Failures: what a span says of the exception that ended it, or of an end without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.tables.journal import close_span
from entrenar_otel.otel.traces.failure import describe, type_of
from tests.otel.traces.conftest import Make, Notes, spans

pytestmark = pytest.mark.usefixtures("clean_context")


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_a_crash_is_in_the_span_of_the_run(make: Make, notes: Notes) -> None:
    """Its type on all that was open, the exception itself once, on the run; no secret in it."""
    tracing = make()
    tracing.start()
    tracing.begin_epoch(0)
    tracing.end("crashed", "ValueError: bad", ValueError("bad: https://ana:hunter2@host/"))
    run, epoch = spans(notes)["training.run"], spans(notes)["training.epoch"]
    assert (run["attributes"]["error.type"], epoch["attributes"]["error.type"]) == ("ValueError",) * 2
    assert epoch["events"] == []
    (event,) = (one for one in run["events"] if one["name"] == "exception")
    assert event["attributes"]["exception.type"] == "ValueError"
    assert event["attributes"]["exception.message"].startswith("bad: https://")
    assert "hunter2" not in json.dumps(notes)


@pytest.mark.parametrize(
    ("state", "error", "error_type"),
    [
        ("completed", SystemExit(0), None),
        ("stopped", AndonStop("loss is nan"), "entrenar_otel.errors.AndonStop"),
        ("stopped", None, "_OTHER"),
        ("crashed", None, "_OTHER"),
    ],
)
def test_other_ends(
    make: Make, notes: Notes, state: str, error: BaseException | None, error_type: str | None
) -> None:
    """What was stopped has a type and no exception; a failure without one has OpenTelemetry's fallback."""
    tracing = make()
    tracing.start()
    tracing.end(state, "why", error)
    run = spans(notes)["training.run"]
    assert run["attributes"].get("error.type") == error_type
    assert "exception" not in {event["name"] for event in run["events"]}


def test_a_run_that_crashes_says_so_in_the_lake(tmp_path: Path) -> None:
    """From the `with` to the row."""
    lake = tmp_path / "lake"
    with (
        pytest.raises(ZeroDivisionError),
        Monitor("r", lake=lake, live=tmp_path / "live", quiet=True) as monitor,
    ):
        monitor.log(loss=1 / 0)
    rows = Lake(lake, tmp_path / "live").query(
        "SELECT attributes['error.type'] AS error, [one.name FOR one IN events] AS events FROM spans "
        "WHERE name = 'training.run'"
    )
    (row,) = rows.to_pylist()
    assert row["error"] == "ZeroDivisionError"
    assert "exception" in row["events"]


def test_a_dead_process_has_a_type_too() -> None:
    """Of its open spans nobody knows more than that."""
    ended = close_span({"start_ns": 5, "attributes": {"a": 1}}, 9, "the process died")
    assert ended["attributes"] == {"a": 1, "error.type": "_OTHER"}
    assert close_span({"attributes": "odd"}, 9, "")["attributes"] == {"error.type": "_OTHER"}


def test_names_of_exceptions() -> None:
    """As the SDK names them; a `__str__` that raises is no failure of ours."""
    assert type_of(Odd()) == f"{__name__}.Odd"
    assert describe(Odd()).startswith("Odd: <Odd")
