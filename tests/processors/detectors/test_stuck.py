"""StuckDetector: what is told, what settles by itself is not, and it is its definition as a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors import Samples, Severity, StuckDetector
from hypothesis import given
from hypothesis import strategies as st


def found(values: Any, series: str = "loss", **settings: Any) -> list[tuple[int, float, float, float]]:
    every = StuckDetector(**settings).update(Samples.from_columns({series: np.asarray(values, float)}))
    assert {one.severity for one in every} <= {Severity.HIGH}
    return [(one.at.seq, one.value, one.expected, one.score) for one in every]


def noise(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(2.0, 0.1, n)


def by_loop(values: list[float], same_after: int) -> list[tuple[int, float, float, float]]:
    """The definition, one value after the other."""
    hits = []
    moves: list[bool] = []
    last, before, run, longest = float("nan"), float("nan"), 0, 0
    for i, value in enumerate(values):
        if value != last:
            longest, run = max(longest, run), 0
            moves.append(abs(value - last) > 1e-3 * abs(last))
            before, last = last, value
        run += 1
        if run == max(same_after, 4 * longest) and sum(moves[-32:]) >= 16:
            hits.append((i, value, before, float(run)))
    return hits


VALUES = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 1.0001, 2.0, -3.0, 1e200]), st.integers(1, 60)), max_size=80
).map(lambda pairs: [value for value, n in pairs for _ in range(n if n > 50 else 1 + n // 20)])


@given(VALUES, st.integers(2, 12), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_it_is_its_definition_in_any_pieces(values: list[float], same_after: int, sizes: list[int]) -> None:
    """Beside a series that always moves and one that never does."""
    detector, hits, at = StuckDetector(same_after=same_after), [], 0
    size = 0
    while at < len(values):
        n = sizes[size % len(sizes)]
        size += 1
        part = np.asarray(values[at : at + n])
        columns = {"loss": part, "loss/moves": noise(len(part), at), "loss/same": np.ones(len(part))}
        hits += detector.update(Samples.from_columns(columns, seq=range(at, at + len(part))))
        at += n
    mine = [(one.at.seq, one.value, one.expected, one.score) for one in hits if str(one.series) == "loss"]
    assert mine == by_loop(values, same_after)


@pytest.mark.parametrize("value", [0.0, 2.0, -1.0])
def test_a_loss_that_stands_still_is_told_once(value: float) -> None:
    """Zero as well: some frameworks show a NaN as that."""
    before = noise(300)
    assert found([*before, *[value] * 500]) == [(349, value, before[-1], 50.0)]
    assert found([*before, *[value] * 500], same_after=200) == [(499, value, before[-1], 200.0)]


def test_once_more_where_it_had_moved_again() -> None:
    values = [*noise(100), *[1.0] * 60, *noise(100), *[1.0] * 600]
    assert [seq for seq, *_ in found(values)] == [149, 260 + 4 * 60 - 1]


def test_what_settles_by_itself_is_not_told() -> None:
    """A plain descent to the last bit, a metric that is always the same, one that is logged often."""
    weight, settling = 5.0, []
    for _ in range(2000):
        settling.append(weight**2 + 0.25)
        weight -= 0.02 * weight
    assert settling[-1] == settling[-200]
    assert found(settling) == []
    assert found([0.5] * 500) == []
    assert found(np.repeat(noise(60), 15)) == []
    assert found([*noise(10), *[1.0] * 500]) == [], "too little is known of it"


def test_nan_between_does_not_count() -> None:
    """It is NonfiniteDetector's; the same number goes on behind it."""
    values = [*noise(100), *[1.0, np.nan] * 50]
    assert [seq for seq, *_ in found(values)] == [198]


def test_metrics_by_name_and_bad_settings() -> None:
    """Usual names of a loss are watched, nothing else is."""
    values = [*noise(100), *[1.0] * 100]
    assert len(found(values, "train/loss")) == 1
    assert found(values, "accuracy") == []
    assert len(found(values, "f1", metrics=["f1"])) == 1
    with pytest.raises(ValueError, match="expected same_after at least 2, got 1"):
        StuckDetector(same_after=1)
