"""A finding as data: where it was, how bad it is, and how it reads as JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from entrenar_processors import Coordinates, Finding, Series, Severity
from entrenar_processors.samples import Column

AT = Coordinates(time_ns=11, epoch=2, batch=3, step=4, seq=5)
PLAIN = Finding("zscore", Series.of("loss", {"split": "train"}), Severity.MEDIUM, AT, 2.5, 1.0, 4.2)


@pytest.mark.parametrize(
    ("sigma", "severity"),
    [(3.99, "low"), (4.0, "medium"), (4.99, "medium"), (5.0, "high"), (-5.0, "high"), (math.inf, "high")],
)
def test_severities_begin_at_their_limits(sigma: float, severity: str) -> None:
    assert Severity.of_sigma(sigma) == severity


def test_coordinates_of_a_row() -> None:
    """Each from its own column, as plain Python."""
    times, epochs, batches, steps, seqs = (np.array([0, n]) for n in AT)
    narrow = (epochs.astype(np.int32), batches.astype(np.int32))
    found = Coordinates.of(Column(times, *narrow, steps, seqs, np.zeros(2)), 1)
    assert found == AT
    assert all(type(one) is int for one in found)


def test_what_was_not_reported() -> None:
    """It is -1 within, None for a person, and not there in a dictionary."""
    at = Coordinates.at(7, None, 0, None)
    assert tuple(at) == (7, -1, 0, -1, -1)
    assert at.place == (None, 0, None)
    assert at.as_dict() == {"time_ns": 7, "batch": 0}
    assert Coordinates.at(7, 1, 2, 3).place == (1, 2, 3)


def test_as_a_dictionary() -> None:
    """Flat, and what JSON can say; `over` and `text` only where they say something."""
    told = {
        "detector": "zscore",
        "metric": "loss",
        "tags": {"split": "train"},
        "severity": "medium",
        "time_ns": 11,
        "epoch": 2,
        "batch": 3,
        "step": 4,
        "seq": 5,
        "value": 2.5,
        "expected": 1.0,
        "score": 4.2,
    }
    assert PLAIN.as_dict() == told
    odd = Finding("x", Series("m"), Severity.LOW, Coordinates(), math.nan, math.inf, -math.inf, True, 1, "t")
    assert odd.as_dict() == {
        "detector": "x",
        "metric": "m",
        "tags": {},
        "severity": "low",
        "value": "NaN",
        "expected": "Infinity",
        "score": "-Infinity",
        "resolved": True,
        "text": "t",
    }
    json.dumps(odd.as_dict(), allow_nan=False)


def test_the_order_is_that_of_the_recording() -> None:
    places = [(1, "b", "x"), (1, "a", "y"), (0, "z", "z"), (1, "a", "x")]
    findings = [
        Finding(detector, Series(metric), Severity.LOW, Coordinates(seq=seq), 0.0, 0.0, 0.0)
        for seq, metric, detector in places
    ]
    told = [
        (f.at.seq, f.series.metric, f.detector) for f in sorted(findings, key=lambda finding: finding.order)
    ]
    assert told == sorted(places)


def test_findings_that_are_made_together_are_as_any() -> None:
    """Equal, hashable, frozen, with defaults of their own."""
    names, severities = [PLAIN.series, Series("x")], [Severity.MEDIUM, Severity.LOW]
    one, other = Finding.each_of("zscore", names, severities, [AT, AT], [2.5, 1.0], [1.0, 2.0], [4.2, 3.0])
    assert one == PLAIN
    assert hash(one) == hash(PLAIN)
    assert other == Finding("zscore", Series("x"), Severity.LOW, AT, 1.0, 2.0, 3.0)
    assert type(one) is Finding
    with pytest.raises(AttributeError):
        one.count = 2  # type: ignore[misc]
