"""What a program hands in: odd numbers, descriptions of other types, receivers that are none, copies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import metrics

from entrenar_otel import AndonStop, ConfigError, Monitor, errors
from entrenar_otel.recording.inputs import described

NO_TORCH = "NOT TESTED with tensors: torch is missing; scripts/setup takes its wheel from ../shared"


def test_what_floats_warn_of_is_refused_on_every_path() -> None:
    """A complex number and a masked one behind good ones, where the fast path takes numbers as they come."""
    errors.set_strict(False)
    with Monitor("r", quiet=True) as monitor:
        monitor.start()
        bound, gauge = monitor.bind("b"), metrics.get_meter("m").create_gauge("training.g")
        for value in (1.0, 2.0, np.complex128(1 + 2j), np.ma.masked, 3.0):
            monitor.log(a=value)
            bound(value)
            gauge.set(value)  # type: ignore[arg-type]
        monitor.flush()
        assert [monitor.sample_count(name) for name in "abg"] == [3, 3, 3]
        assert monitor.bad_values == 6
        assert [monitor.summary()[name].mean for name in "abg"] == [2.0, 2.0, 2.0]


def test_a_tensor_that_wants_its_gradient() -> None:
    """PyTorch's advice to detach is for the program's own lines: nothing is said, nothing is stored."""
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    with warnings.catch_warnings(record=True) as seen, Monitor("r", quiet=True) as monitor:
        bound = monitor.bind("b")
        for value in (1.0, torch.tensor(2.0, requires_grad=True), torch.tensor([3.0], requires_grad=True)):
            monitor.log(a=value)
            bound(value)
        assert (monitor.sample_count("a"), monitor.sample_count("b"), monitor.bad_values) == (3, 3, 0)
        assert monitor.query("SELECT * FROM events WHERE name = 'training.warning'").num_rows == 0
    assert seen == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        (2, "2"),
        (1.5, "1.5"),
        (Path("a/b"), "a/b"),
        ("caf\udce9", "caf\\udce9"),
        ("x" * 2000, "x" * 1000),
    ],
)
def test_what_only_describes(given: Any, kept: str | None) -> None:
    """A model's id or version of another type is its text, and costs no run."""
    assert described(given) == kept
    with Monitor("r", quiet=True, model_id=given, version=given) as monitor:
        monitor.log(a=1)
    assert (monitor.model_id, monitor.version) == (kept, kept)
    assert [(one.model_id, one.version) for one in monitor.lake.runs()] == [(kept, kept)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"emitters": [5]}, "emitters: expected an object with emit_batch, flush, got 5"),
        ({"emitters": 5}, "expected emitters to be a list, got 5"),
        ({"consumers": ["x"]}, "consumers: expected a function, or an object with consume, got 'x'"),
        ({"exporters": "console"}, "expected exporters to be a list, got 'console'"),
        ({"exporters": [object()]}, "exporters: expected an object with export, shutdown, got <object"),
    ],
)
def test_receivers_that_are_none(settings: dict[str, Any], said: str) -> None:
    """An error at construction, and not a run whose monitoring is off."""
    with pytest.raises(ConfigError) as caught:
        Monitor("r", **settings)
    assert said in str(caught.value)


def test_a_copy_is_the_monitor_itself() -> None:
    """A trainer that deep-copies its callbacks goes on recording."""

    class Callback:
        def __init__(self, monitor: Monitor) -> None:
            self.monitor = monitor

    with Monitor("r", quiet=True) as monitor:
        first = Callback(monitor)
        for callback in (first, copy.copy(first), copy.deepcopy(first), copy.deepcopy([first])[0]):
            callback.monitor.log(a=1)
        assert copy.copy(monitor) is monitor
        assert monitor.sample_count("a") == 4


@pytest.mark.parametrize("path", ["log", "bind", "careful", "instrument"])
@pytest.mark.parametrize("name", ["loss", "train_loss", "total_loss"])
def test_a_nan_stops_by_any_name_of_the_training_loss(name: str, path: str) -> None:
    """In the call that logged it, and under the name that was given; the validation's only notifies."""
    with Monitor("r", quiet=True) as monitor:
        monitor.start()
        gauge = metrics.get_meter("m").create_gauge(f"training.{name}")
        given = name
        write: Callable[[float, str], object] = {
            "log": lambda value, name: monitor.log(**{name: value}),
            "bind": lambda value, name: monitor.bind(name)(value),
            "careful": lambda value, name: monitor.log({name: value}),
            "instrument": lambda value, name: gauge.set(value, {"split": "val"} if name != given else {}),
        }[path]
        for value in (1.0, 2.0):
            write(value, name)
        write(float("nan"), "val_loss")
        monitor.raise_if_stopped()

        def diverge() -> None:
            write(float("nan"), name)
            monitor.raise_if_stopped()

        with pytest.raises(AndonStop, match=f"{name} is nan") as stop:
            diverge()
        assert stop.value.metric == name
