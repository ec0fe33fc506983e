"""What every processor of the package promises, whatever it detects (see `Processor`)."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import pkgutil
from collections.abc import Callable, Iterator

import entrenar_processors
import numpy as np
import pytest
from entrenar_processors import Block, Finding, Processor, Samples, Series
from entrenar_processors.detectors.threshold import Limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytestmark = pytest.mark.usefixtures("each_core")

#: How to make those that have no defaults, by class name.
MAKE: dict[str, Callable[[type], Processor]] = {
    "ThresholdDetector": lambda cls: cls(Limit("high", "loss", min=-0.5, max=2.4, for_samples=2))
}

#: Those that judge series together, or by the clock: what is promised of single series is not for them.
NOT_BY_SERIES = {"ForestMonitor", "SilentMembers"}

#: Those that judge by a limit that a person wrote: a constant beyond it is abnormal.
ABSOLUTE = {"ThresholdDetector"}

#: Those whose value is a window's mean or a length, not a sample of the series.
OF_MANY = {"AccuracyDrop", "DriftMonitor", "SilentMembers"}

#: Those with a domain of their own: how to bring finite values into it.
DOMAIN: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "DDM": lambda values: np.where(np.isfinite(values), (values > 2.2).astype(np.float64), values)
}


def processors() -> Iterator[type]:
    """Every class of the package that can be made and is a Processor."""
    for module in pkgutil.walk_packages(entrenar_processors.__path__, "entrenar_processors."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if cls.__module__ != module.name or cls.__name__.startswith("_"):
                continue
            if issubclass(cls, BaseException):
                continue
            needed = [
                p
                for p in inspect.signature(cls).parameters.values()
                if p.default is p.empty and p.kind is not p.VAR_KEYWORD
            ]
            if cls.__name__ in MAKE or (not needed and isinstance(cls(), Processor)):
                yield cls


ALL = sorted(processors(), key=lambda cls: cls.__name__)
BY_SERIES = [cls for cls in ALL if cls.__name__ not in NOT_BY_SERIES]
every = pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
each_series = pytest.mark.parametrize("cls", BY_SERIES, ids=lambda cls: cls.__name__)


def make(cls: type) -> Processor:
    return MAKE[cls.__name__](cls) if cls.__name__ in MAKE else cls()


def domain(cls: type, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return DOMAIN[cls.__name__](values) if cls.__name__ in DOMAIN else values


def stream(cls: type, n: int, k: int, seed: int) -> tuple[tuple[Series, ...], NDArray[np.float64]]:
    """A training curve with spikes, a creeping rise, a constant stretch and holes of every kind."""
    random = np.random.default_rng(seed)
    values = 2.0 + 0.1 * random.standard_t(4, (n, k)) + np.linspace(1, 0, n)[:, np.newaxis]
    for column in range(k):
        for start in random.integers(0, n, 1 + n // 80):
            values[start : start + 8, column] += random.choice([-3.0, 1.0, 30.0])
        start = int(random.integers(0, n))
        values[start : start + 60, column] = values[start, column]
        values[n // 2 :, column] += 0.01 * column * np.arange(n - n // 2)
    values = domain(cls, values)
    values[random.random((n, k)) < 0.01] = np.nan
    values[random.random(n) < 0.01] = np.inf
    names = sorted(make(cls).metrics)
    series = tuple(Series.of(names[i % len(names)], {"layer": i}) for i in range(k))
    return series, values


def samples(series: tuple[Series, ...], values: NDArray[np.float64], first: int = 0) -> Samples:
    seq = np.arange(first, first + len(values))
    return Samples.from_columns(
        dict(zip(series, values.T, strict=True)), seq=seq, step=seq * 2, time_ns=seq * 10**9, epoch=seq // 100
    )


def judge(
    processor: Processor, series: tuple[Series, ...], values: NDArray[np.float64], cuts: list[int]
) -> list[Finding]:
    """The findings of the stream cut at these rows."""
    edges = [0, *sorted(cuts), len(values)]
    found = []
    for start, end in itertools.pairwise(edges):
        found += processor.update(samples(series, values[start:end], start))
    return found


def test_the_detectors_of_the_package_are_found() -> None:
    """The suite would pass on nothing."""
    assert {cls.__name__ for cls in ALL} >= {
        *("DDM", "DivergenceDetector", "PageHinkley", "SlidingWindowBaseline", "SpikeDetector")
    }


@every
@given(seed=st.integers(0, 2**32), k=st.sampled_from([1, 2, 40]), data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
def test_chunks_do_not_matter(cls: type, seed: int, k: int, data: st.DataObject) -> None:
    """One block, single rows, random cuts: the same findings, to the bit."""
    n = 450 if k < 40 else 260
    series, values = stream(cls, n, k, seed)
    cuts = data.draw(st.lists(st.integers(0, n), max_size=30))
    whole = judge(make(cls), series, values, [])
    assert judge(make(cls), series, values, cuts) == whole
    if k < 40:
        assert judge(make(cls), series, values, list(range(1, n))) == whole


@every
def test_something_is_found_and_can_be_serialised(cls: type) -> None:
    """The stream of this suite has something for every detector, as plain finite numbers."""
    series, values = stream(cls, 2000, 4, 7)
    found = judge(make(cls), series, values, [700])
    assert found or cls.__name__ in OF_MANY | NOT_BY_SERIES  # see test_joint_contract.py
    for finding in found:
        again = json.loads(json.dumps(finding.as_dict(), allow_nan=False))
        assert again["step"] == 2 * again["seq"] == 2 * finding.at.seq
        if cls.__name__ not in OF_MANY:
            assert finding.value == values[finding.at.seq, series.index(finding.series)]
        assert finding.at.epoch == finding.at.seq // 100
    assert found == sorted(found, key=lambda finding: finding.order)


@every
def test_reset_is_as_new(cls: type) -> None:
    """Nothing of an earlier run stays: neither windows nor counts."""
    series, values = stream(cls, 300, 3, 1)
    used = make(cls)
    judge(used, series, values, [120])
    used.reset()
    assert dict(used.nonfinite) == {}
    assert judge(used, series, values[::-1], [50]) == judge(make(cls), series, values[::-1], [50])


@each_series
@pytest.mark.parametrize("k", [3, 48])
def test_many_series_are_each_alone(cls: type, k: int) -> None:
    """A series is judged by itself, whoever is in the block beside it."""
    series, values = stream(cls, 400, k, 2)
    together = judge(make(cls), series, values, list(range(0, 400, 16)))
    for column in range(0, k, 5):
        alone = judge(make(cls), series[column : column + 1], values[:, column : column + 1], [])
        assert [finding for finding in together if finding.series == series[column]] == alone


@each_series
def test_series_may_appear_at_any_time_and_in_several_blocks(cls: type) -> None:
    """Rows of a series that is reported in two sets of names are judged by seq, not block by block."""
    series, values = stream(cls, 500, 40, 3)
    random = np.random.default_rng(3)
    wide = random.random(500) < 0.3
    wide[:200] = False
    processor, found = make(cls), []
    for start in range(0, 500, 25):
        rows = np.arange(start, start + 25)
        parts = []
        for chosen, width in ((rows[wide[rows]], 40), (rows[~wide[rows]], 2)):
            if len(chosen):
                block = samples(series[:width], values[chosen][:, :width]).blocks[0]
                coordinates = {"seq": chosen, "step": chosen * 2, "time_ns": chosen * 10**9}
                epoch = (chosen // 100).astype(np.int32)
                parts.append(Block(**(vars(block) | coordinates | {"epoch": epoch})))
        found += processor.update(Samples(parts))
    for column in (0, 1, 2, 39):
        rows = np.arange(500) if column < 2 else np.flatnonzero(wide)
        alone = make(cls).update(samples(series[column : column + 1], values[rows][:, column : column + 1]))
        mine = [finding for finding in found if finding.series == series[column]]
        assert [(f.value, f.expected, f.score) for f in mine] == [
            (f.value, f.expected, f.score) for f in alone
        ]
        assert [f.at.seq for f in mine] == [int(rows[f.at.seq]) for f in alone]


@each_series
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_are_counted_and_as_if_absent(cls: type, bad: float) -> None:
    """The findings are those of the stream without them, and the detector goes on."""
    series, values = stream(cls, 400, 1, 4)
    values = values[np.isfinite(values[:, 0])]
    where = np.sort(np.random.default_rng(4).choice(len(values), 40, replace=False))
    holed = np.insert(values, where, bad, axis=0)
    processor = make(cls)
    found = judge(processor, series, holed, [100, 101, 250])
    kept = np.flatnonzero(np.isfinite(holed[:, 0]))
    assert dict(processor.nonfinite) == {series[0]: 40}
    expected = judge(make(cls), series, values, [])
    assert [(f.value, f.score) for f in found] == [(f.value, f.score) for f in expected]
    assert [f.at.seq for f in found] == [int(kept[f.at.seq]) for f in expected]


@every
@pytest.mark.parametrize("k", [1, 40])
@pytest.mark.parametrize(
    "value", [0.0, 1.0, -3.3, 0.1, 1e308, -1e308, 5e-324, np.nan, np.inf, -np.inf], ids=repr
)
def test_a_constant_is_never_abnormal(cls: type, value: float, k: int) -> None:
    """No exception, no warning (they are errors here), nothing found."""
    if cls.__name__ in ABSOLUTE and np.isfinite(value):
        value = abs(value) % 2
    values = domain(cls, np.full((300, k), value))
    series = stream(cls, 1, k, 0)[0]
    processor = make(cls)
    assert judge(processor, series, values, [1, 2, 40]) == []
    assert sum(processor.nonfinite.values()) == (0 if np.isfinite(value) else 300 * k)


@every
@given(seed=st.integers(0, 2**32), k=st.sampled_from([1, 33]))
@settings(max_examples=10, deadline=None)
def test_extreme_values_do_no_harm(cls: type, seed: int, k: int) -> None:
    """Anything float64 can hold, in any order: finite answers, and no warning."""
    random = np.random.default_rng(seed)
    extremes = np.array([1e308, -1e308, 1.7976931348623157e308, 5e-324, 0.0, 1.0, 1e-300, np.nan, np.inf])
    values = domain(cls, random.choice(extremes, (400, k)))
    series = stream(cls, 1, k, 0)[0]
    whole = judge(make(cls), series, values, [])
    assert judge(make(cls), series, values, [3, 50, 51, 300]) == whole
    json.dumps([finding.as_dict() for finding in whole], allow_nan=False)


@every
def test_nothing_and_one_sample(cls: type) -> None:
    """Empty samples, samples of other metrics, one row: no finding."""
    processor = make(cls)
    series = stream(cls, 1, 1, 0)[0]
    assert processor.update(Samples()) == []
    assert processor.update(Samples.from_columns({"unwatched": [1.0, 1e9, np.nan]})) == []
    assert processor.update(samples(series, domain(cls, np.array([[1e308]])))) == []
    assert dict(processor.nonfinite) == {}
    assert processor.metrics


@each_series
def test_one_early_value_is_no_cord(cls: type) -> None:
    """Before `min_samples` there is nothing to compare with."""
    values = domain(cls, np.array([[2.0], [2.1], [1e308], [2.0], [-1e308]]))
    assert make(cls).update(samples(stream(cls, 1, 1, 0)[0], values)) == []
