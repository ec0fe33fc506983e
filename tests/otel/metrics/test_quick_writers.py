"""The function for the attribute names that came last: used where they come again, and only there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.otel.metrics.series_writers import SeriesWriters
from entrenar_otel.testing import recorded_run, strict


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    """With the machine's clock, which the native core reads."""
    settings: dict[str, Any] = {"quiet": True, "settings_file": None, "interval_seconds": 1e5}
    with strict(), Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", **settings) as monitor:
        yield monitor


@pytest.fixture
def looked_up(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The attributes of the calls whose function was looked up by all names."""
    if recorded_run(monitor).recorder.hot is None:
        pytest.skip("the native core is not in use")
    seen: list[Any] = []
    before = SeriesWriters.by_names

    def spy(self: SeriesWriters, amount: Any, attributes: Any) -> None:
        seen.append(attributes)
        before(self, amount, attributes)

    monkeypatch.setattr(SeriesWriters, "by_names", spy)
    return seen


def made(monitor: Monitor, kind: str, name: str) -> Any:
    provider = WrappingMeterProvider()
    monitor.adopt(provider)
    return getattr(provider.get_meter("m"), f"create_{kind}")(name)


def values(monitor: Monitor) -> list[tuple[Any, ...]]:
    table = monitor.query("SELECT * FROM metrics ORDER BY seq").to_pylist()
    return [(row["value"], dict(row["tags"]), row["epoch"]) for row in table]


def test_the_same_names_again_are_not_looked_up(monitor: Monitor, looked_up: list[Any]) -> None:
    """In any order, with any values that are known; a new value is learnt, other names are looked up."""
    gauge = made(monitor, "gauge", "training.heat").set
    gauge(1.0, {"epoch": 3, "layer": "a"})
    gauge(1.0, {"epoch": 3, "layer": "b"})
    looked_up.clear()
    gauge(2.0, {"epoch": 4, "layer": "a"})
    gauge(3.0, {"layer": "b", "epoch": 5})
    assert looked_up == []
    gauge(4.0, {"epoch": 5, "layer": "c"})
    gauge(5.0, {"epoch": 6, "layer": "c"})
    assert looked_up == [{"epoch": 5, "layer": "c"}]
    others: list[Any] = [{"layer": "a"}, {"epoch": 7, "split": "a"}, {"epoch": 7, "layer": "a", "n": 1}, None]
    for attributes in others * 2:
        gauge(6.0, attributes)
    expected = [
        *((1.0, {"layer": "a"}, 3), (1.0, {"layer": "b"}, 3), (2.0, {"layer": "a"}, 4)),
        *((3.0, {"layer": "b"}, 5), (4.0, {"layer": "c"}, 5), (5.0, {"layer": "c"}, 6)),
        *[
            *((6.0, {"layer": "a"}, None), (6.0, {"split": "a"}, 7)),
            *((6.0, {"layer": "a", "n": "1"}, 7), (6.0, {}, None)),
        ]
        * 2,
    ]
    assert values(monitor) == expected


def test_who_changes_names_is_looked_up_by_them(monitor: Monitor, looked_up: list[Any]) -> None:
    """As many names, but others: that is found by a failed look-up, which is not to be had at every call."""
    gauge = made(monitor, "gauge", "training.heat").set
    for split in ("a", "b"):
        gauge(1.0, {"layer": split})
        gauge(1.0, {"split": split})
    looked_up.clear()
    for _ in range(3):
        gauge(1.0, {"layer": "a"})
        gauge(1.0, {"split": "a"})
    assert len(looked_up) == 6


def test_values_that_are_one_key_of_a_dictionary(monitor: Monitor, looked_up: list[Any]) -> None:
    """True, 1 and 1.0 are three series, quickly too."""
    gauge = made(monitor, "gauge", "training.heat").set
    for _ in range(3):
        for value in (True, 1, 1.0, "1"):
            looked_up.clear()
            gauge(1.0, {"x": value})
    assert looked_up == []
    assert [tags["x"] for _, tags, _ in values(monitor)] == ["true", "1", "1.0", "1"] * 3


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_what_must_not_fall(monitor: Monitor, looked_up: list[Any], kind: str) -> None:
    """A negative amount is refused, NaN is not."""
    instrument = made(monitor, kind, "training.heat")
    record = instrument.add if kind == "counter" else instrument.record
    for amount in (1.0, 2.0, -1.0, math.nan, 3.0):
        record(amount, {"x": "a"})
    assert [str(value) for value, _, _ in values(monitor)] == ["1.0", "2.0", "nan", "3.0"]


def test_a_loss_that_is_not_finite_holds_the_line(monitor: Monitor, looked_up: list[Any]) -> None:
    """It is looked at where everything is quick, too."""
    gauge = made(monitor, "gauge", "training.loss").set
    gauge(1.0, {"epoch": 1})
    looked_up.clear()
    gauge(2.0, {"epoch": 1})
    gauge(3, {"epoch": 1})
    assert looked_up == []
    gauge(math.nan, {"epoch": 1})
    assert looked_up == [{"epoch": 1}]
    assert recorded_run(monitor).recorder._held
