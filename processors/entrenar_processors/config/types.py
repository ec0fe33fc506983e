"""Types: the values that settings may have, each with the words that say what is expected."""

from __future__ import annotations

import re
import warnings
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

from entrenar_processors.config.problems import Unfit

T = TypeVar("T")

#: A number that is one: no NaN, no infinity, no text that looks like one.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]
AtLeastOne = Annotated[int, Field(strict=True, ge=1)]
Ratio = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]
Text = Annotated[str, Field(strict=True, min_length=1, max_length=200)]
Flag = Annotated[bool, Field(strict=True)]
_DURATION = re.compile(r"(?:[0-9]+(?:ms|s|m|h|d|w|y))+")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_A_DURATION = "a duration such as 30s, 5m or 1h30m"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def duration_seconds(text: str) -> float:
    """A duration as Prometheus spells it, in seconds; at most a hundred years. Raises ValueError.

    >>> duration_seconds("1h30m"), duration_seconds("500ms")
    (5400.0, 0.5)
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected {_A_DURATION}")
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in re.findall(r"([0-9]+)(ms|s|m|h|d|w|y)", text))
    if not seconds <= 100 * _SECONDS["y"]:
        raise ValueError("expected at most a hundred years")
    return seconds


def _duration(text: str) -> str:
    duration_seconds(text)
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
        raise ValueError("letters, digits and underscores, no digit first")
    return text


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Unfit("each name once", f"{', '.join(twice)} twice")
    return names


def samples_fit(section: T, min_samples: int, window: int) -> T:
    """The section, unless it asks for more samples than it keeps. Raises Unfit."""
    if min_samples > window:
        raise Unfit(f"at most window ({window})", str(min_samples), "min_samples")
    return section


def factors_fit(section: T, min_factor: float, factor: float) -> T:
    """The section, unless one reduction goes below the least. Raises Unfit."""
    if min_factor > factor:
        raise Unfit(f"at most factor ({factor:g})", f"{min_factor:g}", "min_factor")
    return section


Metrics = Annotated[
    tuple[Text, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True}), AfterValidator(_once)
]
Duration = Annotated[
    str,
    Field(strict=True, json_schema_extra={"pattern": f"^{_DURATION.pattern}$", "x-expected": _A_DURATION}),
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
    """Of what a name is, as a field."""
    return Field(
        strict=True,
        max_length=200,
        json_schema_extra={"pattern": f"^{_NAME.pattern}$", "x-expected": expected},
    )


#: What Prometheus and Alertmanager take as the name of a label or annotation.
LabelName = Annotated[str, _name("letters, digits and underscores, no digit first"), AfterValidator(_is_name)]
VariableName = Annotated[
    str,
    _name("the name of an environment variable, never the secret itself"),
    AfterValidator(_is_name),
]
