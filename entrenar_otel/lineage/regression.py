"""Regression: which change on the way to a version made a metric worse.

Every edge of the whole ancestry, over all parents, is a change with a before and an after. Where versions
were evaluated several times (runs that differ by seed), Welch's test says whether a drop is more than noise;
where neither side was, the spread of the ancestry's other versions says it, as one pooled variance; where
there is no spread at all, a tolerance does. P-values are corrected for the number of changes tested
(Benjamini–Hochberg): of many, some seem significant by chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from entrenar_processors.counts import counted
from entrenar_processors.metric_names import is_better
from entrenar_processors.plain import plain
from entrenar_processors.samples import Floats

from entrenar_otel.compare.settings import Setting
from entrenar_otel.compare.significance import (
    CRAWFORD_HOWELL,
    WELCH,
    benjamini_hochberg,
    error_of,
    t_test,
)
from entrenar_otel.errors import LineageError
from entrenar_otel.lineage.configurations import Configurations
from entrenar_otel.lineage.graph import Evaluations, LineageGraph, Places
from entrenar_otel.lineage.words import percent, probability, setting_text, signed
from entrenar_otel.redact import printable_line
from entrenar_otel.views.numbers import number

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

POOLED = "spread of the other versions' evaluations"
_MOST_RUNNERS_UP = 3
#: Differences that are rounding, as a share of the values.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Change:
    """A change and what became of the metric; `effect` is after − before, `low` and `high` bound it.

    `p_value` is None where there was nothing to test with, `method` says by what it was tested;
    `p_corrected` is the same for all changes that were. `passed_over` are versions without a value between
    parent and child. `settings` are what differs in the configurations; None where `settings_note` says
    why they are not known. `commits` are those of parent and child.
    """

    parent: str
    child: str
    change_type: str | None
    metric: str
    before: float
    after: float
    effect: float
    ratio: float
    p_value: float | None
    p_corrected: float | None
    low: float | None
    high: float | None
    method: str
    evaluations: tuple[int, int]
    passed_over: tuple[str, ...] = ()
    settings: tuple[Setting, ...] | None = None
    settings_note: str | None = None
    commits: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def __str__(self) -> str:
        kind = f" ({self.change_type})" if self.change_type else ""
        share = "" if math.isnan(self.ratio) else f" ({percent(self.ratio)})"
        p = "" if self.p_value is None else f", {probability(self.p_value)}"
        values = f"{self.metric} {number(self.before)} → {number(self.after)}{share}{p}"
        return printable_line(f"{self.parent} → {self.child}{kind}: {values}")


@dataclass(frozen=True, slots=True)
class RegressionSource:
    """The change that made a metric worse the most; None where none did beyond noise.

    `runners_up` are further ones, the worst first; `within_noise` the worst drops that may be chance.
    """

    version: str
    metric: str
    better: Literal["less", "more"]
    source: Change | None
    runners_up: tuple[Change, ...]
    within_noise: tuple[Change, ...]
    changes: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can say it; what is not a number is a text."""
        return plain(asdict(self))  # type: ignore[no-any-return]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        changes = counted(self.changes, "change")
        if self.source is None:
            lines = [
                f"Of {changes} on the way to {self.version}, none made {self.metric} worse beyond noise."
            ]
        else:
            lines = [str(self.source), *(f"  {line}" for line in _facts(self.source))]
        for title, others in (("Then", self.runners_up), ("Within noise", self.within_noise)):
            lines += [f"{title}: {other}" for other in others]
        return lines + [printable_line(f"Note: {note}") for note in self.notes]


def _facts(change: Change) -> list[str]:
    """What is known of a change beside its numbers."""
    lines = []
    n, m = change.evaluations
    if change.p_value is None:
        lines.append(f"not tested: {change.method}")
    else:
        bounds = (
            ""
            if change.low is None or change.high is None
            else (f"; the true change lies in {signed(change.low)} … {signed(change.high)} (95 %)")
        )
        lines.append(f"{n} against {m} evaluations, {change.method}{bounds}")
    if change.passed_over:
        lines.append(f"passed over, without a value: {', '.join(change.passed_over)}")
    if change.settings_note:
        lines.append(f"configuration: {change.settings_note}")
    elif not change.settings:
        lines.append("configuration: the same, but for seeds")
    else:
        lines += [printable_line(f"configuration: {setting_text(one)}") for one in change.settings]
    if any(change.commits) and change.commits[0] != change.commits[1]:
        before, after = (", ".join(one[:12] for one in side) or "unknown" for side in change.commits)
        lines.append(f"commit: {before} → {after}")
    return lines


class _Steps(NamedTuple):
    """From the nearest ancestors that have a value to versions that have one: places `(k,)`.

    `passed_over` has the versions between them, the eldest first, of the last steps; the others have none.
    """

    parent: np.ndarray
    child: np.ndarray
    passed_over: list[tuple[int, ...]]

    def between(self, at: int) -> tuple[int, ...]:
        first = len(self.parent) - len(self.passed_over)
        return self.passed_over[at - first] if at >= first else ()


class _Tested(NamedTuple):
    """What became of each step `(k,)`; `p` is NaN where nothing was to test with."""

    before: Floats
    after: Floats
    p: Floats
    corrected: Floats
    half: Floats
    methods: np.ndarray


def find_source(
    lake: Lake,
    graph: LineageGraph,
    name: str,
    metric: str,
    *,
    tolerance: float | None,
    better: Literal["less", "more"] | None,
    alpha: float,
) -> RegressionSource:
    """See `Lineage.find_regression_source`."""
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise LineageError(f"expected a tolerance of 0 or more in the metric's unit, got {tolerance}")
    stored = graph.statements.find_metric(metric)
    direction = better or is_better(stored)
    if direction is None:
        raise LineageError(
            f"whether little or much of {metric!r} is good is not known: say better='less' or 'more'"
        )
    evaluations = graph.evaluations(stored)
    usable = evaluations.counts > 0
    usable[[graph.places[one] for one in graph.conflicts]] = False
    if not usable[graph.places[name]]:
        raise LineageError(f"{name} has no {metric}: nobody knows whether it became worse")
    inside = graph.is_ancestor_of(name)
    steps = _steps(graph, inside, usable)
    tested = _test(steps, evaluations, inside & usable)
    effect = tested.after - tested.before
    worse = -effect if direction == "more" else effect
    scale = np.maximum(np.abs(tested.before), np.abs(tested.after))
    drops = worse > np.maximum(_ROUNDING * scale, tolerance or 0.0)
    beyond = drops & ~(tested.corrected >= alpha)
    chosen = _largest(worse, beyond, 1 + _MOST_RUNNERS_UP)
    told = chosen or _largest(worse, drops, 1)
    names = graph.numbered.names
    ends = [names[side[at]] for at in told for side in (steps.parent, steps.child)]
    configurations = Configurations(lake, graph, ends)
    made = [_change(graph, stored, steps, tested, at, evaluations, configurations) for at in told]
    return RegressionSource(
        version=name,
        metric=stored,
        better=direction,  # type: ignore[arg-type]
        source=made[0] if chosen else None,
        runners_up=tuple(made[1 : len(chosen)]),
        within_noise=tuple(made[len(chosen) :]),
        changes=len(steps.parent),
        notes=tuple(_notes(graph, inside, tested, tolerance, metric, usable)),
    )


def _largest(worse: Floats, among: np.ndarray, most: int) -> list[int]:
    at = np.flatnonzero(among)
    order = np.argsort(-worse[at], kind="stable")[:most]
    return [int(one) for one in at[order]]


def _steps(graph: LineageGraph, inside: np.ndarray, usable: np.ndarray) -> _Steps:
    """All changes between versions that have a value; where a parent has none, from its nearest that do."""
    numbered = graph.numbered
    wanted = (inside & usable)[numbered.child]
    direct = wanted & usable[numbered.parent]
    gaps = np.flatnonzero(wanted & ~direct)
    bridges: dict[tuple[int, int], tuple[int, ...]] = {}
    for at in gaps.tolist():
        for parent, way in _bridges(numbered, int(numbered.parent[at]), int(numbered.child[at]), usable):
            bridges.setdefault((parent, int(numbered.child[at])), way)
    ends = np.array(list(bridges), np.int64).reshape(-1, 2)
    return _Steps(
        np.concatenate([numbered.parent[direct], ends[:, 0]]),
        np.concatenate([numbered.child[direct], ends[:, 1]]),
        list(bridges.values()),
    )


def _bridges(
    numbered: Places, start: int, child: int, usable: np.ndarray
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The nearest ancestors of `start` that have a value, and what lies between."""
    below: dict[int, int | None] = {start: None}
    waiting = [start]
    for one in waiting:
        for parent in numbered.up[one]:
            if parent in below or parent == child:
                continue
            below[parent] = one
            if not usable[parent]:
                waiting.append(parent)
                continue
            way: list[int] = []
            at: int | None = one
            while at is not None:
                way.append(at)
                at = below[at]
            yield parent, tuple(way)


def _test(steps: _Steps, evaluations: Evaluations, own: np.ndarray) -> _Tested:
    a, b = steps.parent, steps.child
    n, m = evaluations.counts[a], evaluations.counts[b]
    before, after = evaluations.mean[a], evaluations.mean[b]
    variance = evaluations.variance
    error, freedom = error_of(variance[a], n, variance[b], m)
    methods = np.where((n > 1) & (m > 1), WELCH, CRAWFORD_HOWELL).astype(object)
    several = np.flatnonzero(own & (evaluations.counts > 1))
    alone = np.isnan(error) | ~(error > 0)
    loose = float((evaluations.counts[several] - 1).sum())
    if loose:
        pooled = float(((evaluations.counts[several] - 1) * variance[several]).sum()) / loose
        if pooled > 0:
            error = np.where(alone, np.sqrt(pooled * (1 / n + 1 / m)), error)
            freedom = np.where(alone, loose, freedom)
            methods[alone] = POOLED
            alone = np.zeros_like(alone)
    methods[alone] = "nothing was evaluated twice, so that the noise is not known"
    error = np.where(alone, np.nan, error)
    if np.all(np.isnan(error)):  # without scipy, too
        nothing = np.full(len(a), np.nan)
        return _Tested(before, after, nothing, nothing, nothing, methods)
    with np.errstate(all="ignore"):
        p, half = t_test(after - before, error, freedom)
    return _Tested(before, after, p, benjamini_hochberg(p), half, methods)


def _change(
    graph: LineageGraph,
    metric: str,
    steps: _Steps,
    tested: _Tested,
    at: int,
    evaluations: Evaluations,
    configurations: Configurations,
) -> Change:
    before, after = float(tested.before[at]), float(tested.after[at])
    effect, half = after - before, _known(tested.half[at])
    names = graph.numbered.names
    parent, child = names[steps.parent[at]], names[steps.child[at]]
    between = tuple(names[one] for one in steps.between(at))
    settings, note = configurations.difference(parent, child)
    return Change(
        parent=parent,
        child=child,
        change_type=graph.parents[child].get(between[-1] if between else parent),
        metric=metric,
        before=before,
        after=after,
        effect=effect,
        ratio=effect / abs(before) if before else math.nan,
        p_value=_known(tested.p[at]),
        p_corrected=_known(tested.corrected[at]),
        low=None if half is None else effect - half,
        high=None if half is None else effect + half,
        method=str(tested.methods[at]),
        evaluations=(
            int(evaluations.counts[steps.parent[at]]),
            int(evaluations.counts[steps.child[at]]),
        ),
        passed_over=between,
        settings=settings,
        settings_note=note,
        commits=(configurations.commits(parent), configurations.commits(child)),
    )


def _known(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)


def _notes(
    graph: LineageGraph,
    inside: np.ndarray,
    tested: _Tested,
    tolerance: float | None,
    metric: str,
    usable: np.ndarray,
) -> list[str]:
    notes = []
    for one in graph.conflicts:
        if inside[graph.places[one]]:
            notes.append(f"{one} was made with two configurations; its numbers are left out")
    names, is_known = graph.numbered.names, graph.numbered.is_known
    missing = [names[at] for at in np.flatnonzero(inside & ~is_known)]
    empty = [names[at] for at in np.flatnonzero(inside & is_known & ~usable)]
    empty = [one for one in empty if one not in graph.conflicts]
    if missing:
        notes.append(f"missing: {_some(missing)}")
    if empty:
        notes.append(f"without {metric}: {_some(empty)}; changes are seen across them")
    for way in graph.cycles:
        if inside[graph.places[way[0]]]:
            notes.append(f"links make a version its own ancestor: {' → '.join(way)}")
    if len(tested.p) and np.isnan(tested.p).any() and tolerance is None:
        notes.append(
            "each version has one evaluation, so that every drop counts: repeat runs with other seeds, or "
            "give a tolerance"
        )
    return notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {counted(len(names) - 5, 'other')}" if len(names) > 5 else "")
