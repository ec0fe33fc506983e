"""Inputs: what a loop may hand in as a name, a tag, a number; everything else is named and refused."""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from entrenar_processors import Series
from numpy.exceptions import ComplexWarning

from entrenar_otel.errors import describe
from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.layout import ABSENT_32, ABSENT_64

MAX_NAME = 1000
#: Of each coordinate, the largest, and what stands for none.
COORDINATES = {
    "epoch": (0x7FFF_FFFF, ABSENT_32),
    "batch": (0x7FFF_FFFF, ABSENT_32),
    "step": (0x7FFF_FFFF_FFFF_FFFF, ABSENT_64),
}


def text_problem(text: str) -> str | None:
    """What is wrong with a text that shall be kept, or None."""
    if len(text) > MAX_NAME:
        return f"at most {MAX_NAME} characters, got {len(text)}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"cannot be written as UTF-8: {describe(text)}"
    return None


def described(value: object) -> str | None:
    """A text that only describes, such as a model's id, of whatever was given; None stays None.

    It costs no run: what is too long is cut, and what is not UTF-8 is escaped.

    >>> described(1.5), described("caf\\udce9")
    ('1.5', 'caf\\\\udce9')
    """
    if value is None:
        return None
    try:
        text = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
    except Exception:  # a stranger's __str__
        text = f"<{type(value).__name__}>"
    return os.fsdecode(text)[:MAX_NAME].encode("utf-8", "backslashreplace").decode()


def tags_problem(series: Series) -> str | None:
    """What is wrong with the tags of a series, or None."""
    texts = (text for pair in series.tags for text in pair)
    return next(filter(None, map(text_problem, texts)), None)


def name_problem(name: Any) -> str | None:
    """What is wrong with a metric's name, or None."""
    if type(name) is str and name.isascii() and len(name) <= MAX_NAME and name and not name.isspace():
        return None  # most are
    if not isinstance(name, str):
        return f"a metric's name must be text, got {describe(name)}"
    if not name.strip():
        return f"a metric's name must not be empty, got {name!r}"
    problem = text_problem(name)
    return f"a metric's name: {problem}" if problem else None


def are_plain(metrics: Mapping[Any, Any]) -> bool:
    """Whether all of these are numbers of Python's by good names, as most are: asked of all at once.

    >>> are_plain({"loss": 0.5}), are_plain({"loss": 1}), are_plain({" ": 0.5}), are_plain({})
    (True, False, False, False)
    """
    return (
        set(map(type, metrics)) == {str}
        and set(map(type, metrics.values())) == {float}
        and all(map(str.isascii, metrics))
        and min(map(len, metrics)) > 0
        and max(map(len, metrics)) <= MAX_NAME
        and not any(map(str.isspace, metrics))
    )


def number_of(value: Any) -> float:
    """One number: Python's, numpy's, or a tensor of one element. Raises whatever its conversion raises.

    >>> number_of(np.float32(0.5))
    0.5
    """
    if isinstance(value, str | bytes | bytearray):
        raise TypeError("text")
    if getattr(getattr(value, "dtype", None), "kind", "") == "c":  # numpy would take its real part
        raise TypeError("complex")
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if getattr(value, "ndim", 0):
        value = value.item()  # one element of any shape, else an error
    return float(value)


def watch_conversions() -> None:
    """Let what a value's `float()` warns of on our lines be seen: as an error, which leads to a careful look.

    A complex number would lose its imaginary part, a masked one become NaN. PyTorch's advice to detach is not
    for us, who only read. Filters for warnings that arise in this package alone; its hot path runs without
    a test of its own for any of it.
    """
    ours = r"entrenar_otel\."
    with suppress(Exception):  # a program that has replaced the module `warnings`
        warnings.filterwarnings("error", category=ComplexWarning, module=ours)
        warnings.filterwarnings("error", r"Warning: converting a masked element", UserWarning, module=ours)
        warnings.filterwarnings("ignore", r"Converting a tensor with requires_grad", UserWarning, module=ours)


def whole_number(value: Any, largest: int) -> int | None:
    """The value, floored, where it is a number from 0 to `largest`.

    >>> whole_number(2.5, 10), whole_number(-1, 10), whole_number("2", 10)
    (2, None, None)
    """
    try:
        try:
            number = operator.index(value)
        except TypeError:
            number = math.floor(value)
        return number if 0 <= number <= largest else None
    except Exception as error:  # no number at all
        if from_outside(error):
            raise
        return None
