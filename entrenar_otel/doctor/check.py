"""Check: one thing that was looked at, what it is like, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from entrenar_otel.console import shown
from entrenar_otel.redact import settings_without_secrets


class Level(StrEnum):
    """How a check came out. Only a problem makes the exit code 1."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """What was looked at (`name`), what it is like (`text`), what to do (`advice`, where it is not ok).

    `facts` are the same for machines, in JSON's types; units stand in their names.
    """

    name: str
    text: str
    level: Level = Level.OK
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def fit_to_show(self) -> Check:
        """The same without secrets and without what steers a terminal.

        >>> Check("endpoint", "http://me:secret@host:4317 answers").fit_to_show().text
        'http://host:4317 answers'
        """
        return replace(
            self,
            name=shown(self.name),
            text=shown(self.text),
            advice=shown(self.advice),
            facts=settings_without_secrets(dict(self.facts)),
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def note(name: str, text: str, advice: str = "", **facts: Any) -> Check:
    """Something worth knowing."""
    return Check(name, text, Level.NOTE, advice, facts)


def problem(name: str, text: str, advice: str, **facts: Any) -> Check:
    """Something that keeps a run from being recorded, judged or sent as it was asked for."""
    return Check(name, text, Level.PROBLEM, advice, facts)
