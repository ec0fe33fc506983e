"""Types: the values that settings may have, each with a text that says what is expected."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from entrenar_processors.config.problems import Unfit
from entrenar_processors.durations import EXPECTED, PATTERN, BadDuration, parse_seconds

T = TypeVar("T")

#: A finite number; text that looks like a number is refused.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
Ratio = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=200)]
Flag = Annotated[bool, Field(strict=True)]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LETTERS = "letters, digits and underscores, not starting with a digit"


def _duration(text: str) -> str:
    try:
        parse_seconds(text)
    except BadDuration as error:
        raise Unfit(error.expected, "") from None
    return text


def _regex(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return text


def _is_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(_LETTERS)
    return text


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Unfit("each name once", f"{', '.join(twice)} twice")
    return names


def samples_fit(section: T, min_samples: int, window: int) -> T:
    """The section, unless it needs more samples than its window holds. Raises Unfit."""
    if min_samples > window:
        raise Unfit(f"at most window ({window})", str(min_samples), "min_samples")
    return section


def factors_fit(section: T, min_factor: float, factor: float) -> T:
    """The section, unless its first reduction would go below the least. Raises Unfit."""
    if min_factor > factor:
        raise Unfit(f"at most factor ({factor:g})", f"{min_factor:g}", "min_factor")
    return section


Metrics = Annotated[
    tuple[Text, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_once)
]
Duration = Annotated[
    str,
    Field(strict=True, json_schema_extra={"pattern": PATTERN, "x-expected": EXPECTED}),
    AfterValidator(_duration),
]
Regex = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        json_schema_extra={"format": "regex", "x-expected": "a regular expression"},
    ),
    AfterValidator(_regex),
]


def _name(expected: str) -> Any:
    """The field of a name, with what is expected of it."""
    return Field(
        strict=True,
        max_length=200,
        json_schema_extra={"pattern": f"^{_NAME.pattern}$", "x-expected": expected},
    )


#: What Prometheus and Alertmanager accept as the name of a label or annotation.
LabelName = Annotated[str, _name(_LETTERS), AfterValidator(_is_name)]
VariableName = Annotated[
    str,
    _name("the name of an environment variable, never the secret itself"),
    AfterValidator(_is_name),
]
