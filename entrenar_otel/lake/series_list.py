"""Series list: which series a run has, which of them to show first, and families of those with like names.

A model of many layers has thousands of metrics. Nobody reads a line of each: the first that people look at
have one, and the others are counted by what their names have in common.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

from entrenar_processors.metric_names import rank_of, split_of
from entrenar_processors.samples import Series

from entrenar_otel.semconv import is_of_machine

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

_FINITE = "FILTER (isfinite(value))"
_LIST = f"""
SELECT metric, tags, count(*) AS count, count(*) FILTER (NOT isfinite(value)) AS nonfinite,
    min(value) {_FINITE} AS min, max(value) {_FINITE} AS max
FROM {{table}} GROUP BY metric, tags
"""
#: The rows of some series, in SQL: the parameter is `parameter_of` them.
ROWS_OF = """(
    SELECT rows.* FROM {table} AS rows SEMI JOIN (
        SELECT one.metric, one.tags FROM (
            SELECT unnest(from_json(?, '[{{"metric": "VARCHAR", "tags": "MAP(VARCHAR, VARCHAR)"}}]')) AS one
        )
    ) USING (metric, tags)
)"""
_DIGITS = re.compile(r"\d+")
_PARTS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class ListedSeries:
    """A series of a run: how many values it has, how many of them are not finite, and its extremes."""

    series: Series
    count: int
    nonfinite: int
    low: float | None
    high: float | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> ListedSeries:
        """From a row with `metric`, `tags`, `count`, `nonfinite`, `min` and `max`."""
        series = Series.of(row["metric"], dict(row["tags"] or ()))
        return cls(series, row["count"], row["nonfinite"], row["min"], row["max"])


@dataclass(frozen=True, slots=True)
class Family:
    """Series whose names differ in their numbers: `name` has `*` in their places, and for values of tags."""

    name: str
    series: int
    values: int
    nonfinite: int
    low: float | None
    high: float | None


def list_series(lake: Lake, run_id: str, table: str) -> list[ListedSeries]:
    """The series of a run that is not pruned. `table` is `metrics` or `metrics_latest`. Raises QueryError."""
    return [ListedSeries.of(row) for row in lake.query(_LIST.format(table=table), run_id=run_id).to_pylist()]


def parameter_of(series: Iterable[Series]) -> str:
    """These series, as the parameter of `ROWS_OF`."""
    return json.dumps([{"metric": one.metric, "tags": dict(one.tags)} for one in series])


def matching(known: Sequence[ListedSeries], patterns: Sequence[str]) -> list[ListedSeries]:
    """Those whose metric is named, or meets a pattern as of file names (`layers.0.*`)."""
    exact = set(patterns)
    return [
        one
        for one in known
        if one.series.metric in exact or any(fnmatchcase(one.series.metric, text) for text in patterns)
    ]


def foremost(known: Sequence[ListedSeries], most: int) -> list[ListedSeries]:
    """At most so many: what is good or bad by its name, what was not finite, then in the order of names.

    The machine's own come last, but are among them: they are few.
    """
    own = [one for one in known if not is_of_machine(one.series.metric)]
    machine = sorted((one for one in known if is_of_machine(one.series.metric)), key=_natural)
    machine = machine[: max(most // 2, most - len(own))]
    tiers: dict[tuple[Any, ...], list[ListedSeries]] = {}
    for one in own:
        tiers.setdefault(_tier(one), []).append(one)
    first: list[ListedSeries] = []
    for tier in sorted(tiers):
        first += nsmallest(most - len(machine) - len(first), tiers[tier], key=_natural)
    return first + machine


def _tier(one: ListedSeries) -> tuple[bool, bool, int, bool]:
    tier, is_not_validation = rank_of(one.series.metric, split_of(one.series))
    return tier != 0, not one.nonfinite, tier, is_not_validation


def _natural(one: ListedSeries) -> tuple[int, list[Any]]:
    """By name, in which 10 comes after 9; one of fewer parts first."""
    series = one.series
    parts = _PARTS.split(series.metric if not series.tags else str(series))
    return len(parts), [int(part) if part.isdecimal() else part for part in parts]


def families(known: Iterable[ListedSeries]) -> list[Family]:
    """What is left, by names without their numbers; the largest first.

    >>> rows = [ListedSeries(Series(f"layers.{at}.norm"), 5, 0, 0.5 * at, 1.0 + at) for at in range(12)]
    >>> families(rows)
    [Family(name='layers.*.norm', series=12, values=60, nonfinite=0, low=0.0, high=12.0)]
    """
    alike: dict[str, list[ListedSeries]] = {}
    for one in known:
        alike.setdefault(_family_name(one.series), []).append(one)
    found = [
        Family(
            name=name if len(members) > 1 else str(members[0].series).replace('"', ""),
            series=len(members),
            values=sum(one.count for one in members),
            nonfinite=sum(one.nonfinite for one in members),
            low=min((one.low for one in members if one.low is not None), default=None),
            high=max((one.high for one in members if one.high is not None), default=None),
        )
        for name, members in alike.items()
    ]
    return sorted(found, key=lambda family: (-family.series, family.name))


def _family_name(series: Series) -> str:
    name = _DIGITS.sub("*", series.metric)
    return f"{name}{{{', '.join(f'{key}=*' for key, _ in series.tags)}}}" if series.tags else name
