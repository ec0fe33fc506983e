"""Finding: one sample that a detector judged abnormal, and how abnormal."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, make_dataclass
from enum import StrEnum
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

from entrenar_processors.plain import plain
from entrenar_processors.samples import ABSENT, Block, Column, Ints, Series


class Severity(StrEnum):
    """How abnormal; what is done about it is the policy's decision, not the detector's.

    >>> Severity.of_sigma(4.2), Severity.HIGH == "high"
    (<Severity.MEDIUM: 'medium'>, True)
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @classmethod
    def of_sigma(cls, sigma: float) -> Severity:
        """Low below 4 standard deviations, Medium below 5, High from there; the sign does not matter."""
        size = abs(sigma)
        return cls.LOW if size < 4 else cls.MEDIUM if size < 5 else cls.HIGH


class Coordinates(NamedTuple):
    """Where in the run a sample lies. `time_ns` counts from 1970 UTC; what was not reported is -1.

    >>> Coordinates(time_ns=1, seq=2).as_dict()
    {'time_ns': 1, 'seq': 2}
    """

    time_ns: int = ABSENT
    epoch: int = ABSENT
    batch: int = ABSENT
    step: int = ABSENT
    seq: int = ABSENT

    @classmethod
    def of(cls, column: Block | Column, row: int) -> Coordinates:
        """The coordinates of one row, as Python integers."""
        return cls(
            int(column.time_ns[row]),
            int(column.epoch[row]),
            int(column.batch[row]),
            int(column.step[row]),
            int(column.seq[row]),
        )

    @classmethod
    def of_rows(cls, column: Block | Column, rows: Ints) -> list[Coordinates]:
        """The coordinates of many rows `(m,)`."""
        arrays = column.time_ns, column.epoch, column.batch, column.step, column.seq
        places = zip(*(array[rows].tolist() for array in arrays), strict=True)
        return list(map(tuple.__new__, repeat(cls), places))  # what `_make` does, without a call in Python

    @classmethod
    def at(cls, time_ns: int, *place: int | None) -> Coordinates:
        """From epoch, batch and step; None where one was not reported.

        >>> Coordinates.at(1, 3, None, 40).place
        (3, None, 40)
        """
        return cls(time_ns, *(ABSENT if number is None else number for number in place))

    @property
    def place(self) -> tuple[int | None, int | None, int | None]:
        """Epoch, batch and step; None where one was not reported."""
        epoch, batch, step = (None if number == ABSENT else number for number in self[1:4])
        return epoch, batch, step

    def as_dict(self) -> dict[str, int]:
        """Only the reported coordinates, by name."""
        return {name: value for name, value in self._asdict().items() if value != ABSENT}


@dataclass(frozen=True, slots=True)
class Finding:
    """A measurement, not an alarm: `detector` saw `value` in `series` where it expected `expected`.

    `score` is in the detector's own unit (standard deviations, a cumulative sum, a p-value), signed
    where the direction is known: positive is upward. All numbers are plain Python numbers, so that a
    finding can be serialised as it is.

    >>> at = Coordinates(step=7, seq=7)
    >>> Finding("zscore", Series("loss"), Severity.LOW, at, 2.5, 1.0, 3.1).as_dict()["metric"]
    'loss'
    """

    detector: str
    series: Series
    severity: Severity
    at: Coordinates
    value: float
    expected: float
    score: float
    #: For detectors whose findings last: the state that an earlier finding began is over.
    resolved: bool = False
    #: How many abnormal samples it stands for.
    count: int = 1
    #: What a person should read where the numbers do not say it.
    text: str = ""

    @classmethod
    def each_of(
        cls,
        detector: str,
        series: Iterable[Series],
        severity: Iterable[Severity],
        at: Iterable[Coordinates],
        *numbers: Iterable[float],
    ) -> list[Finding]:
        """The findings of one detector, of each of its series and so on; `numbers` are the last three.

        What is frozen sets each field by a call of its own: a millisecond for a thousand findings. So they
        are filled in before they are findings: the same fields in the same places.

        >>> at = Coordinates(step=7, seq=7)
        >>> found = Finding.each_of("zscore", [Series("loss")], [Severity.LOW], [at], [2.5], [1.0], [3.1])
        >>> found == [Finding("zscore", Series("loss"), Severity.LOW, at, 2.5, 1.0, 3.1)]
        True
        """
        found: list[Any] = list(map(_Draft, repeat(detector), series, severity, at, *numbers))
        for one in found:
            one.__class__ = cls
        return found

    @property
    def order(self) -> tuple[int, Series, str]:
        """Sort key: by place in the recording, then series, then detector."""
        return ORDER(self)

    def as_dict(self) -> dict[str, Any]:
        """A flat dictionary of text and numbers, for JSON and event attributes."""
        return {
            "detector": self.detector,
            "metric": self.series.metric,
            "tags": dict(self.series.tags),
            "severity": str(self.severity),
            **self.at.as_dict(),
            "value": plain(self.value),
            "expected": plain(self.expected),
            "score": plain(self.score),
            **({"resolved": True} if self.resolved else {}),
            **({"text": self.text} if self.text else {}),
        }


#: `Finding.order` of a finding; for thousands of them.
ORDER: Callable[[Finding], tuple[int, Series, str]] = attrgetter("at.seq", "series", "detector")
_Draft: Any = make_dataclass(
    "_Draft", [(one.name, one.type, field(default=one.default)) for one in fields(Finding)], slots=True
)
