"""What holds for every processor that judges series together or by windows, whatever it looks for."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from entrenar_processors import (
    AccuracyDrop,
    DriftDetector,
    DriftMonitor,
    Finding,
    ForestMonitor,
    Processor,
    RiverAdapter,
    Samples,
    Series,
    SilentMembers,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from river.drift import ADWIN

MAKE: dict[str, Callable[[], Processor]] = {
    "accuracy_drop": lambda: AccuracyDrop(window=20),
    "drift": lambda: DriftMonitor(DriftDetector(window_size=25, threshold=0.2), validation_window=5),
    "forest": lambda: ForestMonitor(
        ("loss", "accuracy"), n_trees=10, min_samples=40, window=60, refit_seconds=50, persistence=2
    ),
    "silent": lambda: SilentMembers(("loss",), constant_after=8, nan_after=3, min_samples=3),
    "river": lambda: RiverAdapter(ADWIN, ("loss", "accuracy")),
}
every = pytest.mark.parametrize("name", list(MAKE))

TRAIN, VALIDATION = Series("accuracy"), Series.of("accuracy", {"split": "validation"})
EXPERTS = [Series.of("loss", {"expert": i}) for i in range(4)]
Rows = list[tuple[tuple[Series, ...], list[float]]]


def stream(seed: int, n: int = 600) -> Rows:
    """Rows of a run with experts that fall silent, a falling accuracy, holes and odd stretches."""
    random = np.random.default_rng(seed)
    validates, quiet, dead = random.integers(0, 2), random.integers(50, n), random.integers(0, 4)
    rows: Rows = []
    for i in range(n):
        accuracy = 0.8 + 0.05 * random.normal() - (0.3 if i > n // 2 else 0.0)
        experts = [(EXPERTS[e], 1 + 0.1 * random.normal()) for e in range(4) if e != dead or i < quiet]
        if i % 100 < 30:
            experts[0] = (experts[0][0], 1.0)
        if i % 150 < 5:
            experts = [(series, value + 3) for series, value in experts]
        experts = [(s, float(np.nan if random.random() < 0.02 else v)) for s, v in experts]
        if 100 < i < 120:
            experts[-1] = (experts[-1][0], np.nan)
        if random.random() < 0.3:  # every expert in a call of its own
            rows += [((series,), [value]) for series, value in experts]
            rows.append(((TRAIN,), [accuracy]))
        else:
            series, values = zip(*experts, strict=True)
            rows.append(((*series, TRAIN), [*values, accuracy]))
        if validates and i % 20 == 19:
            rows.append(((VALIDATION,), [accuracy]))
    return rows


def samples(rows: Rows, first: int) -> Samples:
    """As the recorder gives them: a block per set of series, seconds as time."""
    blocks: dict[tuple[Series, ...], list[int]] = {}
    for i, (series, _) in enumerate(rows):
        blocks.setdefault(series, []).append(i)
    return Samples.concat(
        Samples.from_columns(
            dict(zip(series, np.array([rows[i][1] for i in at]).T, strict=True)),
            seq=[first + i for i in at],
            time_ns=[(first + i) * 10**9 for i in at],
        )
        for series, at in blocks.items()
    )


def judge(processor: Processor, rows: Rows, cuts: list[int]) -> list[Finding]:
    found = []
    for start, end in itertools.pairwise([0, *sorted(cuts), len(rows)]):
        found += processor.update(samples(rows[start:end], start))
    return found


@every
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
def test_chunks_do_not_matter(name: str, seed: int, data: st.DataObject) -> None:
    """Whole, cut anywhere, or row by row: the same findings to the bit."""
    rows = stream(seed)
    whole, pieces = MAKE[name](), MAKE[name]()
    found = judge(whole, rows, [])
    cuts = data.draw(st.lists(st.integers(0, len(rows)), max_size=12))
    assert judge(pieces, rows, cuts) == found
    assert pieces.nonfinite == whole.nonfinite
    assert found == sorted(found, key=lambda finding: finding.order)
    assert isinstance(whole, Processor)


@every
def test_row_by_row(name: str) -> None:
    """The smallest chunks, and something is found, as plain finite numbers."""
    rows = stream(3)
    found = judge(MAKE[name](), rows, [])
    assert found
    assert judge(MAKE[name](), rows, list(range(len(rows)))) == found
    for finding in found:
        json.dumps(finding.as_dict(), allow_nan=False)


@every
def test_reset_is_as_new(name: str) -> None:
    """Nothing of an earlier run stays."""
    used = MAKE[name]()
    judge(used, stream(1), [50])
    used.reset()
    assert dict(used.nonfinite) == {}
    assert judge(used, stream(2), []) == judge(MAKE[name](), stream(2), [])


@pytest.mark.parametrize("name", [name for name in MAKE if name != "river"])  # its state is river's
def test_memory_does_not_grow(name: str) -> None:
    """After ten times as many rows the state is as large."""
    processor = MAKE[name]()
    rows = stream(4)

    def size() -> int:
        return len(pickle.dumps({k: v for k, v in vars(processor).items() if not callable(v)}))

    for _ in range(24):  # until every window is full
        judge(processor, rows, [])
    before = size()
    for _ in range(20):
        judge(processor, rows, [300])
    assert size() < 1.05 * before


CONSTANTS = [0.0, 0.1, 1e308, -1e308, 5e-324, np.nan, np.inf]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name in MAKE
        for value in CONSTANTS
        # ADWIN's bound is in the unit of the values: it sees drift in its own rounding of 1e308
        if name != "river" or abs(value) < 1e9 or not np.isfinite(value)
    ],
)
def test_a_constant_is_nothing(name: str, value: float) -> None:
    """Where all are alike there is nothing to find, no exception and no warning."""
    processor = MAKE[name]()
    rows: Rows = [((*EXPERTS, TRAIN, VALIDATION), [value] * 6)] * 300
    assert judge(processor, rows, [7, 100]) == []
    expected = 300 if not np.isfinite(value) else 0
    assert set(processor.nonfinite.values()) <= {expected}


@every
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_extremes_do_no_harm(name: str, seed: int) -> None:
    """Anything that float64 can hold, in any order: finite answers and no warning."""
    random = np.random.default_rng(seed)
    extremes = np.array([1e308, -1e308, 1.7976931348623157e308, 5e-324, 0.0, 1.0, np.nan, -np.inf])
    table: NDArray[np.float64] = random.choice(extremes, (300, 6), p=[0.16] * 6 + [0.02] * 2)
    rows: Rows = [((*EXPERTS, TRAIN, VALIDATION), row) for row in table.tolist()]
    for finding in judge(MAKE[name](), rows, [10, 200]):
        json.dumps(finding.as_dict(), allow_nan=False)


@every
def test_nothing_and_one_row(name: str) -> None:
    """Empty samples, samples of other metrics, a single row."""
    processor = MAKE[name]()
    assert processor.update(Samples()) == []
    assert processor.update(Samples.from_columns({"unwatched": [1.0, np.nan, 1e9]})) == []
    assert judge(processor, [((*EXPERTS, TRAIN), [1.0] * 5)], []) == []
    assert dict(processor.nonfinite) == {}
    assert processor.metrics
