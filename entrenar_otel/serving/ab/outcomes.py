"""Outcomes: what the lake holds of an A/B test, a number per user."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from entrenar_processors.samples import Floats
from numpy.typing import NDArray

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError
from entrenar_otel.semconv import AB_PREFIX, AB_UNIT
from entrenar_otel.serving.ab.design import HARMED, STARTED, STOPPED, Average, Design
from entrenar_otel.serving.assignment import Arm

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: A record holds an outcome and who had it; a user is in the arm, and under the share, that came first.
_USERS = """
WITH seen AS (
    SELECT min(timestamp) AS time, any_value(tags['arm']) AS arm, any_value(tags['split']) AS split,
        max(value) FILTER (metric = $1) AS value, max(value) FILTER (metric = $2) AS unit
    FROM metrics
    WHERE metric IN ($1, $2) AND tags['test'] = $3 AND tags['arm'] IN ('A', 'B')
    GROUP BY run_id, attempt, rank, seq
)
SELECT arg_min(arm = 'B', time) AS in_b, try_cast(arg_min(split, time) AS DOUBLE) AS split,
    min(arm) <> max(arm) AS in_both,
    count(*) FILTER (isfinite(value)) AS count,
    coalesce(sum(value) FILTER (isfinite(value)), 0.0) AS total,
    bool_and(value IN (0, 1)) FILTER (isfinite(value)) AS is_binary,
    count(*) FILTER (value IS NULL OR NOT isfinite(value)) AS nonfinite
FROM seen WHERE unit IS NOT NULL GROUP BY unit
"""
_EVENTS = f"""
SELECT name, timestamp, attributes FROM events
WHERE name IN ('{STARTED}', '{HARMED}', '{STOPPED}') ORDER BY timestamp
"""


@dataclass(frozen=True)
class Outcomes:
    """One metric of a test: arrays `(n,)`, one element per user.

    `in_b` is the arm that a user was in first, `split` the share of B at that time; `in_both` are users who
    were in both arms, since the share was changed: they are in no mean. `count` and `total` are of
    the finite outcomes, `nonfinite` counts the others.
    """

    in_b: NDArray[np.bool_]
    split: Floats
    in_both: NDArray[np.bool_]
    count: NDArray[np.int64]
    total: Floats
    nonfinite: NDArray[np.int64]
    is_binary: bool

    @classmethod
    def read(cls, lake: Lake, test: str, metric: str) -> Outcomes:
        """Everything recorded up to now, by every process whose records this lake has."""
        name = AB_PREFIX + metric
        table = lake.query(_USERS, [name, name + AB_UNIT, test])
        columns = {key: table.column(key).to_numpy(zero_copy_only=False) for key in table.column_names}
        return cls(
            in_b=columns["in_b"].astype(bool),
            split=columns["split"].astype(np.float64),
            in_both=columns["in_both"].astype(bool),
            count=columns["count"].astype(np.int64),
            total=columns["total"].astype(np.float64),
            nonfinite=columns["nonfinite"].astype(np.int64),
            is_binary=all(x is not False for x in columns["is_binary"].tolist()),
        )

    @cached_property
    def is_once(self) -> bool:
        """Whether every user has one outcome."""
        return bool((self.count <= 1).all())

    def arm(self, arm: Arm) -> NDArray[np.bool_]:
        """The users whose outcomes count for an arm."""
        return np.asarray((self.in_b == (arm == "B")) & ~self.in_both & (self.count > 0))

    def values(self, arm: Arm, average: Average = "user") -> Floats:
        """A number per user of an arm, whose mean is the arm's.

        `user`: the mean of each user's outcomes. `observation`: the mean over all outcomes, R = Σ total /
        Σ count, of which every user holds R + (total − R · count) / mean(count); these have the variance
        that the delta method gives to R (Deng, Knoblich & Lu, KDD 2018).
        """
        mine = self.arm(arm)
        total, count = self.total[mine], self.count[mine]
        if average == "user" or not len(count):
            return total / count
        ratio = float(total.sum() / count.sum())
        return np.asarray(ratio + (total - ratio * count) / count.mean())


@dataclass(frozen=True)
class Known:
    """What the events say of a test: its designs as processes began them, and why it was stopped.

    `told` are the guardrails of which an alert has told.
    """

    designs: tuple[Design, ...]
    stopped: str | None
    told: frozenset[str]

    @classmethod
    def read(cls, lake: Lake) -> dict[str, Known]:
        """All tests of a lake by name, in the order in which they began."""
        designs: dict[str, dict[Design, None]] = {}
        stopped: dict[str, str] = {}
        told: dict[str, set[str]] = {}
        for event in lake.query(_EVENTS).to_pylist():
            attributes = dict(event["attributes"])
            test = attributes.get("test", "")
            if event["name"] == STOPPED:
                stopped.setdefault(
                    test, f"{attributes.get('reason')} ({event['timestamp']:%Y-%m-%d %H:%M} UTC)"
                )
                continue
            if event["name"] == HARMED:
                told.setdefault(test, set()).add(attributes.get("metric", ""))
                continue
            try:
                designs.setdefault(test, {})[Design.of_text(attributes.get("design", ""))] = None
            except ConfigError as error:  # of a later version, say: the other tests can be read
                logger.warning("A/B test %s: %s", test, error)
        names = dict.fromkeys((*designs, *stopped))
        return {
            test: cls(tuple(designs.get(test, ())), stopped.get(test), frozenset(told.get(test, ())))
            for test in names
        }

    def check(self, design: Design) -> None:
        """Raise ConfigError where another test has been recorded under this name."""
        for other in self.designs:
            if difference := design.difference(other):
                raise ConfigError(
                    f"two A/B tests are recorded under the name {design.name!r}, with {difference}: their "
                    "users cannot be told apart. Give one of them another name="
                )
