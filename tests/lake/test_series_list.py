"""The list of a run's series: what comes first, and what names have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Series

from entrenar_otel import Monitor
from entrenar_otel.errors import NotMeasured
from entrenar_otel.lake import Lake
from entrenar_otel.lake.details import run_details
from entrenar_otel.lake.series_list import Family, ListedSeries, families, foremost, list_series, matching


def listed(*names: str | Series, nonfinite: int = 0) -> list[ListedSeries]:
    return [
        ListedSeries(Series(name) if isinstance(name, str) else name, 10, nonfinite, 0.0, 1.0)
        for name in names
    ]


def rounded(value: Any) -> Any:
    """Without last digits: DuckDB adds up in the order in which its threads read."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def metrics_of(rows: list[ListedSeries]) -> list[str]:
    return [one.series.metric for one in rows]


def test_what_people_look_at_comes_first_and_numbers_are_in_their_order() -> None:
    """Losses, what was not finite, what is good or bad by its name, then names; the machine's own last."""
    rows = listed("layers.10.norm", "layers.9.norm", "process.cpu.utilization", "f1", "norm", "loss")
    rows += [*listed("layers.11.norm", nonfinite=2), *listed("val_loss")]
    ordered = ["val_loss", "loss", "layers.11.norm", "f1", "norm", "layers.9.norm", "layers.10.norm"]
    assert metrics_of(foremost(rows, 99)) == [*ordered, "process.cpu.utilization"]
    assert metrics_of(foremost(rows, 4)) == [*ordered[:3], "process.cpu.utilization"]


def test_few_of_the_training_leave_their_room_to_the_machine() -> None:
    """At most half of the places are the machine's, where the training has as many."""
    machine = ["process.cpu.utilization", "process.memory.usage", "process.thread.count"]
    assert metrics_of(foremost(listed("loss", *machine), 4)) == ["loss", *machine]
    assert metrics_of(foremost(listed("a", "b", "c", *machine), 4)) == ["a", "b", *machine[:2]]


def test_a_family_of_one_keeps_its_name_and_tags_are_part_of_it() -> None:
    """Values of tags and numbers in names are what tells the members of a family apart."""
    tagged = [Series.of("norm", {"layer": layer, "kind": "w"}) for layer in ("encoder", "decoder")]
    found = families(listed("layer3.norm", Series.of("x", {"a": "1"}), *tagged, nonfinite=1))
    assert [(one.name, one.series, one.nonfinite) for one in found] == [
        ("norm{kind=*, layer=*}", 2, 2),
        ("layer3.norm", 1, 1),
        ("x{a=1}", 1, 1),
    ]
    nothing = [ListedSeries(Series(name), 1, 1, None, None) for name in ("a1", "a2")]
    assert families(nothing) == [Family("a*", 2, 2, 2, None, None)]


def test_names_and_patterns() -> None:
    """A name may have signs that a pattern has; case counts."""
    rows = listed("layers.0.norm", "layers.1.norm", "odd[0]", "Loss")
    assert metrics_of(matching(rows, ["layers.*", "odd[0]"])) == ["layers.0.norm", "layers.1.norm", "odd[0]"]
    assert matching(rows, ["loss"]) == []


@pytest.fixture
def lake() -> Lake:
    """A run with 60 series of one metric by tags, and as many of another by name, interrupted once."""
    for attempt in range(2):
        with Monitor("wide", lake="lake", quiet=True) as monitor:
            for step in range(3 * attempt, 3 * attempt + 4):
                monitor.log(loss=1 / (1 + step), step=step)
                monitor.log({f"h.{at}": at + step / 8 for at in range(60)}, step=step)
                for layer in range(60):
                    monitor.log(norm=layer * step, step=step, tags={"layer": layer, "kind": "it's"})
            monitor.log({"h.7": np.nan}, step=9)
    return Lake("lake")


def test_some_are_as_they_are_among_all(lake: Lake) -> None:
    """The same numbers and curves, whether all are asked for, those of a pattern, or the foremost."""
    details = rounded(run_details(lake, "wide"))
    everything = {(row["metric"], *row["tags"].items()): row for row in details["metrics"]}
    foremost_ones = rounded(run_details(lake, "wide", most=30))
    some = rounded(run_details(lake, "wide", ["norm", "h.5*"]))
    assert "families" not in some
    assert len(some["metrics"]) == 60 + 11
    for row in (*foremost_ones["metrics"], *some["metrics"]):
        assert row == everything[row["metric"], *row["tags"].items()]
    shown = [row["metric"] for row in foremost_ones["metrics"]]
    assert shown[:4] == ["loss", "h.7", "h.0", "h.1"]
    assert len(shown) == 30
    left = {family.name: family.series for family in foremost_ones["families"]}
    assert sum(left.values()) == len(everything) - 30
    assert left["norm{kind=*, layer=*}"] == 60
    assert rounded(run_details(lake, "wide", most=500)) == details | {"families": []}


def test_what_was_not_measured_says_what_was(lake: Lake) -> None:
    """A few names, not thousands."""
    with pytest.raises(
        NotMeasured, match=r"'los' was not measured in run wide; measured: loss, .*, h\.1, .*…$"
    ):
        run_details(lake, "wide", ["norm", "los"])


def test_a_listing_counts_what_is_not_finite(lake: Lake) -> None:
    """Extremes are of finite values."""
    (one,) = matching(list_series(lake, "wide", "metrics"), ["h.7"])
    assert (one.count, one.nonfinite, one.low, one.high) == (10, 2, 7.0, 7.75)
