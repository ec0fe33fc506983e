"""Bad input: counted, warned of once, and never at the cost of what was good."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from entrenar_otel.errors import AndonStop, BadInput


class Hostile:
    """An object that fails at whatever it is asked."""

    def __float__(self) -> float:
        raise RuntimeError("no")

    __index__ = __repr__ = __float__  # type: ignore[assignment]


class Tensor:
    """What the recorder knows of a tensor that is being trained."""

    requires_grad = True
    is_cuda = True

    def __init__(self, value: float) -> None:
        self.value = value

    def detach(self) -> Tensor:
        detached = Tensor(self.value)
        detached.requires_grad = False
        return detached

    def __float__(self) -> float:
        if self.requires_grad:
            raise RuntimeError("requires grad")
        return self.value


NUMBERS = [
    (np.float32(0.1), float(np.float32(0.1))),
    (np.float16(0.1), float(np.float16(0.1))),
    (np.longdouble(0.5), 0.5),
    (np.int64(3), 3.0),
    (np.bool_(True), 1.0),
    (np.array(2.5), 2.5),
    (np.array([[2.5]]), 2.5),
    (Decimal("0.1"), 0.1),
    (Fraction(1, 3), 1 / 3),
    (True, 1.0),
    (10**300, 1e300),
    (-0.0, -0.0),
    (5e-324, 5e-324),
    (Tensor(1.5), 1.5),
]


@pytest.mark.parametrize(("given", "value"), NUMBERS, ids=lambda x: type(x).__name__)
def test_whatever_is_one_number_is_recorded(recorder: Any, given: Any, value: float) -> None:
    """As a watched loss and as any other metric, the first time and later, in every form."""
    bound = recorder.bind(["loss", "b"], None)
    for _ in range(2):
        recorder.log(loss=given, b=given)
        bound(given, given)
        recorder.log({"x": given}, tags={"t": "1"})
    rows = [{"loss": value, "b": value}, {"loss": value, "b": value}, {'x{t="1"}': value}] * 2
    assert repr(recorder.values()) == repr(rows)
    assert (recorder.bad, recorder.stops) == (0, [])


def test_a_cuda_tensor_is_warned_of_once_a_name(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Reading it waits for the GPU, which is worth knowing."""
    for _ in range(3):
        recorder.log(loss=Tensor(0.5), lr=Tensor(1.0))
    assert [m.split(":")[0] for m in caplog.messages] == ["loss is a CUDA tensor", "lr is a CUDA tensor"]


BAD = [
    *[None, "abc", "1.0", b"1", [1.0], [1.0, 2.0], np.array([1.0, 2.0]), np.array([]), 10**400],
    *[1j, np.complex128(1 + 0j), np.array([1j]), object(), Hostile(), np.datetime64("2026-01-01"), float],
]


@pytest.mark.parametrize("value", BAD, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("way", ["log", "bind", "tags"])
def test_a_bad_value_costs_nothing_but_itself(
    recorder: Any, caplog: pytest.LogCaptureFixture, value: Any, way: str
) -> None:
    """Before and after good ones of the same name: counted each time, warned of once."""
    tags = {"t": "1"} if way == "tags" else None
    bound = recorder.bind(["loss", "bad"], None)
    for given in (value, 1.0, value, 2.0, value):
        if way == "bind":
            bound(0.5, given)
        else:
            recorder.log(loss=0.5, bad=given, tags=tags)
    rows = [{k.removesuffix('{t="1"}'): v for k, v in row.items()} for row in recorder.values()]
    assert rows == [
        {"loss": 0.5},
        {"loss": 0.5, "bad": 1.0},
        {"loss": 0.5},
        {"loss": 0.5, "bad": 2.0},
        {"loss": 0.5},
    ]
    assert (recorder.bad, recorder.dropped) == (3, 0)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("bad must be one number, got ")
    assert {record.name for record in caplog.records} == {"entrenar_otel"}


@pytest.mark.parametrize(
    ("call", "message", "kept"),
    [
        ({"lr": "x", "loss": 0.5}, "lr must be one number, got 'x'; not recorded", {"loss": 0.5}),
        ({"loss": 0.5, "epoch": -1, "lr": None}, r"epoch must be .*, got -1; .*; lr must be", {"loss": 0.5}),
        ({"loss": 0.5, "tags": "x"}, "tags must be a mapping of text to text, got 'x'", {"loss": 0.5}),
        ({"loss": 0.5, "values": 3}, "a mapping of names to numbers, or keywords; got 3", {"loss": 0.5}),
        ({"loss": 0.5, "values": {"loss": 1}}, "'loss' twice; the keyword's value was kept", {"loss": 0.5}),
        ({"loss": 0.5, "values": {"": 1}}, "name must not be empty", {"loss": 0.5}),
    ],
)
def test_raise_on_bad_value_raises_after_the_rest_is_safe(
    make: Callable[..., Any], call: dict[str, Any], message: str, kept: dict[str, float]
) -> None:
    """All that is wrong with a call in one error; what is right with it is recorded."""
    recorder = make(raise_on_bad_value=True)
    for _ in range(2):
        given = dict(call)
        with pytest.raises(BadInput, match=message):
            recorder.log(given.pop("values", None), **given)
    assert recorder.values() == [kept, kept]


def test_the_stop_goes_before_the_complaint(make: Callable[..., Any]) -> None:
    """A broken loss is the graver of the two, and bad coordinates cannot hide it."""
    recorder = make(raise_on_bad_value=True)

    def note_stop(_series: Any, *stop: Any) -> None:
        recorder.stops.append(stop)
        raise AndonStop("stopped")

    recorder.on_bad_loss = note_stop
    with pytest.raises(AndonStop):
        recorder.log(loss=math.inf, lr="x", epoch=math.nan, batch="y", step=3)
    assert recorder.stops == [(math.inf, None, None, 3)]
    assert recorder.values() == [{"loss": math.inf}]


def test_names_that_cannot_be(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each is warned of once; a name of 1,000 characters and one in any script are names."""
    bad: list[Any] = ["", "  ", "x" * 1001, "\ud800", 5, None, ("loss",)]
    good = {"x" * 1000: 1.0, "損失": 2.0, "val/loss": 3.0, "a\nb": 4.0}
    for _ in range(2):
        recorder.log({**dict.fromkeys(bad, 0.5), **good})
    assert recorder.values() == [good, good]
    assert recorder.bad == 2 * len(bad)
    assert len(caplog.messages) == len(bad)


def test_tags_that_cannot_be_leave_the_value(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The value is recorded without them."""
    for tags in ("validation", {"split": "\ud800"}, {"k" * 1001: "v"}):
        recorder.log(accuracy=0.5, tags=tags)
    assert recorder.values() == [{"accuracy": 0.5}] * 3
    assert recorder.bad == 3
    assert caplog.messages[0].startswith("tags must be a mapping of text to text, got 'validation'")


IN_RANGE = [
    ("epoch", 0, 0),
    ("epoch", 2**31 - 1, 2**31 - 1),
    ("batch", 2.7, 2),
    ("batch", True, 1),
    ("step", np.float32(7.5), 7),
    ("step", np.array(8), 8),
    ("step", 2**31, 2**31),
    ("step", 2**63 - 1, 2**63 - 1),
    ("step", np.int64(2**53 + 1), 2**53 + 1),
    ("step", Fraction(7, 2), 3),
]


@pytest.mark.parametrize(("name", "given", "value"), IN_RANGE)
def test_coordinates_are_whole_numbers(recorder: Any, name: str, given: Any, value: int) -> None:
    """A fraction of an epoch belongs to its epoch, and no digit of a large step is lost."""
    for _ in range(2):
        recorder.log(loss=0.5, **{name: given})
    column = ("epoch", "batch", "step").index(name)
    assert [row[column] for row in recorder.rows()] == [value, value]
    assert recorder.bad == 0


OUT_OF_RANGE = [
    *[(name, bad) for name in ("epoch", "batch", "step") for bad in (-1, -0.5, math.nan, math.inf, "3")],
    *[("epoch", 2**31), ("batch", 2**32 - 2), ("batch", 2**32), ("step", 2**63), ("step", 2**64)],
    *[("epoch", 1j), ("step", Hostile()), ("step", np.array([1, 2])), ("epoch", np.int64(-5))],
]


@pytest.mark.parametrize(("name", "given"), OUT_OF_RANGE)
def test_coordinates_out_of_range_are_left_empty(
    recorder: Any, caplog: pytest.LogCaptureFixture, name: str, given: Any
) -> None:
    """Counted each time and warned of, also where the fast path's fields would hold them."""
    recorder.log(loss=0.5)
    for _ in range(3):
        recorder.log(loss=0.5, **{name: given})
    recorder.log(loss=0.5, tags={"t": "1"}, **{name: given})
    assert [row[:3] for row in recorder.rows()] == [(-1, -1, -1)] * 5
    assert recorder.bad == 4
    assert 1 <= len(caplog.messages) <= 2
    assert all("left empty" in message for message in caplog.messages)


def test_a_thousand_bad_names_do_not_hide_other_warnings(
    recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Warnings by name are bounded, those by kind are not."""
    recorder.log(loss=1)
    for i in range(1_200):
        recorder.log({f"name {i}": "x"})
    assert (recorder.bad, len(caplog.messages)) == (1_200, 1_000)
    recorder.end("completed")
    recorder.log(loss=1)
    assert "log() after the run ended (completed)" in caplog.messages[-1]
