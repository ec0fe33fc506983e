"""The native core's calls: what comes out is what the reference writes, bit by bit, whatever goes in."""

from __future__ import annotations

import copy
import gc
import inspect
import mmap
import pickle
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import adler32

import entrenar_native
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrenar_otel.recording.segment import HEADER_BYTES
from entrenar_otel.testing import FakeClock
from tests.recording.conftest import Kit

NEEDED = pytest.mark.skipif(entrenar_native.core is None, reason="NOT TESTED HERE: no native core")


class Half(float):
    """A subclass that says one thing and holds another."""

    def __float__(self) -> float:
        return 0.5


class Broken:
    """No number, and it says so."""

    def __float__(self) -> float:
        raise ArithmeticError("broken")


class Whole(int):
    """An integer that is not of the plain type."""


NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.booleans(),
    st.sampled_from(
        [10**308, 10**309, -(10**400), -1, 2**63, "text", None, 1j, Broken(), [1.0], {"in": 2.0}]
    ),
    st.floats().map(Half),
    st.integers(-9, 9).map(Whole),
    st.floats(width=32).map(np.float32),
    st.floats().map(np.float64),
    st.integers(-128, 127).map(np.int8),
    st.floats(width=16).map(np.float16),
    st.floats(-1, 1).map(lambda value: np.array([value])),
    st.complex_numbers(max_magnitude=9).map(np.complex128),
)
PLACES = st.one_of(
    st.none(),
    st.integers(0, 9),
    st.sampled_from(
        [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1, 2**64, -1, True, 2.5, "3", Whole(4)]
    ),
    st.integers(0, 9).map(np.int64),
)
NAMES = ["loss", "accuracy", "val/loss", "a"]
CALLS = st.lists(
    st.tuples(
        st.sampled_from(["log", "keywords", "mapping", "bound", "tags", "set", "move", "roll", "hold"]),
        st.permutations(NAMES).flatmap(lambda names: st.integers(1, 4).map(lambda n: names[:n])),
        st.lists(NUMBERS, min_size=4, max_size=4),
        st.dictionaries(st.sampled_from(["epoch", "batch", "step"]), PLACES),
    ),
    max_size=25,
)


def play(recorder: Kit, calls: list[Any]) -> list[str | None]:
    """Make these calls; what each raised."""
    raised: list[str | None] = []
    for way, names, values, places in calls:
        given_now = dict(zip(names, values, strict=False))
        try:
            if way == "log":
                recorder.log(**given_now, **places)
            elif way == "keywords":
                recorder.log(**{**places, **given_now})
            elif way == "mapping":
                recorder.log(given_now, **places)
            elif way == "bound":
                recorder.bind(names, None)(*given_now.values(), **places)
            elif way == "tags":
                recorder.log(**given_now, **places, tags={"split": "a"})
            elif way == "set":
                recorder.set_coordinates(**places)
            elif way == "move":
                recorder.move_to(places.get("batch", 0), places.get("step", 0))
            elif way == "roll":
                recorder.roll()
            else:
                recorder.hold()
            raised.append(None)
        except Exception as error:
            raised.append(repr(error))
    return raised


def written(recorder: Kit) -> list[list[int]]:
    """The words of all records, but for their times and, with these, their checksums."""
    found = []
    for segment in recorder.segments:
        words, at, end = segment.words(), HEADER_BYTES // 8, segment.position() // 8
        while at < end:
            head = int(words[at])
            length = head >> 32 & 0xFFFF
            record = words[at : at + length].tolist()
            assert record[-1] == adler32(words[at : at + length - 1].tobytes())
            found.append([*record[:1], *record[2:-1]] if head & 0xFFFFFFFF else record)
            at += length
    return found


@NEEDED
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CALLS, st.booleans())
@pytest.mark.filterwarnings("ignore")
def test_any_calls_are_written_as_the_reference_writes_them(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Any], raises: bool
) -> None:
    """Records bit by bit, what is refused, what is raised, and which losses stopped the line."""
    outcomes = []
    for core in (None, entrenar_native.core):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entrenar_native, "core", core)
            folder = tmp_path_factory.mktemp("live")
            recorder = Kit(folder / "l", raise_on_bad_value=raises)
            try:
                raised = play(recorder, calls * 2)  # known, the second time
                stops = repr(recorder.stops)
                outcomes.append((written(recorder), raised, recorder.bad, recorder.dropped, stops))
                assert (recorder.hot is None) is (core is None)
            finally:
                recorder.abandon()
                shutil.rmtree(folder)  # a segment is of megabytes
    assert outcomes[0] == outcomes[1]


@pytest.fixture
def native(make: Callable[..., Kit], core: str) -> Kit:
    """A recorder of which the reference is broken, once `without_reference` is called."""
    if core == "python":
        pytest.skip("the reference has tests of its own")
    return make()


def without_reference(recorder: Kit) -> None:
    def broken(*_given: Any) -> None:
        raise AssertionError("the reference was called")

    recorder.namespace["adler32"] = broken
    recorder.without_slow_path()


def test_what_is_usual_is_native(native: Kit) -> None:
    """Keywords, a dictionary, and what was bound; coordinates or none; every plain number."""
    bound = native.bind(["loss", "accuracy"], None)
    for _ in range(2):
        native.log(loss=1.0, accuracy=2.0)
    bound(1.0, 2.0)
    count = len(native.rows())
    without_reference(native)
    native.set_coordinates(epoch=4)
    given_now = {"loss": 0.0, "accuracy": 2.0}
    for number in (0.25, 1, True, np.float64(0.5), np.float32(0.5)):
        native.log(loss=number, accuracy=2.0, step=3)
        native.log(**dict(given_now, loss=number))
        native.log({"loss": number, "accuracy": 2.0})
        native.move_to(5, 6)
        bound(number, 2.0, batch=7)
    rows = native.rows()[count:]
    assert [row[:3] for row in rows[:4]] == [(4, -1, 3), (4, -1, -1), (4, -1, -1), (4, 7, 6)]
    assert [row[3]["loss"] for row in rows] == [v for v in (0.25, 1, 1, 0.5, 0.5) for _ in range(4)]


def test_wide_calls(native: Kit) -> None:
    """Ten thousand metrics in one dictionary are one record."""
    names = [f"layer.{i}" for i in range(10_000)]
    native.log(dict.fromkeys(names, 0.5))
    without_reference(native)
    native.log({name: float(i) for i, name in enumerate(names)})
    assert native.values()[1] == {name: float(i) for i, name in enumerate(names)}


def test_places_of_calls_without_number_are_forgotten(native: Kit) -> None:
    """Each order of names is learnt; too many of them are not kept."""
    names = [f"m{i}" for i in range(9)]
    for i in range(5000):
        order = names[i % 9 :] + names[: i % 9]
        native.log(**{name: float(names.index(name)) for name in order}, **{("epoch", "step")[i % 2]: i})
    assert all(row == {name: float(i) for i, name in enumerate(names)} for row in native.values())


def test_one_that_looks_like_its_reference(native: Kit) -> None:
    """Signature, documentation and names; a wrong call says what it says; copied and pickled by its name."""
    bound = native.bind(["loss", "accuracy"], None)
    assert str(inspect.signature(bound)) == "(loss, accuracy, *, epoch=None, batch=None, step=None)"
    expected = "(values=None, /, step=None, *, epoch=None, batch=None, tags=None, **metrics)"
    assert str(inspect.signature(native.log)) == expected
    assert str(bound.__doc__).startswith("Record 'loss', 'accuracy' in one call")
    assert "def bound(loss, accuracy" in inspect.getsource(bound)
    assert bound.__name__ == "bound"
    assert native.log.__name__ == "log"
    for function in (bound, native.log):
        assert callable(function)
        assert pickle.loads(pickle.dumps(function)) is copy.deepcopy(function) is function
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'accuracy'"):
        bound(1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'when'"):
        bound(1.0, 2.0, when=3)
    assert native.rows() == []


def test_another_clock_is_the_references(make: Callable[..., Kit]) -> None:
    """The native core reads the machine's."""
    assert make(clock=FakeClock()).hot is None


def test_nothing_keeps_a_recorder_alive(tmp_path: Path, core: str) -> None:
    """It goes with its functions, which know it."""
    recorder = Kit(tmp_path / "live")
    recorder.log(loss=1.0)
    recorder.bind(["loss"], None)(2.0)
    recorder.end("test")
    for segment in recorder.sealed() or recorder.segments:
        recorder.release(segment, unlink=True)
    log, seen = recorder.log, weakref.ref(recorder)
    del recorder
    gc.collect()
    log(loss=1.0)
    assert seen() is not None, core
    del log
    gc.collect()
    assert seen() is None


@NEEDED
def test_the_writer() -> None:
    """Whole words, at its own position, in what was given; nothing once it is closed."""
    map_ = mmap.mmap(-1, 4096)
    writer = entrenar_native.core.Writer(map_)  # type: ignore[union-attr]
    writer.at = 4080
    assert writer.write(b"") == 0
    for given_now, message in ((b"1234567", "whole words"), (b"x" * 24, "out of range")):
        with pytest.raises(ValueError, match=message):
            writer.write(given_now)
    assert writer.write(b"12345678") == 8
    assert (writer.at, map_[4080:]) == (4088, b"12345678" + bytes(8))
    with pytest.raises(TypeError):
        writer.write("text")
    with pytest.raises(BufferError):
        map_.close()
    writer.close()
    writer.close()
    map_.close()
    assert writer.at == -1
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"12345678")
