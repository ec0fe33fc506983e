"""Config: what a program calls its configuration, as JSON with numbers as numbers."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import date, time
from typing import Any

import numpy as np
from entrenar_processors.plain import plain

#: Tables within tables beyond this are cut: no configuration is so deep, only a mistake.
_MAX_DEPTH = 50
#: Values of an array that are kept one by one; of a larger one, what it is.
_MAX_ITEMS = 1000
_CUT = "…"
#: Types of numbers that are written with fewer digits.
_SHORT = {"float32": np.float32, "float16": np.float16, "bfloat16": np.float32}
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def json_config(config: Any) -> Any:
    """A configuration as JSON: mappings, namespaces, dataclasses, attrs and pydantic models are objects.

    Numbers of numpy and tensors of one element are numbers, keys are text, and what JSON has no word for is
    a text without memory addresses, so that equal settings have equal texts. Never raises.

    >>> json_config(argparse.Namespace(lr=np.float32(0.1), layers=(64, 10), seed=None))
    {'lr': 0.1, 'layers': [64, 10], 'seed': None}
    """
    return {} if config is None else _plain(config, frozenset(), 0)


def _plain(value: Any, above: frozenset[int], depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    try:
        if isinstance(value, int | float | str) and not isinstance(value, enum.Enum):
            return _scalar(value)
        if depth > _MAX_DEPTH or id(value) in above:
            return _CUT
        above |= {id(value)}
        if (table := _table(value, depth)) is not None:
            return {_key(key): _plain(item, above, depth + 1) for key, item in table.items()}
        if isinstance(value, Set):
            return sorted((_plain(item, above, depth + 1) for item in value), key=str)
        if isinstance(value, list | tuple) or _is_sequence(value):
            return [_plain(item, above, depth + 1) for item in value]
        return _other(value, above, depth)
    except Exception:  # whatever a stranger's property, iterator or repr raises
        return f"<{type(value).__name__}>"


def _scalar(value: int | float | str) -> Any:
    if isinstance(value, str):
        return str(value).encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return int(value)
    return plain(float(value))


def _key(key: Any) -> str:
    return _scalar(key) if isinstance(key, str) else _ADDRESS.sub("", str(key))


def _table(value: Any, depth: int) -> Mapping[Any, Any] | None:
    """The value as a mapping, if it is one or has named fields."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if (fields := getattr(type(value), "__attrs_attrs__", None)) is not None:
        return {field.name: getattr(value, field.name) for field in fields}
    for name in ("model_dump", "_asdict"):  # pydantic, named tuples
        if callable(dump := getattr(type(value), name, None)) and isinstance(table := dump(value), Mapping):
            return table
    if isinstance(value, argparse.Namespace | types.SimpleNamespace) or (depth == 0 and _is_settings(value)):
        return {name: item for name, item in vars(value).items() if not name.startswith("_")}
    return None


def _is_settings(value: Any) -> bool:
    """Whether it is an object of a plain class, whose attributes are the settings."""
    return hasattr(value, "__dict__") and not isinstance(value, Iterable | types.ModuleType | Callable)


def _is_sequence(value: Any) -> bool:
    """A list of another make, such as OmegaConf's; arrays are not meant."""
    return hasattr(value, "__iter__") and hasattr(value, "append") and not hasattr(value, "dtype")


def _other(value: Any, above: frozenset[int], depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value, above, depth + 1)
    if hasattr(value, "dtype") and hasattr(value, "item"):
        return _array(value)
    if isinstance(value, os.PathLike):
        return _scalar(os.fsdecode(value))
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return _scalar(_ADDRESS.sub("", str(value)))


def _array(value: Any) -> Any:
    """A number of numpy's, a tensor, an array: numbers, as they would be written by hand."""
    if math.prod(value.shape) > _MAX_ITEMS:
        return f"{type(value).__name__} of {value.dtype}, shape {tuple(value.shape)}"
    numbers = np.array(value.tolist())
    kind = _SHORT.get(str(value.dtype).removeprefix("torch."))
    if kind is not None:  # 0.1, not 0.10000000149011612
        numbers = numbers.astype(kind).astype(str).astype(float)
    return _plain(numbers.tolist(), frozenset(), 0)
