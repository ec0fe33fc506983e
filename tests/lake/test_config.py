"""A configuration as JSON: every common kind of settings object, and what JSON has no word for."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import enum
import json
import types
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from entrenar_otel.lake.records.config import json_config
from entrenar_otel.lake.records.runs import describe_config

NO_TORCH = "NOT TESTED with tensors: torch is missing; scripts/setup takes its wheel from ../shared"


@dataclasses.dataclass
class Optimizer:
    lr: float = 0.1


class Model(pydantic.BaseModel):
    lr: float = 0.1


class Settings:
    """A plain class, as nanoGPT and many scripts have it."""

    def __init__(self) -> None:
        self.lr = 0.1
        self._secret_state = object()


class Named(collections.namedtuple("Named", "lr")):
    """A named tuple."""


class Kind(enum.Enum):
    SGD = "sgd"


class Attrs:
    """What attrs makes of a class, as far as it matters here."""

    __attrs_attrs__ = (types.SimpleNamespace(name="lr"),)
    lr = 0.1


class Odd:
    """An object that fails at whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    "config",
    [
        {"lr": 0.1},
        {"lr": np.float32(0.1)},
        argparse.Namespace(lr=0.1),
        types.SimpleNamespace(lr=0.1),
        types.MappingProxyType({"lr": 0.1}),
        collections.UserDict({"lr": 0.1}),
        collections.OrderedDict(lr=0.1),
        Optimizer(),
        Model(),
        Settings(),
        Named(0.1),
        Attrs(),
    ],
)
def test_every_kind_of_settings_is_one_object(config: Any) -> None:
    """The same settings have the same text and hash, whatever holds them."""
    assert json_config(config) == {"lr": 0.1}
    assert describe_config(config) == describe_config({"lr": 0.1})


def test_values() -> None:
    """Numbers are numbers as one would write them, and the rest is text that is the same in every process."""
    config = {
        "int64": np.int64(3),
        "true": np.bool_(True),
        "array": np.arange(3, dtype=np.float32) / 10,
        "large": np.zeros((40, 50)),
        "nan": float("nan"),
        "kind": Kind.SGD,
        "path": Path("a/b"),
        "day": datetime.date(2026, 1, 2),
        "bytes": b"a\xff",
        "set": {3, 1, 2},
        "tuple": (1, Optimizer()),
        "function": json.dumps,
        "class": Optimizer,
        "object": object(),
        "odd": Odd(),
        "lone surrogate": "caf\udce9",
        ("a", 1): 1,
        7: 2,
        None: None,
    }
    assert json_config(config) == {
        "int64": 3,
        "true": True,
        "array": [0.0, 0.1, 0.2],
        "large": "ndarray of float64, shape (40, 50)",
        "nan": "NaN",
        "kind": "sgd",
        "path": "a/b",
        "day": "2026-01-02",
        "bytes": "a\\xff",
        "set": [1, 2, 3],
        "tuple": [1, {"lr": 0.1}],
        "function": "json.dumps",
        "class": f"{__name__}.Optimizer",
        "object": "<object object>",
        "odd": "<Odd>",
        "lone surrogate": "caf\\udce9",
        "('a', 1)": 1,
        "7": 2,
        "None": None,
    }


def test_tensors() -> None:
    """Of one element and of some; on whatever device, and wanting a gradient or not."""
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    config = {"a": torch.tensor(0.1, requires_grad=True), "b": torch.tensor([1, 2]), "type": torch.float32}
    assert json_config(config) == {"a": 0.1, "b": [1, 2], "type": "torch.float32"}


def test_cycles_and_depth() -> None:
    """Cut, and nothing of the rest is lost."""
    circle: dict[str, Any] = {"lr": 0.1}
    circle["self"] = circle
    assert json_config(circle) == {"lr": 0.1, "self": "…"}
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"x": deep}
    text, _ = describe_config({"lr": 0.1, "deep": deep})
    assert json.loads(text)["lr"] == 0.1
    assert "…" in json.loads(text.replace("\\u2026", "…"))["deep"].__repr__()
    twice = [1, 2]
    assert json_config({"a": twice, "b": twice}) == {"a": [1, 2], "b": [1, 2]}


def test_no_configuration() -> None:
    """None is an empty object, a text or a number is itself."""
    assert (json_config(None), json_config("x"), json_config(5)) == ({}, "x", 5)
