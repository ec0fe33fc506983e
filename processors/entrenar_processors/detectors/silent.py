"""SilentMembers: one expert of eight is silent, and the loss still looks fine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.finding import Coordinates, Finding, Severity
from entrenar_processors.metric_names import watched_in
from entrenar_processors.processor import Counting
from entrenar_processors.samples import Block, Column, Floats, Ints, Samples, Series, Singles
from entrenar_processors.stats.silence import Group, Limits

#: The table of a group's rows and members is worked on in parts of about this many cells.
_CELLS = 1 << 18
#: A group of at least this many members is counted in rounds and not in rows, where its table would have
#: this many times as many cells as there are reports.
_MANY, _EMPTY = 64, 8
_TEXTS = {
    "stopped": "{} has not reported for {} rows while its siblings have",
    "nan": "{} was not finite {} times in a row while its siblings were",
    "constant": "{} was the same number {} times in a row while its siblings moved",
}
_SEVERITY = {"stopped": Severity.HIGH, "nan": Severity.HIGH, "constant": Severity.MEDIUM}


class SilentMembers(Counting):
    """Members of a tag group that are silent while their siblings are not; a `Processor`.

    A group is the series of one metric with the same tag keys, `expert_loss{expert="0"}`,
    `{expert="1"}` …; the keys in `apart` separate groups (a validation split is no sibling of
    training). Three causes, each with a detector name of its own:

    - `silent.stopped`: no report for `stopped_after` rows of its group,
    - `silent.nan`: `nan_after` reports in a row that are not finite,
    - `silent.constant`: `constant_after` finite reports in a row that are the same number,

    or, if that is longer, `patience` times as long as the member's longest such silence before: what it
    does by design is not reported. Of the siblings that could have done better since the silence began,
    at least half must have (they reported, were finite, moved), so nothing is found when the whole group
    stops, or when a member has no siblings. It is judged again when the silence is 2, 4, 8 … times as
    long as allowed. There is one finding when a member falls silent, and a `resolved` one of count 0 when
    it is back; `value` is the length of the silence (in rows or reports), `expected` its longest before,
    `score` the length over what is allowed. Rows are those in which any member of the group reports; the
    clock does not matter.

    >>> rows = np.random.default_rng(0).normal(size=(100, 3))
    >>> rows[:, 1] = 0.25
    >>> rows[60:, 2] = np.nan
    >>> experts = [Series.of("loss", {"expert": i}) for i in range(3)]
    >>> samples = Samples.from_columns(dict(zip(experts, rows.T)))
    >>> [(f.detector, str(f.series), f.at.seq) for f in SilentMembers().update(samples)]
    [('silent.constant', 'loss{expert="1"}', 29), ('silent.nan', 'loss{expert="2"}', 69)]
    """

    def __init__(
        self,
        metrics: Collection[str] = ("loss", "accuracy", "gradient_norm"),
        *,
        apart: Collection[str] = ("split", "phase"),
        stopped_after: int = 5,
        nan_after: int = 10,
        constant_after: int = 30,
        patience: int = 4,
        min_samples: int = 10,
    ) -> None:
        for name, value in (
            ("stopped_after", stopped_after),
            ("nan_after", nan_after),
            ("constant_after", constant_after),
            ("patience", patience),
            ("min_samples", min_samples),
        ):
            if value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")
        self._metrics = frozenset(metrics)
        self._apart = frozenset(apart)
        self._limits = Limits(stopped_after, nan_after, constant_after, patience, min_samples)
        self.reset()

    def reset(self) -> None:
        super().reset()
        self._groups: dict[object, Group] = {}
        self._group_of: dict[Series, Group] = {}

    @property
    def metrics(self) -> frozenset[str]:
        return self._metrics

    def update(self, samples: Samples) -> list[Finding]:
        parts: dict[int, tuple[Group, list[Block | Singles]]] = {}
        for part in samples.parts:
            members: dict[int, tuple[Group, list[int]]] = {}
            for i in watched_in(part.series, self._metrics):
                if (group := self._group(part.series[i])) is not None:
                    members.setdefault(id(group), (group, []))[1].append(i)
            for key, (group, places) in members.items():
                mine = part.take(places) if isinstance(part, Singles) else part
                parts.setdefault(key, (group, []))[1].append(mine)
        findings = [finding for group, mine in parts.values() for finding in self._judge(group, mine)]
        findings.sort(key=lambda finding: finding.order)
        return findings

    def _group(self, series: Series) -> Group | None:
        if not series.tags:
            return None
        if (group := self._group_of.get(series)) is None:
            key = series.metric, tuple(tag if tag[0] in self._apart else tag[0] for tag in series.tags)
            group = self._groups.setdefault(key, Group(self._limits))
            group.add(series)
            self._group_of[series] = group
        return group

    def _judge(self, group: Group, parts: list[Block | Singles]) -> Iterator[Finding]:
        if _is_sparse(group, parts):
            rows, values, present, places = _rounds(group, parts)
        else:
            rows, values, present, places = _table(group, Samples(parts).blocks)
        if not all(isinstance(part, Block) and part.is_finite for part in parts):
            lost = np.count_nonzero(present & ~np.isfinite(values), axis=0)
            for column in np.flatnonzero(lost).tolist():
                self._left_out(group.members[column], int(lost[column]))
        step = max(1, _CELLS // len(group.members))
        for start in range(0, len(values), step):
            part = slice(start, start + step)
            for silence in group.update(values[part], present[part]):
                series = group.members[silence.column]
                yield Finding(
                    f"silent.{silence.cause}",
                    series,
                    _SEVERITY[silence.cause],
                    Coordinates.of(rows, places(start + silence.row, silence.column)),
                    float(silence.length),
                    float(silence.longest),
                    silence.length / silence.allowed,
                    resolved=silence.resolved,
                    count=0 if silence.resolved else 1,
                    text="" if silence.resolved else _TEXTS[silence.cause].format(series, silence.length),
                )


_Rows = tuple[Column, Floats, NDArray[np.bool_], Callable[[int, int], int]]


def _table(group: Group, blocks: Sequence[Block]) -> _Rows:
    """The rows in which any member reports, in recording order: coordinates, values `(n, k)`, presence.

    The function gives the place among the coordinates of a row and column.
    """
    parts, masks = [], []
    if len(blocks) == 1 and all(member in blocks[0].column_of for member in group.members):  # most often
        (block,) = blocks
        columns = [block.column_of[member] for member in group.members]
        run = slice(columns[0], columns[0] + len(columns))  # of which nothing is copied
        values = block.values[:, run if columns == list(range(run.start, run.stop)) else columns]
        rows = Column(block.time_ns, block.epoch, block.batch, block.step, block.seq, values)
        return rows, values, np.ones(values.shape, np.bool_), lambda row, _column: row
    for block in blocks:
        here = [(i, group.column_of[name]) for i, name in enumerate(block.series) if name in group.column_of]
        source, target = (list(side) for side in zip(*here, strict=True))
        values = np.full((len(block), len(group.members)), np.nan)
        values[:, target] = block.values[:, source]
        mask = np.zeros(values.shape, dtype=bool)
        mask[:, target] = True
        masks.append(mask)
        parts.append(Column(block.time_ns, block.epoch, block.batch, block.step, block.seq, values))
    rows, present = Column.concat(parts), np.concatenate(masks)
    if len(parts) > 1:
        order = np.argsort(rows.seq, kind="stable")
        rows, present = rows.take(order), present[order]
    return rows, rows.values, present, lambda row, _column: row


def _is_sparse(group: Group, parts: list[Block | Singles]) -> bool:
    """Whether many members report one by one, so that a table of rows and members would be nearly empty."""
    rows = sum(len(part) for part in parts)
    reports = sum(part.values.size for part in parts)
    return len(group.members) >= _MANY and _EMPTY * reports < rows * len(group.members)


def _rounds(group: Group, parts: list[Block | Singles]) -> _Rows:
    """The same for rounds: a row is a round, which ends before a member reports in it for a second time."""
    columns, members = [], []
    for part in parts:
        singles = (
            [(part.series, part.lengths, part.columns)]
            if isinstance(part, Singles)
            else [
                ((series,), [len(part)], part.column(series))
                for series in part.series
                if series in group.column_of
            ]
        )
        for series, lengths, column in singles:
            columns.append(column)
            members.append(np.repeat([group.column_of[one] for one in series], lengths))
    events, member = Column.concat(columns), np.concatenate(members)
    order = np.argsort(events.seq, kind="stable")
    events, member = events.take(order), member[order]
    starts = _starts_of_rounds(member)
    row = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(member)))
    event = np.full((len(starts), len(group.members)), -1)
    event[row, member] = np.arange(len(member))
    values = np.where(event < 0, np.nan, events.values[event])
    latest = np.maximum.accumulate(event.max(axis=1))
    return (
        events,
        values,
        event >= 0,
        lambda row, column: int(latest[row] if event[row, column] < 0 else event[row, column]),
    )


def _starts_of_rounds(member: Ints) -> list[int]:
    """Where each round begins: with the first report of a member that has one in the round before.

    >>> _starts_of_rounds(np.array([0, 1, 2, 1, 0, 2, 2]))
    [0, 3, 6]
    """
    order = np.argsort(member, kind="stable")
    again = np.flatnonzero(member[order][1:] == member[order][:-1])
    before = np.full(len(member), -1)
    before[order[again + 1]] = order[again]
    latest = np.maximum.accumulate(before)
    starts, start = [], 0
    while start < len(member):
        starts.append(start)
        start = int(np.searchsorted(latest, start))
    return starts
