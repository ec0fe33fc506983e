"""Instruments: every call is a row, quickly or with care, and none raises."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrenar_otel import AndonStop
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.otel.metrics.series_writers import MAX_WRITERS, SeriesWriters, text_of
from entrenar_otel.testing import Kit, recorded_run

Rows = Callable[..., list[tuple[Any, ...]]]


def test_every_kind_is_a_row(meter: Any, rows: Rows) -> None:
    """Value, tags and coordinates, in any order of the attributes."""
    meter.create_gauge("training.loss").set(0.31, {"epoch": 1, "batch": 7, "split": "train"})
    meter.create_counter("training.things").add(2, {"split": "train", "step": 5})
    meter.create_up_down_counter("training.queue").add(-3)
    meter.create_histogram("training.step.duration", "s").record(0.25, {"batch": 3, "phase": "a", "epoch": 0})
    assert rows() == [
        ("loss", 0.31, {"split": "train"}, 1, 7, None),
        ("things", 2.0, {"split": "train"}, None, None, 5),
        ("queue", -3.0, {}, None, None, None),
        ("step_duration", 0.25, {"phase": "a"}, 0, 3, None),
    ]


def test_the_second_call_is_the_quick_one(
    one: Kit, provider: WrappingMeterProvider, meter: Any, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where bound functions are in the same namespace, which has names of its own for theirs."""
    meter.create_gauge("training.loss")
    careful: list[Any] = []
    before = SeriesWriters.record_carefully
    monkeypatch.setattr(SeriesWriters, "record_carefully", lambda *a: (careful.append(a), before(*a)))
    fresh = meter.create_gauge("training.other")
    one.monitor.adopt(provider)  # again: instruments get functions of their own anew
    for i in range(10):
        fresh.set(i, {"batch": i, "split": "train"})
        fresh.set(i, {"batch": i, "layer": 3})
        fresh.set(i)
    assert len(careful) == 3  # one for each set of names
    assert len(rows("other")) == 30


def test_instruments_and_bound_functions_leave_each_other_alone(one: Kit, meter: Any) -> None:
    """Neither takes the careful path because of the other."""
    bound = [one.monitor.bind("a"), one.monitor.bind("b"), one.monitor.bind("c")]
    gauge = meter.create_gauge("training.x")
    for _ in range(2):
        for function in bound:
            function(1.0)
        gauge.set(1.0)
    calls: list[Any] = []
    recorded_run(one.monitor).recorder.namespace |= {
        f"slow_{i}": lambda *a: calls.append(a) for i in range(3)
    }
    for function in bound:
        function(1.0)
    assert calls == []


def test_what_python_takes_for_one_key_is_kept_apart(meter: Any, rows: Rows, one: Kit) -> None:
    """True, 1 and 1.0 are three attributes; 1 and "1" have one tag."""
    gauge = meter.create_gauge("training.x")
    for _ in range(3):
        for value in (True, 1, 1.0, "1", 0, False):
            gauge.set(1.0, {"k": value})
    assert [row[2]["k"] for row in rows("x")] == ["true", "1", "1.0", "1", "0", "false"] * 3
    assert len(one.points("training.x")) == 5


@pytest.mark.parametrize(
    ("attributes", "tags"),
    [
        (UserDict({"a": "b"}), {"a": "b"}),
        ({"a": ("x", 1)}, {"a": '["x", 1]'}),
        ({"a": [1.5, True]}, {"a": "[1.5, true]"}),
        ({"a": b"raw"}, {"a": "\"b'raw'\""}),
        ({"a": None, "b": "c"}, {"b": "c"}),
        ({"a": {"deep": 1}}, {"a": '{"deep": 1}'}),
        ({3: "x"}, {"3": "x"}),
        ({"seq": 9, "a": "b"}, {"a": "b"}),
        ({"a": np.str_("s"), "n": np.int64(3)}, {"a": "s", "n": '"3"'}),
    ],
)
def test_odd_attributes(meter: Any, rows: Rows, attributes: Any, tags: dict[str, str]) -> None:
    """Text as it is, the rest as JSON; twice, since the second call may be another path."""
    gauge = meter.create_gauge("training.x")
    gauge.set(1.0, attributes)
    gauge.set(2.0, attributes)
    assert rows("x") == [("x", 1.0, tags, None, None, None), ("x", 2.0, tags, None, None, None)]


@pytest.mark.parametrize("attributes", [5, "text", ["a"], object()])
def test_what_is_no_mapping(
    meter: Any, rows: Rows, attributes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The value is kept, and it is said once."""
    gauge = meter.create_gauge("training.x")
    gauge.set(1.0, attributes)
    gauge.set(2.0, attributes)
    assert [row[1:3] for row in rows("x")] == [(1.0, {}), (2.0, {})]
    assert caplog.text.count("attributes must be a mapping") == 1


@pytest.mark.parametrize("amount", [True, np.float32(0.5), np.int64(3), np.array([2.0]), 7])
def test_numbers_of_all_kinds(meter: Any, rows: Rows, amount: Any) -> None:
    gauge = meter.create_gauge("training.x")
    gauge.set(amount)
    gauge.set(amount)
    assert [row[1] for row in rows("x")] == [float(np.asarray(amount).item())] * 2


@pytest.mark.parametrize("amount", ["1.0", None, 1j, object(), [1.0, 2.0]])
def test_what_is_no_number(
    one: Kit, meter: Any, rows: Rows, amount: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, said once per name, and nothing is recorded."""
    gauge = meter.create_gauge("training.x")
    gauge.set(amount)
    gauge.set(amount)
    gauge.set(1.0)
    assert [row[1] for row in rows("x")] == [1.0]
    assert one.monitor.bad_values == 2
    assert caplog.text.count("x must be one number") == 1


@pytest.mark.parametrize("kind", ["counter", "histogram"])
def test_negative_amounts(
    one: Kit, meter: Any, rows: Rows, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Counters do not fall and histograms have no negative values: as the SDK has it."""
    made = getattr(meter, f"create_{kind}")("training.x")
    call = made.add if kind == "counter" else made.record
    for amount in (1.0, -1.0, -2.0, 2.0):
        call(amount)
    assert [row[1] for row in rows("x")] == [1.0, 2.0]
    assert (one.monitor.bad_values, caplog.text.count("of at least 0")) == (2, 1)


def test_nonfinite_values_of_every_kind(one: Kit, meter: Any, rows: Rows) -> None:
    """All are rows; sums and histograms leave them out; they are counted."""
    calls = [
        meter.create_gauge("training.a").set,
        meter.create_counter("training.b").add,
        meter.create_up_down_counter("training.c").add,
        meter.create_histogram("training.d").record,
    ]
    for call in calls:
        for amount in (1.0, math.nan, math.inf, 2.0):
            call(amount)
    assert len(rows()) == 16
    assert [one.points(f"training.{name}")[0].value for name in "abcd"] == [2.0, 3.0, 3.0, 2]
    assert {p.attributes["metric"]: p.value for p in one.points("training.nonfinite")} == dict.fromkeys(
        "abcd", 2
    )


def test_many_names_and_many_sets_of_names(meter: Any, rows: Rows) -> None:
    """Beyond the limit of shapes nothing is lost."""
    gauge = meter.create_gauge("training.x")
    for i in range(MAX_WRITERS + 20):
        gauge.set(i, {f"key{i}": "v"})
        gauge.set(i, {f"key{i}": "v"})
    assert [row[1] for row in rows("x")] == [i for i in range(MAX_WRITERS + 20) for _ in range(2)]


def test_a_nan_loss_holds_the_line(one: Kit, meter: Any, rows: Rows) -> None:
    """`set` never raises; `raise_if_stopped` does, once, and the next `log` does where nobody asked."""
    loss = meter.create_gauge("training.loss")
    for _ in range(2):  # with care, and quickly
        loss.set(0.5, {"epoch": 1, "batch": 6})
    loss.set(math.nan, {"epoch": 1, "batch": 7})
    with pytest.raises(AndonStop, match="loss is nan at epoch 1, batch 7") as stop:
        one.monitor.raise_if_stopped()
    assert (stop.value.metric, stop.value.epoch, stop.value.batch) == ("loss", 1, 7)
    one.monitor.raise_if_stopped()
    loss.set(math.inf, {"epoch": 2, "batch": 0})
    with pytest.raises(AndonStop, match="loss is inf"):
        one.monitor.log(accuracy=0.5)
    one.monitor.log(accuracy=0.75)
    assert [row[1] for row in rows("accuracy")] == [0.5, 0.75]
    loss.set(math.nan, {"split": "validation"})
    one.monitor.raise_if_stopped()


def test_after_the_end(one: Kit, meter: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Dropped, counted, said once."""
    gauge = meter.create_gauge("training.x")
    gauge.set(1.0)
    one.monitor.close()
    gauge.set(2.0)
    gauge.set(3.0)
    assert one.monitor.dropped == 2
    assert caplog.text.count("after the run ended") == 1


def test_a_strict_monitor_does_not_raise_through_instruments(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_bad_value="raise"` is for `log`; OpenTelemetry's API must not raise."""
    from entrenar_otel.testing import kit

    with kit(tmp_path, on_bad_value="raise") as one:
        provider = WrappingMeterProvider()
        one.monitor.adopt(provider)
        provider.get_meter("m").create_gauge("training.x").set("text", {"epoch": -1})  # type: ignore[arg-type]
    assert "must be one number" in caplog.text


KEYS = st.sampled_from(["epoch", "batch", "step", "split", "layer", "on", "x"])
VALUES = st.one_of(
    st.text("ab", max_size=2), st.booleans(), st.integers(0, 5), st.sampled_from([0.0, 1.0, 0.5])
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e6), st.dictionaries(KEYS, VALUES)), max_size=30)
)
def test_any_sequence_of_calls(
    one: Kit, provider: WrappingMeterProvider, made: list[tuple[str, float, dict[str, Any]]]
) -> None:
    """Whatever is called in which order, the lake has it in that order."""
    first = one.monitor.query("SELECT count(*) FROM metrics").column(0)[0].as_py()
    meter = provider.get_meter("m")
    for name, amount, attributes in made:
        meter.create_gauge(f"training.{name}").set(amount, attributes)
    table = one.monitor.query("SELECT * FROM metrics ORDER BY seq OFFSET ?", [first]).to_pylist()
    expected = []
    for name, amount, attributes in made:
        tags = {k: text_of(v) for k, v in attributes.items() if k not in ("epoch", "batch", "step")}
        places = [_place(attributes.get(k)) for k in ("epoch", "batch", "step")]
        expected.append((name, amount, tags, *places))
    assert [
        (row["metric"], row["value"], dict(row["tags"]), row["epoch"], row["batch"], row["step"])
        for row in table
    ] == expected


def _place(value: Any) -> int | None:
    return None if value is None or isinstance(value, str) else math.floor(value)
