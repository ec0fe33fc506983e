"""The native kernels give what the Python classes give, to the bit: of any values, in any chunks.

Zeros may differ in their sign, which no result depends on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import entrenar_native
import numpy as np
import pytest
from entrenar_processors.detectors.divergence import DivergenceCore
from entrenar_processors.detectors.spike import SpikeCore
from entrenar_processors.detectors.zscore import ZScoreCore
from entrenar_processors.stats.arrays import Index, clipped
from entrenar_processors.stats.core import Hits
from entrenar_processors.stats.cusum import Cusum
from entrenar_processors.stats.page_hinkley import PageHinkleyCore
from entrenar_processors.stats.residuals import Residuals
from entrenar_processors.stats.robust_window import RobustWindow
from entrenar_processors.stats.rolling_moments import RollingMoments
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]

if entrenar_native.core is None:
    pytest.skip(f"NOT TESTED HERE: {entrenar_native.state()}", allow_module_level=True)
CORE: Any = entrenar_native.core


def robust_window(relative: bool) -> Callable[[int], Any]:
    def make(k: int) -> RobustWindow:
        window = RobustWindow(9, 4, 3.0, relative=relative)
        window.reserve(k)
        for row in range(k):
            window.set(row, 4 + row % 5, (0.0, 0.03, 0.6)[row % 3], (math.inf, 0.3)[row % 2])
        return window

    return make


def reserved(make: Callable[[], Any]) -> Callable[[int], Any]:
    def of(k: int) -> Any:
        core = make()
        core.reserve(k)
        return core

    return of


class Scores:
    """`RollingMoments.scores` by the name of the others."""

    def __init__(self) -> None:
        self._rolling = RollingMoments(6, 3)
        self.reserve = self._rolling.reserve

    def update(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        return self._rolling.scores(rows, clipped(values))


class Moments(Scores):
    """`RollingMoments.update`, whose values must be clipped."""

    def update(self, rows: Index, values: Floats) -> tuple[Floats, Floats]:
        return self._rolling.update(rows, clipped(values))


#: Everything that has a kernel, small enough that short streams fill its windows.
CORES: dict[str, Callable[[int], Any]] = {
    "robust window": robust_window(relative=False),
    "relative window": robust_window(relative=True),
    "cusum": reserved(lambda: Cusum(3.0, 1.0, 2.0)),
    "residuals": reserved(lambda: Residuals(0.05, 4.0, 5)),
    "moments": reserved(Moments),
    "scores": reserved(Scores),
    "page-hinkley": reserved(lambda: PageHinkleyCore(3, 0.005, 2.0, 0.9, "both")),
    "page-hinkley up": reserved(lambda: PageHinkleyCore(3, 0.5, 2.0, 1 - 1e-4, "up")),
    "page-hinkley down": reserved(lambda: PageHinkleyCore(1, 0.0, 1.0, 1.0, "down")),
    "spike": reserved(lambda: SpikeCore(RobustWindow(9, 4, 3.0, relative=True), Cusum(2.0, 1.0, 3.0))),
    "divergence": reserved(lambda: DivergenceCore((0.05, 4.0, 5), 3, 0.1, 1.0)),
    "z-score": reserved(lambda: ZScoreCore(6, 3, 1.5)),
}
each = pytest.mark.parametrize("name", CORES)

#: What floating point has at its ends, beside what a training reports.
ODD = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1e-300,
    1e-150,
    1e150,
    -1e150,
    1e308,
    -1e308,
    1.0,
    1.0 + 2**-52,
    2.0,
    -2.0,
    1e-3,
]
numbers = st.one_of(
    st.sampled_from(ODD),
    st.floats(0.5, 3.0),
    st.floats(-1.0, 1.0),
    st.floats(allow_nan=False, allow_infinity=False),
)


def streams(n: int) -> st.SearchStrategy[list[float]]:
    """A few numbers that come again and again, or all kinds of them."""
    few = st.lists(numbers, min_size=1, max_size=4).flatmap(
        lambda some: st.lists(st.sampled_from(some), min_size=n, max_size=n)
    )
    return few | st.lists(numbers, min_size=n, max_size=n)


def arrays_of(result: Any) -> Iterator[NDArray[Any]]:
    """What a core returns, as arrays: `Hits` in the order of the samples, a pair, or one."""
    if isinstance(result, Hits):
        order = np.lexsort((result.column, result.step))
        result = tuple(one[order] for one in result)
    yield from result if isinstance(result, tuple) else (result,)


def run(core: Any, values: Floats, cuts: list[int], rows: Index) -> list[list[NDArray[Any]]]:
    edges = [0, *sorted(cuts), len(values)]
    parts = [core.update(rows, values[a:b]) for a, b in itertools.pairwise(edges) if b > a]
    return [list(arrays_of(part)) for part in parts]


def both(name: str, k: int, values: Floats, cuts: list[int], rows: Index) -> None:
    """Both implementations on the same chunks: equal results, equal state."""
    native = CORES[name](k)
    got = run(native, values, cuts, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(entrenar_native, "core", None)
        python = CORES[name](k)
        with np.errstate(all="ignore"):
            expected = run(python, values, cuts, rows)
    for part, reference in zip(got, expected, strict=True):
        for one, other in zip(part, reference, strict=True):
            np.testing.assert_array_equal(one, other)
    assert state_of(native) == state_of(python)


def state_of(core: Any) -> dict[str, Any]:
    """All numbers that a core and its parts hold, but old ones in the free places of a block, and copies."""
    state: dict[str, Any] = {}
    for name, value in vars(core).items():
        if isinstance(value, np.ndarray) and name not in ("_block", "_sorted", "_order"):
            state[name] = (value + 0.0 if value.dtype == np.float64 else value).tolist()
        elif hasattr(value, "__dict__") and "entrenar_processors" in type(value).__module__:
            state[name] = state_of(value)
    return state


@each
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_series_in_any_chunks(name: str, data: st.DataObject) -> None:
    """Results and state are the same to the bit, whatever the values."""
    values = np.array(data.draw(streams(data.draw(st.integers(1, 60)))))[:, np.newaxis]
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=5))
    both(name, 1, values, cuts, slice(0, 1))


@each
@pytest.mark.parametrize("k", [2, 3, 40])
@pytest.mark.parametrize("kind", ["noise", "wide", "steps", "huge"])
def test_many_series_in_chunks(name: str, k: int, kind: str) -> None:
    """Whole tables, views with strides, and rows of state in another order."""
    random = np.random.default_rng(k)
    values = {
        "noise": random.standard_t(3, (400, k)) + 2.0,
        "wide": random.lognormal(0, 0.8, (400, k)),
        "steps": np.round(random.normal(1, 0.2, (400, k)), 1),
        "huge": np.exp(random.uniform(-300, 300, (400, k))) * random.choice([-1, 1], (400, k)),
    }[kind]
    both(name, k, values, [1, 2, 50, 51, 300], slice(0, k))
    both(name, 3 * k, np.repeat(values, 2, axis=1)[::2, ::2], [7, 120], 3 * random.permutation(k))
    both(name, k, np.asfortranarray(values), list(range(30)), slice(0, k))


@pytest.mark.parametrize("window", [4, 16, 33, 255, 256, 300])
def test_windows_short_and_long(window: int) -> None:
    """They are kept in order in two ways; the reference may take over from chunk to chunk, and back."""
    random = np.random.default_rng(window)
    values = (
        np.round(random.standard_t(3, (4 * window, 5)), 2) + np.linspace(2.0, 9.0, 4 * window)[:, np.newaxis]
    )
    cores = [RobustWindow(window, 4, 3.0, relative=True) for _ in range(3)]
    for core in cores:
        core.reserve(5)
    native, python, both_in_turns = cores
    for turn, part in enumerate(np.array_split(values, 7)):
        got = native.update(slice(0, 5), part)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entrenar_native, "core", None if turn % 2 else CORE)
            in_turns = both_in_turns.update(slice(0, 5), part)
            patch.setattr(entrenar_native, "core", None)
            expected = python.update(slice(0, 5), part)
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(in_turns, expected)
    assert state_of(native) == state_of(python) == state_of(both_in_turns)


@each
def test_what_is_not_a_number_breaks_nothing(name: str) -> None:
    """The classes are given finite values; whatever else comes, the kernels stay within their arrays."""
    random = np.random.default_rng(5)
    values = random.choice([math.nan, math.inf, -math.inf, 0.0, 1.0, 5e-324, 1e308], (3000, 4))
    core = CORES[name](4)
    with np.errstate(all="ignore"):
        for part in np.array_split(values, [1, 5, 6, 1000, 1001]):
            core.update(slice(0, 4), part)


def test_arguments_that_do_not_fit_are_refused() -> None:
    """The kernels check what they are given: types, dimensions, shapes, rows; nothing is written then."""
    values, out, rows = np.zeros((4, 2)), np.zeros((4, 2)), np.arange(2)
    window = [
        np.zeros(2, np.int64),
        np.zeros((2, 5)),
        np.zeros((2, 5)),
        np.zeros((2, 5), np.uint8),
        np.full(2, 3),
        np.zeros(2),
        np.zeros(2),
        3.0,
        False,
    ]

    def call(*given: Any) -> None:
        CORE.robust_window(*given)

    call(values, rows, out, out.copy(), *window)
    with pytest.raises(TypeError, match="another number of arguments"):
        call(values, rows)
    with pytest.raises(TypeError, match="type d"):
        call(values.astype(np.float32), rows, out, out, *window)
    with pytest.raises(TypeError, match="type q"):
        call(values, rows.astype(np.int32), out, out, *window)
    with pytest.raises(TypeError, match=r"type d .*dimensions"):
        call(np.zeros((4, 2, 1)), rows, out, out, *window)
    with pytest.raises(TypeError, match="type d"):
        call(values.astype(">f8"), rows, out, out, *window)
    with pytest.raises(TypeError, match=r"bytes-like|buffer"):
        call(values.tolist(), rows, out, out, *window)
    for bad in (np.array([0, 2]), np.array([-1, 0])):
        with pytest.raises(IndexError, match="a row of the state"):
            call(values, bad, out, out, *window)
    for bad in (np.array([0]), np.zeros((2, 2), np.int64)):
        with pytest.raises(ValueError, match="sizes K1 as those before"):
            call(values, bad, out, out, *window)
    with pytest.raises(ValueError, match="sizes NK as those before"):
        call(values, rows, out[:3], out, *window)
    with pytest.raises(ValueError, match="sizes P"):
        call(values, rows, out, out, np.zeros(3, np.int64), *window[1:])
    with pytest.raises(ValueError, match="sizes PW"):
        call(values, rows, out, out, window[0], np.zeros((2, 0)), np.zeros((2, 0)), *window[3:])
    with pytest.raises(ValueError, match="without gaps"):
        call(values, rows, out, out, *window[:2], np.zeros((2, 10))[:, ::2], *window[3:])
    with pytest.raises(TypeError, match="must be real number"):
        call(values, rows, out, out, *window[:7], "three", False)
    frozen = out.copy()
    frozen.flags.writeable = False
    with pytest.raises((BufferError, ValueError), match=r"read-only|not writable"):
        call(values, rows, out, frozen, *window)


def test_hits_of_nothing_are_none() -> None:
    """A table without rows is judged like any other."""
    for make in CORES.values():
        result = make(2).update(slice(0, 2), np.zeros((0, 2)))
        assert all(len(one) == 0 for one in arrays_of(result))
