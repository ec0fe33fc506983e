"""Report: every part looked at, each within its time, whatever hangs or fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from entrenar_otel.delivery.promise import Promise
from entrenar_otel.doctor import lake, live, ports, switched_on, variables, versions
from entrenar_otel.doctor.check import Check, Level, note, problem
from entrenar_otel.doctor.cost import measure
from entrenar_otel.doctor.surroundings import Surroundings

#: How long a part may take in all. An object store that is silent takes the longest.
PART_SECONDS = 20.0

Look = Callable[[Surroundings], Iterable[Check]]
#: Every part, in the order in which it is shown.
PARTS: dict[str, Look] = {
    "installed": lambda _: versions.checks(),
    "lake": lake.checks,
    "live": live.checks,
    "on": switched_on.checks,
    "ports": ports.checks,
    "environment": lambda around: variables.checks(around.environ),
}
COST = "cost"


@dataclass
class Report:
    """What came of all parts, in their order."""

    parts: dict[str, list[Check]] = field(default_factory=dict)
    #: Whether something still hangs: the process had better end without waiting for it.
    is_hanging: bool = False

    @property
    def checks(self) -> list[Check]:
        """All of them."""
        return [check for part in self.parts.values() for check in part]

    def count(self, level: Level) -> int:
        """How many came out so."""
        return sum(check.level is level for check in self.checks)

    @property
    def is_ok(self) -> bool:
        """Whether there is no problem; notes are none."""
        return not self.count(Level.PROBLEM)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "ok": self.is_ok,
            "problems": self.count(Level.PROBLEM),
            "notes": self.count(Level.NOTE),
            "checks": [
                {"part": name} | check.as_dict() for name, checks in self.parts.items() for check in checks
            ],
        }


def examine(
    around: Surroundings,
    *,
    with_cost: bool = True,
    parts: dict[str, Look] = PARTS,
    part_seconds: float = PART_SECONDS,
    begins: Callable[[str], object] = lambda _part: None,
) -> Report:
    """Look at everything; `begins` is told what takes long. Raises nothing."""
    report = Report()
    with _heard() as said:
        looks = {name: _Part(name, look, around) for name, look in parts.items()}
        for name, part in looks.items():
            begins(name)
            report.parts[name] = part.checks(part_seconds)
            report.is_hanging |= part.is_hanging
        if with_cost:
            begins(COST)
            report.parts[COST] = _Part(COST, lambda _: measure(), around).checks(None)
    told = [note("said", text).fit_to_show() for text in dict.fromkeys(said)]
    report.parts["on"] = [*report.parts.get("on", []), *told]
    return report


class _Part:
    """A part that is being looked at, on a thread of its own."""

    def __init__(self, name: str, look: Look, around: Surroundings) -> None:
        self._name, self._look, self._around = name, look, around
        self._found: list[Check] = []
        self._lock = threading.Lock()
        self._promise = Promise(f"entrenar-doctor-{name}", self._work)
        self.is_hanging = False

    def _work(self) -> None:
        try:
            for check in self._look(self._around):
                self._add(check)
        except Exception as error:  # of a machine that is not as it should be: it is told, and all goes on
            why = f"{type(error).__name__}: {error}"
            self._add(
                problem(self._name, f"the rest cannot be told: {why}", "see to what it names, then again")
            )

    def _add(self, check: Check) -> None:
        with self._lock:
            self._found.append(check.fit_to_show())

    def checks(self, seconds: float | None) -> list[Check]:
        """What was found until now, and that more was not, where the time is over."""
        self.is_hanging = not self._promise.wait(threading.TIMEOUT_MAX if seconds is None else seconds)
        with self._lock:
            found = list(self._found)
        if self.is_hanging:
            text = f"no answer within {seconds:g} s: what it lies on, or is asked for, hangs"
            found.append(problem(self._name, text, "see whether its file system or server answers"))
        return found


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What our logger says meanwhile, of settings that are invalid say: it is told with the rest."""
    said: list[str] = []

    class Hears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    ours, ear = logging.getLogger("entrenar_otel"), Hears(logging.WARNING)  # noqa: TID251 - it only listens
    before = ours.propagate
    ours.addHandler(ear)
    ours.propagate = False
    try:
        yield said
    finally:
        ours.removeHandler(ear)
        ours.propagate = before
