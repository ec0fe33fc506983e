"""log and bind: what is given is recorded, on the fast path from the second call on."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from entrenar_processors import Series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrenar_otel.errors import ConfigError
from entrenar_otel.recording import recorder as module

ABSENT = (-1, -1, -1)


def test_keywords_a_mapping_both_and_tags(recorder: Any) -> None:
    """The ways to say it, with coordinates, in the order in which it was said."""
    recorder.log(loss=0.5, accuracy=0.9, epoch=1, batch=2, step=3)
    recorder.log({"val/loss": 0.25})
    recorder.log({"loss": 1.0}, accuracy=0.8, step=9)
    recorder.log(loss=0.75, tags={"split": "validation", "fold": 2}, epoch=4)
    recorder.log()
    assert recorder.rows() == [
        (1, 2, 3, {"loss": 0.5, "accuracy": 0.9}),
        (*ABSENT, {"val/loss": 0.25}),
        (-1, -1, 9, {"loss": 1.0, "accuracy": 0.8}),
        (4, -1, -1, {'loss{fold="2",split="validation"}': 0.75}),
    ]
    assert (recorder.recorded, recorder.dropped, recorder.bad) == (6, 0, 0)


def test_the_order_of_keywords_is_not_the_identity(recorder: Any) -> None:
    """Each value stays with its name, whatever the order, on the fast path too."""
    for _ in range(2):
        recorder.log(a=1, b=2)
        recorder.log(b=3, a=4)
    assert recorder.values() == [{"a": 1, "b": 2}, {"b": 3, "a": 4}] * 2


@pytest.mark.parametrize("way", ["log", "bind"])
def test_the_second_call_is_the_fast_path(recorder: Any, way: str) -> None:
    """Known names need no care any more: integers, coordinates and rolling included."""
    bound = recorder.bind(["loss", "lr"], None)
    log = recorder.log if way == "log" else bound
    log(loss=1, lr=2)
    recorder.roll()
    recorder.without_slow_path()
    log(loss=0.5, lr=True)
    recorder.set_coordinates(epoch=7, batch=8, step=9)
    log(loss=-0.0, lr=3, epoch=1)
    assert recorder.rows()[1:] == [(*ABSENT, {"loss": 0.5, "lr": 1}), (1, 8, 9, {"loss": 0, "lr": 3})]


def test_current_coordinates_fill_in_what_is_not_given(recorder: Any) -> None:
    """Set in part, used by both forms and the careful path, and cleared."""
    bound, nowhere = recorder.bind(["loss"], {"rank": 1}), recorder.place()
    recorder.set_coordinates(epoch=1, step=10)
    recorder.log(loss=1)
    recorder.set_coordinates(batch=5)
    bound(2)
    bound(3, epoch=0)
    recorder.log(loss=4, step=0, tags={"x": "y"})
    recorder.return_to(nowhere)
    recorder.log(loss=5)
    assert [row[:3] for row in recorder.rows()] == [(1, -1, 10), (1, 5, 10), (0, 5, 10), (1, 5, 0), ABSENT]


CLASHES = ["record", "write", "epoch", "class", "val/loss", "1st", "now", "STEP", "slow_0", "head_0", "m_2"]


def test_bind_takes_any_names(recorder: Any) -> None:
    """No identifier, a keyword, a coordinate, or a name that the generated function uses."""
    together = recorder.bind(CLASHES, None)
    alone = [recorder.bind([name], {"of": "one"}) for name in CLASHES]
    for call in range(2):
        together(*range(call, call + len(CLASHES)), epoch=call)
        for i, one in enumerate(alone):
            one(10 * i + call)
    expected = []
    for call in range(2):
        expected.append({name: i + call for i, name in enumerate(CLASHES)})
        expected += [{f'{name}{{of="one"}}': 10 * i + call} for i, name in enumerate(CLASHES)]
    assert recorder.values() == expected


def test_a_bound_function_takes_its_names_as_keywords(recorder: Any) -> None:
    """A wrong number of arguments is the caller's mistake, and says so like any function."""
    bound = recorder.bind(["loss", "accuracy"], None)
    bound(accuracy=2, loss=1)
    assert recorder.values() == [{"loss": 1, "accuracy": 2}]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'accuracy'"):
        bound(1)


@pytest.mark.parametrize(
    ("names", "tags", "message"),
    [
        ([], None, "at least one metric"),
        (["loss", ""], None, "must not be empty, got ''"),
        (["loss", 5], None, "must be text, got 5"),
        (["loss", "loss"], None, "a metric twice: loss, loss"),
        (["x" * 1001], None, "at most 1000 characters, got 1001"),
        (["\ud800"], None, "cannot be written as UTF-8"),
        (["loss"], "validation", "tags must be a mapping of text to text, got 'validation'"),
        (["loss"], {"split": "\ud800"}, "cannot be written as UTF-8"),
    ],
)
def test_bind_refuses_at_once_what_cannot_be(recorder: Any, names: Any, tags: Any, message: str) -> None:
    """A misconfiguration is told where it is written, not in every later call."""
    with pytest.raises(ConfigError, match=message):
        recorder.bind(names, tags)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcd"), st.floats(), min_size=1),
            st.none() | st.integers(0, 2**31 - 1),
            st.none() | st.integers(0, 2**63 - 1),
            st.sampled_from(["keywords", "mapping", "tags", "roll"]),
        ),
        max_size=20,
    )
)
def test_any_calls_come_out_as_they_went_in(
    make: Callable[..., Any], segment_size: Callable[[int], None], calls: list[Any]
) -> None:
    """Every form, with rolls in between: the same values under the same names, in order."""
    segment_size(1 << 16)
    recorder = make()
    expected = []
    for values, epoch, step, how in calls:
        if how == "roll":
            recorder.roll()
        if how == "mapping":
            recorder.log(values, epoch=epoch, step=step)
        else:
            recorder.log(**values, epoch=epoch, step=step, tags={"t": "1"} if how == "tags" else None)
        tag = '{t="1"}' if how == "tags" else ""
        named = {name + tag: value for name, value in values.items()}
        expected.append((-1 if epoch is None else epoch, -1, -1 if step is None else step, named))
    assert repr(recorder.rows()) == repr(expected)  # by repr, since NaN is not itself
    recorder.end("test")
    for segment in recorder.sealed():
        recorder.release(segment, unlink=True)


# -- layouts without end ------------------------------------------------------------------------


def test_ten_thousand_names_in_one_call(recorder: Any) -> None:
    """A wide row is one row, on the fast path the second time."""
    values = {f"layer.{i}": float(i) for i in range(10_000)}
    recorder.log(**values)
    recorder.without_slow_path()
    recorder.log(**values)
    assert recorder.values() == [values, values]


def test_a_mapping_of_known_names_is_recorded_as_keywords_are(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the careful path; not so names that are keywords of `log`, and values that may be anything."""
    values = {f"layer.{i}": float(i) for i in range(1_000)}
    twice = {"step": 3.0, "loss": 0.5}
    for _ in range(2):
        recorder.log(twice)
    recorder.log(values)
    careful: list[Any] = []
    record = recorder._record
    monkeypatch.setattr(recorder, "_record", lambda *given: (careful.append(given), record(*given))[1])
    recorder.log(values, 7, epoch=1)
    assert not careful
    recorder.log(values | {"layer.3": np.array([0.5])})
    recorder.log(twice)
    assert len(careful) == 2
    assert recorder.rows()[3:] == [
        (1, -1, 7, values),
        (*ABSENT, values | {"layer.3": 0.5}),
        (*ABSENT, twice),
    ]
    assert (recorder.bad, recorder.dropped) == (0, 0)


def test_ten_thousand_different_names(recorder: Any) -> None:
    """More names than layouts may be combined: each still is recorded, over a roll too."""
    for i in range(10_000):
        recorder.log(**{f"layer.{i}": i})
        if i == 9_000:
            recorder.roll()
    recorder.log(**{"layer.5": 0.5})
    assert recorder.values() == [*({f"layer.{i}": i} for i in range(10_000)), {"layer.5": 0.5}]
    assert (recorder.bad, recorder.dropped) == (0, 0)


def test_combinations_without_end_are_recorded_series_by_series(
    recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A different subset each step makes no layouts without end, and loses nothing."""
    monkeypatch.setattr(module, "MAX_LAYOUTS", 50)
    rng = random.Random(3)
    names = [f"expert.{i}" for i in range(40)]
    logged: dict[str, list[float]] = {}
    for step in range(300):
        subset = rng.sample(names, rng.randint(2, 40))
        recorder.log({name: step + i for i, name in enumerate(subset)}, step=step)
        for i, name in enumerate(subset):
            logged.setdefault(name, []).append(step + i)
    samples = recorder.drain()
    assert len(recorder.layouts) <= 50 + 40
    for name, values in logged.items():
        column = samples.column(Series(name))
        assert column.values.tolist() == values
        assert (column.step >= 0).all()
    assert samples.n_values == sum(map(len, logged.values()))


def test_names_without_end_are_refused_before_they_fill_the_segment(
    recorder: Any, segment_size: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Warned of once, each counted; the names known by then go on being recorded."""
    segment_size(1 << 16)
    for i in range(1_000):
        recorder.log(**{f"loss of batch {i}": i})
    recorder.log(**{"loss of batch 3": 0.5})
    values = recorder.values()
    assert 100 < len(values) == 1_001 - recorder.bad < 500
    assert values[-1] == {"loss of batch 3": 0.5}
    assert sum("different names or tags" in text for text in caplog.messages) == 1


# -- the line ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("way", ["log", "mapping", "bind", "tags"])
def test_a_non_finite_loss_stops_the_line_once_it_is_recorded(recorder: Any, value: float, way: str) -> None:
    """On the first call and on the fast path, with the place where it happened."""
    bound = recorder.bind(["accuracy", "loss"], None)
    recorded_when_stopped = []

    def note_stop(_series: Any, *stop: Any) -> None:
        recorder.stops.append(stop)
        recorded_when_stopped.append(len(recorder.rows()))

    recorder.on_bad_loss = note_stop
    for _ in range(2):
        if way == "bind":
            bound(1, value, step=5)
        elif way == "mapping":
            recorder.log({"accuracy": 1, "loss": value}, step=5)
        else:
            recorder.log(accuracy=1, loss=value, step=5, tags={"split": "train"} if way == "tags" else None)
    assert repr(recorder.stops) == repr([(value, None, None, 5)] * 2)
    assert recorded_when_stopped == [1, 2]


@pytest.mark.parametrize("way", ["log", "bind"])
def test_each_of_two_training_losses_stops_the_line(recorder: Any, way: str) -> None:
    """A generator's and a whole model's, say: at once, not at the next heartbeat."""
    bound = recorder.bind(["loss", "train/loss"], None)
    stops = []
    recorder.on_bad_loss = lambda series, *stop: stops.append((str(series), *stop))
    for losses in [(math.inf, 1.0), (1.0, math.inf), (1e308, -1e308), (math.inf, -math.inf), (1.0, math.inf)]:
        if way == "bind":
            bound(*losses, step=5)
        else:
            recorder.log({"loss": losses[0], "train/loss": losses[1]}, step=5)
    stop = (math.inf, None, None, 5)
    assert stops == [("loss", *stop), ("train/loss", *stop), ("loss", *stop), ("train/loss", *stop)]
    assert len(recorder.rows()) == 5


def test_a_stop_knows_a_large_step_from_an_absent_one(recorder: Any) -> None:
    """All ones in 32 bits are no epoch, but they are a step."""
    recorder.set_coordinates(epoch=3)
    for _ in range(2):
        recorder.log(loss=math.inf, step=2**32 - 1)
    assert recorder.stops == [(math.inf, 3, None, 2**32 - 1)] * 2


def test_other_non_finite_values_are_only_recorded(recorder: Any) -> None:
    """Another metric, another split, and an overflowing but finite loss do not stop training."""
    validation = recorder.bind(["loss"], {"split": "validation"})
    for _ in range(2):
        recorder.log(accuracy=math.nan, loss=1e308)
        recorder.log(loss=math.nan, tags={"split": "validation"})
        validation(math.inf)
    assert recorder.stops == []
    assert len(recorder.rows()) == 6


def test_what_a_failure_of_ours_costs_is_counted(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on, and is not told that these values were taken."""

    def fail(*_given: Any) -> None:
        raise RuntimeError("a fault of ours")

    recorder.log(loss=0.0)
    monkeypatch.setattr(recorder, "_layout", fail)
    with pytest.raises(RuntimeError):  # in tests; in a training it is said, once
        recorder.log(a=1.0, b=2.0)
    assert recorder.dropped == 2
    with pytest.raises(RuntimeError):
        recorder.record_one(Series("c"), 1.0, None, None, None)
    assert recorder.dropped == 3
    monkeypatch.undo()
    recorder.log(a=1.0)
    assert recorder.values() == [{"loss": 0.0}, {"a": 1.0}]
