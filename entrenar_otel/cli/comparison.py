"""Comparison: what `compare` says of two sides, for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from entrenar_processors.counts import counted
from entrenar_processors.durations import text_of
from rich.text import Text

from entrenar_otel.cli.grid import Column
from entrenar_otel.cli.sections import Section, cell
from entrenar_otel.compare.metrics import Verdict
from entrenar_otel.views.numbers import number

if TYPE_CHECKING:
    from entrenar_otel.compare.curves import CurveDifference
    from entrenar_otel.compare.metrics import MetricDifference
    from entrenar_otel.compare.runs import Comparison, SideSummary
    from entrenar_otel.compare.settings import Setting

#: Metrics, settings and packages that are shown; `--format json` has all.
MOST_ROWS = 20

STYLES = {
    Verdict.BETTER: "green",
    Verdict.WORSE: "red",
    Verdict.CHANGED: "yellow",
    Verdict.NOT_FINITE: "red",
    Verdict.ONLY_A: "yellow",
    Verdict.ONLY_B: "yellow",
}
_SHORT = {Verdict.UNCERTAIN: "no difference seen", Verdict.UNTESTED: "not tested"}
_VALUES = {
    "final": "means of the last tenth of a run's values",
    "last": "last finite values",
    "best": "best values",
}
_CORRECTIONS = {
    "benjamini_hochberg": "Benjamini–Hochberg: at most {alpha:.3g} % of those called significant are chance",
    "holm": "Holm: chance calls any of them significant less often than {alpha:.3g} %",
    "none": "not corrected",
}
_METRIC_COLUMNS = (
    Column("metric"),
    Column("A", right=True),
    Column("B", right=True),
    Column("B − A", right=True, need=4),
    Column("%", right=True, need=1),
    Column("interval", need=5),
    Column("p", right=True, need=3),
    Column("verdict", need=2, least=10),
)


def sections_of(found: Comparison) -> list[Section]:
    """A comparison in sections: the sides, metrics, curves, what else differs, remarks."""
    sections = [_sides(found), _metrics(found)]
    if found.curves:
        sections.append(_curves(found))
    sections.append(_settings("Settings that differ", found.settings, "none but seeds"))
    if found.environment is not None:
        sections.append(_settings("Environment that differs", found.environment, "nothing"))
    if found.notes:
        sections.append(Section("Notes", lines=[cell(note, "dim") for note in found.notes]))
    return sections


def _sides(found: Comparison) -> Section:
    columns = [
        Column(""),
        Column("", is_text=False, least=20),
        Column("runs", need=1),
        Column("steps", right=True, need=3),
        Column("took", right=True, need=2),
        Column("steps/s", right=True, need=3),
        Column("commit", need=4),
    ]
    rows = [[cell(mark, "bold"), *_side(side)] for mark, side in (("A", found.a), ("B", found.b))]
    return Section("", columns, rows)


def _side(side: SideSummary) -> list[Text]:
    states = ", ".join(f"{count} {state}" for state, count in side.states.items())
    commits = ", ".join(commit[:8] for commit in side.commits[:2]) + ("…" if len(side.commits) > 2 else "")
    name = side.name
    if len(side.run_ids) == 1 and side.versions and side.versions[0].replace(" ", "@") != name:
        name = f"{name}  {side.versions[0]}"
    return [
        cell(name),
        cell(states),
        cell(numbered(side.steps)),
        cell("–" if math.isnan(side.seconds) else text_of(side.seconds)),
        cell(_rate(side.steps_per_second)),
        cell(commits or "–"),
    ]


def _metrics(found: Comparison) -> Section:
    shown = list(found.metrics)
    if len(shown) > MOST_ROWS:  # what is certain, before what comes first by its name
        shown = sorted(shown, key=lambda one: not one.is_significant)[:MOST_ROWS]
    section = Section("Metrics", _METRIC_COLUMNS, [_metric(one, found.value, found.alpha) for one in shown])
    left = len(found.metrics) - len(shown)
    if left:
        certain = sum(one.is_significant for one in found.metrics) - sum(one.is_significant for one in shown)
        told = f"{counted(certain, 'significant one')} among them" if certain else "none of them significant"
        section.lines.append(cell(f"… {left:,} more metrics, {told}; --format json has all", "dim"))
    section.lines.append(cell(_how(found), "dim"))
    return section


def _how(found: Comparison) -> str:
    """What the numbers are, and by which tests."""
    tested = sum(not math.isnan(one.p_value) for one in found.metrics)
    methods = list(dict.fromkeys(one.method for one in found.metrics if not math.isnan(one.p_value)))
    text = f"A, B: {_VALUES[found.value]}; {found.confidence * 100:.3g} % intervals"
    if methods:
        text += f"; {'; '.join(methods)}"
    if tested > 1:
        correction = _CORRECTIONS[found.correction].format(alpha=found.alpha * 100)
        text += f"; p corrected for {tested:,} tests ({correction})"
    return f"{text}."


def _metric(one: MetricDifference, value: str, alpha: float) -> list[Text]:
    a, b = getattr(one.a, value), getattr(one.b, value)
    style = STYLES.get(one.verdict, "dim")
    title = cell(one.metric)
    rest = one.name[len(one.metric) :]
    if rest:
        title.append(" ").append_text(cell(rest, "dim"))
    for mark, values in (("A", one.a), ("B", one.b)):
        if values.nonfinite:
            title.append(f"  {values.nonfinite:,} NaN or Inf in {mark}", style="red")
    return [
        title,
        cell(numbered(a)),
        cell(numbered(b)),
        cell(signed(one.effect)),
        cell(percent(one.ratio), style if one.is_significant else ""),
        cell(interval(one.low, one.high)),
        cell(probability(one.p_corrected)),
        cell(_word(one.verdict, one.p_value, alpha), style),
    ]


def _word(verdict: Verdict, p_value: float, alpha: float) -> str:
    """A verdict in a table; what only the correction keeps from being significant is another one.

    >>> [_word(Verdict.UNCERTAIN, p, 0.05) for p in (0.043, 0.3)], _word(Verdict.WORSE, 0.001, 0.05)
    (['unclear', 'no difference seen'], 'worse')
    """
    if verdict is Verdict.UNCERTAIN and p_value < alpha:
        return "unclear"
    return _SHORT.get(verdict, verdict.value)


def _curves(found: Comparison) -> Section:
    columns = [
        Column("metric"),
        Column("part at step", right=True),
        Column("farthest apart", right=True, need=1),
        Column("at step", right=True, need=1),
        Column("common points", right=True, need=2),
    ]
    section = Section("Curves", columns, [_curve(curve) for curve in found.curves])
    methods = dict.fromkeys(curve.method for curve in found.curves if curve.is_judged)
    if methods:
        section.lines.append(cell(f"They part where they stay apart {' or '.join(methods)}.", "dim"))
    return section


def _curve(curve: CurveDifference) -> list[Text]:
    if not curve.is_judged:
        place = cell("too few points", "dim")
    elif curve.diverges_at is None:
        place = cell("nowhere", "dim")
    else:
        place = cell("the first" if curve.is_from_start else number(round(curve.diverges_at)), "yellow")
    gap, step = signed(curve.gap), number(round(curve.gap_step))
    return [cell(curve.name), place, cell(gap), cell(step), cell(f"{len(curve.steps):,}")]


def _settings(title: str, settings: Sequence[Setting], nothing: str) -> Section:
    if not settings:
        return Section(title, lines=[cell(nothing, "dim")])
    columns = [Column("name"), Column("A", least=8), Column("B", least=8)]
    rows = [[cell(one.name), cell(_some(one.a)), cell(_some(one.b))] for one in settings[:MOST_ROWS]]
    section = Section(title, columns, rows)
    if len(settings) > MOST_ROWS:
        section.lines.append(cell(f"… {len(settings) - MOST_ROWS:,} more; --format json has all", "dim"))
    return section


def _some(values: Iterable[Any]) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    return ", ".join(texts[:4]) + (", …" if len(texts) > 4 else "") or "–"


def numbered(value: float) -> str:
    """A value with four digits, or that there is none.

    >>> numbered(-3.59612), numbered(2e-6), numbered(float("nan"))
    ('−3.596', '2e-06', '–')
    """
    if math.isnan(value):
        return "–"
    text = number(value)
    return f"−{text[1:]}" if text.startswith("-") else text


def _rate(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def signed(value: float) -> str:
    """A difference with its sign.

    >>> signed(0.01234567), signed(-3.0), signed(float("nan"))
    ('+0.01235', '−3', '–')
    """
    if math.isnan(value):
        return "–"
    text = "∞" if math.isinf(value) else f"{abs(value):.4g}"
    return ("+" if value > 0 else "−" if value < 0 else "") + text


def percent(ratio: float) -> str:
    """A difference as a share.

    >>> percent(0.0219), percent(-0.25), percent(12.0), percent(0.00001), percent(float("nan"))
    ('+2.2 %', '−25.0 %', '+1,200 %', '0.0 %', '–')
    """
    if math.isnan(ratio):
        return "–"
    share = abs(ratio) * 100
    text = f"{share:,.0f}" if share >= 100 else f"{share:.1f}"
    return ("" if float(text.replace(",", "")) == 0 else "+" if ratio > 0 else "−") + f"{text} %"


def interval(low: float, high: float) -> str:
    """The bounds of a difference.

    >>> interval(-0.01, 0.0234567), interval(float("-inf"), float("inf")), interval(float("nan"), 1.0)
    ('−0.01 … +0.02346', '−∞ … +∞', '–')
    """
    return "–" if math.isnan(low) or math.isnan(high) else f"{signed(low)} … {signed(high)}"


def probability(p: float) -> str:
    """A p-value as it is read.

    >>> probability(0.0312), probability(1e-9), probability(0.91), probability(float("nan"))
    ('0.031', '<0.001', '0.91', '–')
    """
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
