"""Measurements: findings that ask for nothing are one event an epoch, and hang on theirs."""

from __future__ import annotations

from typing import Any

import pytest
from entrenar_processors import Coordinates, Finding, Series, Severity

from entrenar_otel.andon.judging.measurements import MAX_EVENTS, Measurements


def found(epoch: int, score: float, series: str = "loss", count: int = 1) -> Finding:
    at = Coordinates(time_ns=1, epoch=epoch, step=int(abs(score) * 10), seq=7)
    return Finding("zscore", Series(series), Severity.LOW, at, score, 0.0, score, count=count)


def test_an_epoch_has_one_event_for_each_series() -> None:
    """How many there were, and all that is known of the largest, of either sign; where it was."""
    events: list[tuple[str, dict[str, Any], Any]] = []
    measurements = Measurements(lambda name, attributes, at: events.append((name, attributes, at)))
    for finding in (
        found(0, 3.0),
        found(0, -4.0, count=2),
        found(0, 3.5),
        found(1, 3.1),
        found(0, 3.2, "norm"),
    ):
        measurements.add(finding)
    measurements.end(1)
    assert [(name, one["metric"], one["count"], one["score"], at) for name, one, at in events] == [
        ("training.finding", "loss", 4, -4.0, (0, None, 40)),
        ("training.finding", "norm", 1, 3.2, (0, None, 32)),
    ]
    measurements.end(1)
    assert len(events) == 2
    measurements.end()
    assert events[2][1]["count"] == 1
    measurements.end()
    assert len(events) == 3


def test_what_finds_no_room_is_counted() -> None:
    """Those with the fewest; a layer each, say."""
    events: list[dict[str, Any]] = []
    lost: list[int] = []
    measurements = Measurements(lambda _name, attributes, at: events.append(attributes), lost=lost.append)
    for layer in range(MAX_EVENTS + 3):
        measurements.add(found(0, 3.0, f"norm{layer}", count=2 if layer else 1))
        if layer > 3:
            measurements.add(found(0, 3.0, f"norm{layer}"))
    measurements.end()
    assert len(events) == MAX_EVENTS
    assert {one["count"] for one in events} == {2, 3}
    assert sum(lost) == 1 + 2 + 2


def test_a_z_score_hangs_on_its_epoch(judged: Any) -> None:
    """And is neither an event of its own nor an active alert; what notifies is both."""
    with judged() as one:
        for epoch in one.monitor.epochs(3):
            for batch in one.monitor.steps(range(60)):
                wild = 9.0 if epoch == 1 and batch in (20, 40) else 0.0
                one.monitor.log(loss=2 + 0.1 * ((7 * batch) % 11) + wild, step=60 * epoch + batch)
        one.tick()
        active = {p.attributes["name"]: p.value for p in one.points("training.alert.active")}
        assert "zscore" not in active
        assert set(active.values()) == {0.0}
        assert one.points("training.anomalies")
        one.monitor.flush()
    rows = one.monitor.query(
        "SELECT e.epoch, e.attributes->>'detector' AS detector, (e.attributes->>'count')::INT AS n, "
        "s.attributes->>'training.epoch' AS span FROM events e JOIN spans s USING (span_id) "
        "WHERE e.name = 'training.finding' ORDER BY e.timestamp"
    ).to_pylist()
    assert [(row["epoch"], row["detector"], row["n"]) for row in rows] == [(1, "zscore", 2)]
    assert rows[0]["span"] == "1"


@pytest.mark.parametrize("epoch", [None, 5])
def test_of_no_known_epoch_it_is_the_run_s(judged: Any, epoch: int | None) -> None:
    """At its end; nothing is lost."""
    with judged() as one:
        for step in range(60):
            one.monitor.log(loss=2 + 0.1 * (step % 11) + 9.0 * (step == 40), step=step, epoch=epoch)
    (row,) = one.monitor.query("SELECT epoch, step FROM events WHERE name = 'training.finding'").to_pylist()
    assert (row["epoch"], row["step"]) == (epoch, 40)
