"""Plain: any value as JSON can say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def plain(value: Any) -> Any:
    """The value made of JSON's types only; what is not finite is text, and so is everything unknown.

    JSON has no NaN, and null would claim that nothing was reported.

    >>> plain({"loss": float("nan"), "limits": (0.5, float("-inf"))})
    {'loss': 'NaN', 'limits': [0.5, '-Infinity']}
    """
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value.isoformat() if isinstance(value, datetime) else str(value)
