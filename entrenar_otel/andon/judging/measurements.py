"""Measurements: findings that ask for nothing, summed up by epoch instead of told one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from entrenar_processors import Finding, Series

#: Series and detectors of one epoch that become events of their own, those with the most first.
MAX_EVENTS = 20


class Measurements:
    """One event for each epoch, series and detector: how many findings there were, and the largest.

    A z-score has a hundred in 10,000 healthy steps: as events of their own they would hide the others.
    `event` records one, `lost` counts the findings for which there was no room.
    """

    def __init__(self, event: Callable[..., None], *, lost: Callable[[int], None] = lambda _n: None) -> None:
        self._event, self._lost = event, lost
        self._sums: dict[int, dict[tuple[Series, str], tuple[int, Finding]]] = {}

    def add(self, finding: Finding) -> None:
        """Count it in the epoch in which its sample was."""
        sums = self._sums.setdefault(finding.at.epoch, {})
        key = finding.series, finding.detector
        n, largest = sums.get(key, (0, finding))
        larger = finding if abs(finding.score) > abs(largest.score) else largest
        sums[key] = n + finding.count, larger

    def end(self, epoch: int | None = None) -> None:
        """Record the epochs that are over, those other than `epoch`; without it, all."""
        for over in [known for known in self._sums if known != epoch]:
            sums = sorted(self._sums.pop(over).values(), key=lambda counted: -counted[0])
            self._record(sums[:MAX_EVENTS])
            if rest := sum(n for n, _ in sums[MAX_EVENTS:]):
                self._lost(rest)

    def _record(self, sums: Iterable[tuple[int, Finding]]) -> None:
        for n, largest in sums:
            attributes: dict[str, Any] = {**largest.as_dict(), "count": n}
            self._event("training.finding", attributes, at=largest.at.place)
