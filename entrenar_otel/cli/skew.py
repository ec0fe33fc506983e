"""Skew: what `compare --serving` says, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from entrenar_otel.cli.comparison import MOST_ROWS, numbered, probability
from entrenar_otel.cli.grid import Column
from entrenar_otel.cli.sections import Section, cell
from entrenar_otel.compare.skew import BINS, LARGE, MODERATE, SkewVerdict

if TYPE_CHECKING:
    from entrenar_otel.compare.skew import SkewComparison, SkewMetric

_STYLES = {SkewVerdict.STABLE: "green", SkewVerdict.MODERATE: "yellow", SkewVerdict.LARGE: "red"}
_COLUMNS = (
    Column("metric"),
    Column("training", right=True, need=4),
    Column("production", right=True, need=4),
    Column("PSI", right=True),
    Column("KS", right=True, need=1),
    Column("p", right=True, need=3),
    Column("verdict", least=8),
    Column("production's shares", need=5),
)
_BARS = "▁▂▃▄▅▆▇█"


def sections_of_skew(found: SkewComparison) -> list[Section]:
    """A comparison with production in sections: the distributions, what only one side has, how to read it."""
    rows = [_row(one) for one in found.metrics[:MOST_ROWS]]
    section = Section(f"{found.training} (training) against {found.production} (production)", _COLUMNS, rows)
    left = len(found.metrics) - len(rows)
    if left:
        section.lines.append(cell(f"… {left:,} more, less shifted; --format json has all", "dim"))
    lines = [
        f"medians; PSI over {BINS} bins of equal shares in training: below {MODERATE} stable, from {LARGE} a "
        "large shift; KS: the largest distance of the distribution functions",
        "p of KS, corrected (Benjamini–Hochberg), takes values for independent: for steps of a run trust PSI",
    ]
    for where, names in (("training", found.only_training), ("production", found.only_production)):
        if names:
            lines.append(f"only in {where}: {_some(names)}")
    if not found.metrics:
        section = Section(section.title, lines=[cell("no metric is on both sides", "yellow")])
        lines = lines[2:]
    return [section, Section("Notes", lines=[cell(line, "dim") for line in lines])]


def _row(one: SkewMetric) -> list[Text]:
    style = _STYLES.get(one.verdict, "dim")
    most = max(*one.production_shares, *one.training_shares, 1e-12)
    bars = "".join(_BARS[round(share / most * (len(_BARS) - 1))] for share in one.production_shares)
    return [
        cell(one.name),
        cell(numbered(one.training_median)),
        cell(numbered(one.production_median)),
        cell(f"{one.psi:.3f}", style),
        cell(f"{one.ks:.3f}"),
        cell(probability(one.p_corrected)),
        cell(one.verdict.value, style),
        cell(bars),
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")
