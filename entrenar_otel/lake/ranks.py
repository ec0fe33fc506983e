"""Ranks: which rank of a run is the slowest, by what each of them has recorded of its own steps.

Nothing is asked of the ranks, and no collective operation is needed: their steps have the same numbers, and
are compared stretch by stretch. What a rank computes is its step less its data wait. Ranks that wait for each
other in every step (an all-reduce) have steps of one length, and compute appears to be long where a rank
waits for another: then only the data wait tells who is late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from entrenar_processors.samples import Floats

    from entrenar_otel.lake import Lake

#: The steps that all ranks have are compared in so many stretches, of so many steps each at least.
STRETCHES, _MIN_STEPS = 20, 5
#: In so many of them a rank must be slower than the others: of 1,000 equal ranks one is, in 1 run of 50.
_CONSISTENT = 19
#: A rank that is less slow than this is not told of.
LEAST_RATIO = 0.05
#: Ranks whose steps differ by less than this, and by less than a quarter of what their waits do, go in step.
_IN_STEP = 0.02
#: The latest steps of a long run.
_LATEST_STEPS = 20_000

_SQL = f"""
WITH recorded AS (
  SELECT rank, seq, max(step) AS step,
         max(value) FILTER (metric = 'step_duration') AS took,
         coalesce(max(value) FILTER (metric = 'data_wait'), 0) AS wait
  FROM metrics
  WHERE metric IN ('step_duration', 'data_wait') AND coalesce(tags['split'], 'train') = 'train'
    AND attempt = (SELECT max(attempt) FROM metrics)
  GROUP BY rank, seq HAVING took IS NOT NULL AND step IS NOT NULL
), ends AS (SELECT min(step) AS first, max(step) AS last FROM recorded GROUP BY rank
), common AS (
  SELECT greatest(max(first) + 1, min(last) - {_LATEST_STEPS}) AS first, min(last) AS last FROM ends)
SELECT rank, least({STRETCHES - 1}, (step - first) * {STRETCHES} // (last - first + 1)) AS stretch,
       count(*) AS steps, median(took) AS step, median(wait) AS wait, median(took - wait) AS compute
FROM recorded, common WHERE step BETWEEN first AND last
GROUP BY ALL ORDER BY rank, stretch
"""


@dataclass(frozen=True)
class Slow:
    """A rank that is slower than the others: by what it computes, or by its data.

    `seconds` are its median, `others_seconds` that of the other ranks' medians; `ratio` is by how much of an
    own step of theirs it is slower. `stretches` says in how many of STRETCHES it was.
    """

    rank: int
    by: Literal["compute", "data"]
    seconds: float
    others_seconds: float
    ratio: float
    stretches: int

    def __str__(self) -> str:
        seconds, others = _times(self.seconds, self.others_seconds)
        always = f"in {self.stretches} of {STRETCHES} stretches"
        if self.by == "compute":
            return (
                f"rank {self.rank} is {self.ratio:.0%} slower than the median of the others "
                f"(compute {seconds} against {others}, {always})"
            )
        return (
            f"rank {self.rank} waits longer for its data than the median of the others "
            f"({seconds} a step against {others}, {always})"
        )


@dataclass(frozen=True)
class RankTimes:
    """The median times of a rank, in seconds per step."""

    rank: int
    step_seconds: float
    wait_seconds: float
    compute_seconds: float


@dataclass(frozen=True)
class Ranks:
    """The ranks of a run compared: over how many steps, whether they go in step, and who is slow."""

    steps: int
    times: tuple[RankTimes, ...]
    are_in_step: bool
    slow: tuple[Slow, ...]

    def lines(self) -> Iterator[str]:
        """What is to be said of them, for people."""
        yield from map(str, self.slow)
        if self.are_in_step:
            yield (
                "the ranks go in step, each waits for the slowest: which of them computes longest is not in "
                "their step times"
            )
        elif not self.slow:
            yield f"no rank is {LEAST_RATIO:.0%} slower than the others throughout, over {self.steps:,} steps"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "steps": self.steps,
            "in_step": self.are_in_step,
            "lines": [*self.lines()],
            "slow": [vars(slow) | {"text": str(slow)} for slow in self.slow],
            "times": [vars(times) for times in self.times],
        }


def compare_ranks(lake: Lake, run_id: str) -> Ranks | None:
    """The ranks of the latest attempt; None where there are not two with enough steps. Raises QueryError."""
    return ranks_of(lake.query(_SQL, run_id=run_id).to_pylist())


def ranks_of(rows: Iterable[Mapping[str, Any]]) -> Ranks | None:
    """The same, from medians by rank and stretch.

    >>> rows = [
    ...     {"rank": rank, "stretch": at, "steps": 50, "step": step, "wait": 0.01, "compute": step - 0.01}
    ...     for rank, step in enumerate((0.36, 0.35, 0.42)) for at in range(STRETCHES)
    ... ]
    >>> print(*ranks_of(rows).lines())
    rank 2 is 19% slower than the median of the others (compute 410 ms against 345 ms, in 20 of 20 stretches)
    """
    by_rank: dict[int, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if row["steps"] >= _MIN_STEPS:
            by_rank.setdefault(int(row["rank"]), {})[int(row["stretch"])] = row
    whole = {rank: stretches for rank, stretches in by_rank.items() if len(stretches) == STRETCHES}
    if len(whole) < 2:
        return None
    numbers = [*sorted(whole)]
    step, wait, compute = (
        np.array([[whole[rank][at][name] for at in range(STRETCHES)] for rank in numbers])
        for name in ("step", "wait", "compute")
    )
    medians = [np.median(values, axis=1) for values in (step, wait, compute)]
    in_step = _are_in_step(medians[0], medians[1])
    slow = [_slowest(numbers, wait, step, "data")]
    if not in_step:
        slow.insert(0, _slowest(numbers, compute, compute, "compute"))
    return Ranks(
        min(sum(row["steps"] for row in stretches.values()) for stretches in whole.values()),
        tuple(RankTimes(rank, *map(float, times)) for rank, *times in zip(numbers, *medians, strict=True)),
        in_step,
        tuple(one for one in slow if one is not None),
    )


def _are_in_step(step: Floats, wait: Floats) -> bool:
    """Whether the ranks' steps are of one length, whatever part of them each waits for its data."""
    spread = float(np.ptp(step))
    if spread > _IN_STEP * float(np.median(step)):
        return False
    waits = float(np.ptp(wait))
    return waits < LEAST_RATIO * float(np.median(step)) or spread < waits / 4


def _slowest(
    numbers: list[int], values: Floats, whole: Floats, by: Literal["compute", "data"]
) -> Slow | None:
    """The rank with the largest median, if it is slower than the others' in nearly all stretches."""
    medians = np.median(values, axis=1)
    at = int(np.argmax(medians))
    others = np.delete(np.arange(len(numbers)), at)
    theirs = np.median(values[others], axis=0)
    their_whole = float(np.median(np.median(whole[others], axis=0)))
    seconds, others_seconds = float(medians[at]), float(np.median(theirs))
    ratio = (seconds - others_seconds) / their_whole if their_whole > 0 else math.inf
    stretches = int(np.count_nonzero(values[at] > theirs))
    if ratio < LEAST_RATIO or stretches < _CONSISTENT:
        return None
    return Slow(numbers[at], by, seconds, others_seconds, ratio, stretches)


def _times(*seconds: float) -> list[str]:
    """Times in one unit, so that they are compared at a glance."""
    unit, size = ("ms", 1e3) if max(seconds) < 1 else ("s", 1.0)
    return [f"{time * size:.3g} {unit}" for time in seconds]
