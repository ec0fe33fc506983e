"""Warned: which Python warnings say that a training computes wrongly, as findings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from entrenar_processors import Coordinates, Finding, Series, Severity

#: Categories that are about numbers, whatever they say: of numpy, scipy and scikit-learn.
_CATEGORIES = frozenset(
    {
        "LinAlgWarning",
        "ConvergenceWarning",
        "RankWarning",
        "ComplexWarning",
        "DegenerateDataWarning",
        "ConstantInputWarning",
        "NearConstantInputWarning",
        "UndefinedMetricWarning",
        "IntegrationWarning",
        "OptimizeWarning",
    }
)
#: What other warnings say when they are.
_WORDS = re.compile(
    r"overflow|underflow|divi(de|sion) by zero|invalid value|\bnans?\b|non-?finite|\binf(inite)?\b|"
    r"mean of empty|degrees of freedom|singular|collinear|ill-conditioned|rank.?deficien|converge",
    re.IGNORECASE,
)
_MAX_TEXT = 200


def is_numerical(warning: Mapping[str, Any]) -> bool:
    """Whether a `training.warning` is about numbers; log lines are not asked.

    >>> is_numerical({"source": "warnings", "category": "RuntimeWarning", "message": "overflow encountered"})
    True
    >>> is_numerical({"source": "warnings", "category": "DeprecationWarning", "message": "overflow"})
    False
    """
    if warning.get("source") != "warnings":
        return False
    category = str(warning.get("category"))
    if category in _CATEGORIES:
        return True
    return category in ("RuntimeWarning", "UserWarning") and bool(
        _WORDS.search(str(warning.get("message", "")))
    )


def finding_of(warning: Mapping[str, Any], at: Coordinates) -> Finding:
    """The warning as a finding; the attributes of the span that it was raised in say whose it is.

    >>> warning = {"category": "LinAlgWarning", "message": "Ill-conditioned matrix", "span.expert": "1"}
    >>> found = finding_of(warning | {"count": 2}, Coordinates(epoch=3))
    >>> str(found.series), found.text, found.count
    ('LinAlgWarning{expert="1"}', 'expert=1: Ill-conditioned matrix (LinAlgWarning)', 2)
    """
    span = {key[5:]: value for key, value in warning.items() if key.startswith("span.")}
    category = str(warning.get("category", "Warning"))
    message = " ".join(str(warning.get("message", "")).split())[:_MAX_TEXT]
    where = ", ".join(f"{key}={value}" for key, value in span.items())
    place = f"{warning['file']}:{warning['line']}" if warning.get("file") else ""
    text = f"{where}: {message} ({category}" if where else f"{message} ({category}"
    count = int(warning.get("count", 1))
    return Finding(
        "warning",
        Series.of(category, span),
        Severity.MEDIUM,
        at,
        float(count),
        0.0,
        float(count),
        count=count,
        text=f"{text}, {place})" if place else f"{text})",
    )
