"""Numerical warnings: which Python warnings say that a training computes wrongly, as findings."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
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
#: What other warnings say when they are about numbers.
_WORDS = re.compile(
    r"overflow|underflow|divi(de|sion) by zero|invalid value|\bnans?\b|non-?finite|\binf(inite)?\b|"
    r"mean of empty|degrees of freedom|singular|collinear|ill-conditioned|rank.?deficien|converge",
    re.IGNORECASE,
)
#: Characters of a warning's message that its finding shows.
_MAX_TEXT = 200
#: Warnings that wait for the next tick.
MAX_WAITING = 1000


class NumericalWarnings:
    """The numerical warnings since the last tick. Of too many the oldest go, counted by `lost`."""

    def __init__(self, lost: Callable[[int], None] = lambda _n: None) -> None:
        self._lost = lost
        # Reentrant: a garbage collection may raise a warning while this thread holds it.
        self._lock = threading.RLock()
        self._waiting: deque[Finding] = deque()

    def add(self, warning: Mapping[str, Any], at: Coordinates) -> None:
        """A `training.warning` was recorded, on any thread; one that is not about numbers is ignored."""
        if not is_numerical(warning):
            return
        finding = finding_of(warning, at)
        with self._lock:
            self._waiting.append(finding)
            if len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self._lost(1)

    def take(self) -> list[Finding]:
        """Those that wait, oldest first; then none does."""
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        return list(waiting)


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
    """The warning as a finding; its tags are the attributes of the span that it was raised in.

    >>> warning = {"category": "LinAlgWarning", "message": "Ill-conditioned matrix", "span.expert": "1"}
    >>> finding = finding_of(warning | {"count": 2}, Coordinates(epoch=3))
    >>> str(finding.series), finding.text, finding.count
    ('LinAlgWarning{expert="1"}', 'expert=1: Ill-conditioned matrix (LinAlgWarning)', 2)
    """
    span = {key[5:]: value for key, value in warning.items() if key.startswith("span.")}
    category = str(warning.get("category", "Warning"))
    message = " ".join(str(warning.get("message", "")).split())
    if len(message) > _MAX_TEXT:  # the whole of it is in the event
        message = f"{message[: _MAX_TEXT - 1]}…"
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
