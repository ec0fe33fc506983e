"""Cause: why a run may have gone wrong, how sure that is, and what speaks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One likely cause.

    `score` from 0 to 1 orders causes; it is no probability. `summary` and `title` are sentences for anybody,
    `evidence` has the numbers and steps, `advice` what to do about it, the most promising first.

    >>> Cause("nan", "The loss became NaN", "…", 0.9).likelihood
    'very likely'
    """

    name: str
    title: str
    summary: str
    score: float
    evidence: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def likelihood(self) -> str:
        """The score in words."""
        return "very likely" if self.score >= 0.8 else "likely" if self.score >= 0.55 else "possible"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "likelihood": self.likelihood,
            "score": round(self.score, 2),
            "summary": self.summary,
            "evidence": list(self.evidence),
            "advice": list(self.advice),
        }
