"""Groups: what `compare --group-by` says, for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from entrenar_processors.counts import counted
from rich.text import Text

from entrenar_otel.cli.comparison import numbered, percent, probability, signed
from entrenar_otel.cli.grid import Column
from entrenar_otel.cli.sections import Section, cell

if TYPE_CHECKING:
    from entrenar_otel.compare.groups import GroupComparison, GroupMetric, GroupValues

#: Metrics that are shown where none was named, and groups of each.
_MOST_METRICS, _MOST_GROUPS = 3, 20


def sections_of_groups(found: GroupComparison, *, was_asked: bool = False) -> list[Section]:
    """A comparison of groups in sections: a table for each metric, then what to know."""
    runs = sum(len(group.run_ids) for group in found.groups)
    counts = f"{counted(runs, 'run')} in {counted(len(found.groups), 'group')}"
    title = f"{found.of}: {counts} by {', '.join(found.by)}"
    shown = [one for one in found.metrics if was_asked or one.better is not None]
    shown = shown if was_asked else shown[:_MOST_METRICS]
    sections = [Section(title)] + [_metric(one, found) for one in shown]
    left = len(found.metrics) - len(shown)
    pairs = math.comb(len(found.groups), 2)
    methods = dict.fromkeys(
        pair.result.method for one in shown for pair in one.pairs if not math.isnan(pair.result.p_value)
    )
    lines = []
    if methods:
        corrected = f", p corrected for {counted(pairs, 'pair')} of groups (Holm)" if pairs > 1 else ""
        lines.append(
            f"{'; '.join(methods)}{corrected}; {found.confidence * 100:.3g} % intervals of the means"
        )
    if left:
        lines.append(f"{counted(left, 'more metric')}: --metric names those you mean, --format json has all")
    lines += found.notes
    sections.append(Section("Notes", lines=[cell(line, "dim") for line in lines]))
    return sections if lines else sections[:-1]


def _metric(one: GroupMetric, found: GroupComparison) -> Section:
    best = one.best or (found.groups[0].name if len(found.groups) > 1 else None)
    title = f"{one.name}" + (f", {one.better} is better" if one.better else "")
    columns = [
        Column("group"),
        Column("runs", right=True, need=1),
        Column("mean", right=True),
        Column("interval", need=3),
        Column("− best" if one.best else f"− {best}", right=True, need=4),
        Column("%", right=True, need=2),
        Column("p", right=True, need=1),
        Column("", least=5),
    ]
    groups = sorted(
        one.groups,
        key=lambda group: (math.isnan(group.mean), 0.0 if not one.best else _badness(group, one.better)),
    )
    section = Section(
        title, columns, [_group(group, best, one, found.alpha) for group in groups[:_MOST_GROUPS]]
    )
    if len(groups) > _MOST_GROUPS:
        section.lines.append(
            cell(f"… {len(groups) - _MOST_GROUPS:,} more groups; --format json has all", "dim")
        )
    return section


def _badness(group: GroupValues, better: str | None) -> float:
    return group.mean if better == "less" else -group.mean


def _group(group: GroupValues, best: str | None, one: GroupMetric, alpha: float) -> list[Text]:
    start = [
        cell(group.group),
        cell(f"{group.runs:,}"),
        cell(numbered(group.mean)),
        cell(_bounds(group)),
    ]
    pair = one.pair(best, group.group) if best not in (None, group.group) else None
    if pair is None:
        word = "best" if group.group == one.best else ""
        return [*start, cell(""), cell(""), cell(""), cell(word, "green")]
    base = next(other.mean for other in one.groups if other.group == best)
    result = pair.result
    if math.isnan(pair.p_corrected):
        word, style = "not tested", "dim"
    elif pair.p_corrected < alpha:
        word, style = ("worse", "red") if one.best else ("differs", "yellow")
    else:
        word, style = "no difference seen", "dim"
    return [
        *start,
        cell(signed(result.effect)),
        cell(percent(result.effect / abs(base) if base else math.nan)),
        cell(probability(pair.p_corrected)),
        cell(word, style),
    ]


def _bounds(group: GroupValues) -> str:
    if math.isnan(group.low):
        return "–"
    return f"{numbered(group.low)} … {numbered(group.high)}"
