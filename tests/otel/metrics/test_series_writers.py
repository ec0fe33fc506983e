"""SeriesWriters: the quick path and the careful one are one behaviour, whatever comes in whatever order."""

from __future__ import annotations

import contextlib
import json
import math
import random
import types
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Series
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry.metrics import NoOpMeterProvider

from entrenar_otel import AndonStop, Monitor, errors
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.otel.metrics.series_writers import MAX_WRITERS, SeriesWriters
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.recorder import MAX_LAYOUT_BYTES
from entrenar_otel.testing import Kit, kit, recorded_run, strict

Rows = Callable[..., list[tuple[Any, ...]]]
KINDS = {"gauge": "set", "counter": "add", "up_down_counter": "add", "histogram": "record"}


def calls_of(meter: Any, prefix: str = "") -> dict[str, Any]:
    """One call for each kind of instrument, as `training.<prefix><kind>`."""
    return {
        kind: getattr(getattr(meter, f"create_{kind}")(f"training.{prefix}{kind}"), call)
        for kind, call in KINDS.items()
    }


@pytest.fixture
def careful(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that took the careful path, of instruments made after this."""
    seen: list[Any] = []
    before = SeriesWriters.record_carefully

    def spy(self: SeriesWriters, amount: Any, attributes: Any) -> None:
        seen.append((amount, attributes))
        before(self, amount, attributes)

    monkeypatch.setattr(SeriesWriters, "record_carefully", spy)
    return seen


PLACES = st.one_of(st.none(), st.integers(0, 9), st.sampled_from([2.0, 2**31 - 1, -1, 1.5, 2**40, "x", True]))
IDENTITIES = st.one_of(
    st.sampled_from(["a", "b", "1", "true", "1.0", "null", "", "損失", "x" * 200]),
    *(st.booleans(), st.integers(-1, 1), st.sampled_from([1.0, 0.5, 1e300, math.inf])),
    *(st.none(), st.lists(st.integers(0, 1), max_size=2), st.tuples(st.booleans(), st.just("a"))),
    *(st.just(b"raw"), st.just({"deep": [1]})),
)
ATTRIBUTES = st.one_of(
    st.none(),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["epoch", "batch", "step"]), PLACES),
            st.tuples(st.sampled_from(["split", "layer", "seq", "x y", "class"]), IDENTITIES),
        ),
        max_size=5,
    ).map(dict),
)
AMOUNTS = st.one_of(st.floats(-10, 1e6), st.sampled_from([0, 1, True, math.nan, math.inf, 5e-324, -0.0]))


def tag(value: Any) -> str:
    """The rule, said again: text is itself, the rest JSON; what JSON does not have is its text in quotes."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def place(name: str, value: Any) -> int | None:
    """Where a coordinate is valid it is floored, else empty."""
    limit = 2**63 if name == "step" else 2**31
    return math.floor(value) if isinstance(value, int | float) and 0 <= value < limit else None


@contextlib.contextmanager
def with_the_machines_clock(folder: Path) -> Iterator[Monitor]:
    """A monitor that records natively where it can."""
    given: dict[str, Any] = {"quiet": True, "settings_file": None, "interval_seconds": 1e5}
    with strict(), Monitor("r", lake=folder / "lake", live=folder / "live", **given) as monitor:
        yield monitor


@pytest.mark.parametrize("is_native", [False, True])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*KINDS]), AMOUNTS, ATTRIBUTES), max_size=25), st.integers(1, 3))
def test_what_is_called_is_what_the_lake_returns(
    tmp_path_factory: pytest.TempPathFactory,
    is_native: bool,
    calls: list[tuple[str, float, Any]],
    times: int,
) -> None:
    """Every kind, value, attribute and coordinate, once each, in order, with care and quickly."""
    folder = tmp_path_factory.mktemp("kit")
    with contextlib.ExitStack() as stack:
        if is_native:
            monitor = stack.enter_context(with_the_machines_clock(folder))
        else:
            monitor = stack.enter_context(kit(folder)).monitor
        provider = WrappingMeterProvider()
        monitor.adopt(provider)
        made = calls_of(provider.get_meter("m"))
        for kind, amount, attributes in calls * times:
            made[kind](amount, attributes)
        table = monitor.query("SELECT * FROM metrics ORDER BY seq").to_pylist()
        assert [row["seq"] for row in table] == [*range(len(table))]
    expected = []
    for kind, amount, attributes in calls * times:
        if kind in ("counter", "histogram") and amount < 0:
            continue
        given = attributes or {}
        identity = {
            key: tag(value)
            for key, value in given.items()
            if key not in ("epoch", "batch", "step", "seq") and value is not None
        }
        places = [place(name, given.get(name)) for name in ("epoch", "batch", "step")]
        expected.append((kind, repr(float(amount)), identity, *places))
    found = [
        (row["metric"], repr(row["value"]), dict(row["tags"]), row["epoch"], row["batch"], row["step"])
        for row in table
    ]
    assert found == expected


def test_coordinates_that_cannot_be(
    one: Kit, meter: Any, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    """Left empty, counted, said once per name; the value stays, before and after a good call of that kind."""
    gauge = meter.create_gauge("training.x")
    bad = [-1, 2**31, 2**32, 2**64, "7", math.nan, math.inf, [1], object()]
    for _ in range(2):
        for value in bad:
            gauge.set(1.0, {"epoch": value, "batch": 3})
        gauge.set(2.0, {"epoch": 5, "batch": 3})
        gauge.set(3.0, {"epoch": 5.9, "batch": np.int64(4)})
    expected: list[Any] = [("x", 1.0, {}, None, 3, None)] * len(bad)
    expected += [("x", 2.0, {}, 5, 3, None), ("x", 3.0, {}, 5, 4, None)]
    assert rows("x") == expected * 2
    one.tick()  # a record has room for 2**31, which the lake refuses
    assert one.monitor.bad_values == 2 * len(bad)
    assert caplog.text.count("epoch must be a whole number") == 1


def test_the_runs_own_coordinates_are_the_default(one: Kit, meter: Any, rows: Rows) -> None:
    """In `epochs()` and `steps()` an attribute that is not there, or None, is what the loop says."""
    gauge = meter.create_gauge("training.x")
    for _ in one.monitor.epochs(2):
        for _ in one.monitor.steps([[1], [2]]):
            gauge.set(1.0)
            gauge.set(2.0, {"epoch": None, "split": "train"})
            gauge.set(3.0, {"epoch": 9})
    found = [(value, *places) for _, value, _, *places in rows("x")]
    at = [(e, b, 2 * e + b) for e in range(2) for b in range(2)]
    assert found == [row for e, b, s in at for row in ((1.0, e, b, s), (2.0, e, b, s), (3.0, 9, b, s))]


def test_mappings_of_every_kind_and_a_context(meter: Any, rows: Rows, careful: list[Any]) -> None:
    """A mapping that is no dict is as quick as one; the context is accepted and not looked at."""
    calls = calls_of(meter)
    attributes = types.MappingProxyType({"batch": 1, "k": "v"})
    for _ in range(3):
        for call in calls.values():
            call(1.0, attributes, otel_context.get_current())
            call(1.0, attributes=dict(attributes), context=None)
    assert [row[1:] for row in rows()] == [(1.0, {"k": "v"}, None, 1, None)] * 24
    assert len(careful) == 4


def test_odd_attributes_are_never_quick(meter: Any, rows: Rows, careful: list[Any]) -> None:
    """Lists, absent values and `seq` are looked at each time, since their identity may change."""
    gauge, values = meter.create_gauge("training.x"), [1]
    for odd in ({"k": values}, {"k": None}, {"seq": 1, "k": "v"}):
        for _ in range(2):
            gauge.set(1.0, odd)
    values.append(2)
    gauge.set(1.0, {"k": values})
    assert len(careful) == 7
    assert [row[2] for row in rows("x")] == [{"k": "[1]"}] * 2 + [{}] * 2 + [{"k": "v"}] * 2 + [
        {"k": "[1, 2]"}
    ]


def test_beyond_the_limit_of_writers_calls_are_careful_and_exact(
    meter: Any, rows: Rows, careful: list[Any]
) -> None:
    """The first sets of names stay quick; what came too late is recorded all the same."""
    counter = meter.create_counter("training.x")
    sets = [{f"key{i}": "v", "batch": i} for i in range(MAX_WRITERS + 5)]
    for _ in range(3):
        for attributes in sets:
            counter.add(1, attributes)
    assert len(careful) == len(sets) + 2 * 5
    assert [row[2:5] for row in rows("x")] == [({f"key{i}": "v"}, None, i) for i in range(len(sets))] * 3


def test_identities_without_end_are_refused(tmp_path: Path, segment_size: Any, caplog: Any) -> None:
    """A quarter of a segment may be names. The others are counted, and named once; the old ones go on."""
    series = Series.of("x", {"request": "00000"})
    assert 50_000 < MAX_LAYOUT_BYTES // len(Layout(1, (series,)).definition) < 80_000  # of 16 MB segments
    segment_size(256 << 10)
    with kit(tmp_path / "small") as one:
        provider = WrappingMeterProvider()
        one.monitor.adopt(provider)
        gauge = provider.get_meter("m").create_gauge("training.x")
        for i in range(2000):
            gauge.set(1.0, {"request": f"{i:05}"})
        gauge.set(2.0, {"request": "00000"})
        gauge.set(3.0, {"request": "00000"})
        table = one.monitor.query("SELECT tags['request'] r, value v FROM metrics ORDER BY seq").to_pylist()
        kept = len(table) - 2
        assert [row["r"] for row in table] == [f"{i:05}" for i in range(kept)] + ["00000"] * 2
        assert [row["v"] for row in table] == [1.0] * kept + [2.0, 3.0]
        assert 500 < kept == 2000 - one.monitor.bad_values
        assert len(one.points("training.x")) == kept
    assert caplog.text.count("A part of the name seems to change with every call") == 1


def test_segments_roll_in_mid_stream(tmp_path: Path, segment_size: Any) -> None:
    """Full segments are replaced by quick and careful calls; no sample is lost, doubled or displaced."""
    segment_size(64 << 10)
    chosen = random.Random(7)
    with kit(tmp_path / "small") as one:
        provider = WrappingMeterProvider()
        one.monitor.adopt(provider)
        calls = calls_of(provider.get_meter("m"))
        expected = []
        for i in range(20_000):
            kind, layer = chosen.choice([*KINDS]), chosen.randrange(30)
            calls[kind](i, {"batch": i, "layer": layer})
            expected.append((kind, float(i), i, str(layer)))
            if i % 3000 == 2999:
                one.tick()
        table = one.monitor.query("SELECT metric, value, batch, tags['layer'] FROM metrics ORDER BY seq")
        assert recorded_run(one.monitor).recorder.next_number > 10
        totals = {k: sum(v for kind, v, *_ in expected if kind == k) for k in KINDS}
        for kind in ("counter", "up_down_counter"):
            assert sum(p.value for p in one.points(f"training.{kind}")) == totals[kind]
        counts = sum(p.value for p in one.points("training.histogram"))
        assert counts == sum(kind == "histogram" for kind, *_ in expected)
        assert one.monitor.dropped == one.monitor.bad_values == 0
    assert [tuple(row.values()) for row in table.to_pylist()] == expected


def test_before_during_and_after_runs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before a run nothing is kept; each run has its own calls; after it they are counted as dropped."""
    provider = WrappingMeterProvider(NoOpMeterProvider())
    calls = calls_of(provider.get_meter("m"))
    monitors = []
    for call in calls.values():
        call(-1.0)
        call(math.nan)
    for number in (1.0, 2.0):
        with kit(tmp_path / str(number)) as one:
            one.monitor.adopt(provider)
            for _ in range(2):
                for call in calls.values():
                    call(number, {"split": "train"})
            table = one.monitor.query("SELECT metric, value FROM metrics ORDER BY seq").to_pylist()
        monitors.append(one.monitor)
        assert [tuple(row.values()) for row in table] == [(kind, number) for kind in KINDS] * 2
        calls["gauge"](9.0, {"split": "train"})
        calls["counter"](9.0)
    assert [monitor.dropped for monitor in monitors] == [2, 2]
    assert caplog.text.count("after the run ended") == 2


def test_a_held_line_in_production(tmp_path: Path) -> None:
    """Instruments go on recording while the line is held, and the first loss is the one that is named."""
    errors.set_strict(False)
    with kit(tmp_path) as one:
        provider = WrappingMeterProvider()
        one.monitor.adopt(provider)
        loss = provider.get_meter("m").create_gauge("training.loss")
        for i, value in enumerate([1.0, 1.0, math.nan, math.inf, 0.5]):
            loss.set(value, {"epoch": 1, "batch": i, "split": "train"})
        fast = one.monitor.bind("other")
        with pytest.raises(AndonStop) as caught:
            fast(1.0)
        assert (caught.value.epoch, caught.value.batch) == (1, 2)
        fast(2.0)
        one.monitor.log(done=1)
        assert one.monitor.sample_count("loss") == 5
        assert one.monitor.curve("other")["value"].to_pylist() == [1.0, 2.0]


class Split(str, Enum):  # noqa: UP042 - a StrEnum is written as its text by itself
    """What many code bases have for the names of their splits."""

    TRAIN = "train"


def test_an_enumeration_of_texts_is_its_text(one: Kit, meter: Any, rows: Rows) -> None:
    """As OTLP writes it. The tag does not depend on which was seen first, and its NaN stops the line."""
    gauge, loss = meter.create_gauge("training.x"), meter.create_gauge("training.loss")
    for value in (Split.TRAIN, "train", Split.TRAIN):
        gauge.set(1.0, {"split": value})
    assert [row[2] for row in rows("x")] == [{"split": "train"}] * 3
    loss.set(math.nan, {"split": Split.TRAIN})
    with pytest.raises(AndonStop):
        one.monitor.raise_if_stopped()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("value", [Unprintable(), [Unprintable()], 10**5000], ids=["one", "a list", "long"])
def test_an_attribute_that_cannot_be_written_costs_no_sample(meter: Any, rows: Rows, value: Any) -> None:
    """The value was good: it is recorded, with what can be said of the attribute or without it."""
    meter.create_gauge("training.x").set(1.0, {"k": value, "batch": 4})
    assert [(row[1], row[4]) for row in rows("x")] == [(1.0, 4)]


def test_complex_numbers(one: Kit, meter: Any, rows: Rows) -> None:
    """No number, before and after a good call of that kind. Of numpy's own, numpy gives the real part.

    That is so where a warning is no error: numpy itself warns (ComplexWarning), and the quick path has no
    question to ask. The careful one refuses them.
    """
    calls = calls_of(meter)
    for call in calls.values():
        for amount in (1j, np.complex64(2 + 1j), 1.0, 1j, np.array(1j)):
            call(amount)
    assert [row[:2] for row in rows()] == [(kind, 1.0) for kind in KINDS]
    assert one.monitor.bad_values == 4 * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls["gauge"](np.complex64(2 + 1j))
    assert rows("gauge")[-1][1] == 2.0
