"""SVG: curves for a notebook, as a part of its page and in its colours; no library is needed."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from entrenar_otel.redact import printable_line
from entrenar_otel.views.chart import Chart, is_named
from entrenar_otel.views.look import LEVEL_COLOURS, LIMIT, LINES
from entrenar_otel.views.model import Axis, Line, Panel, RunView, panels_of
from entrenar_otel.views.numbers import clock_text, cut, number, tick_texts, ticks, value_text

_WIDE, _HIGH = 420, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 26, 34
_MAX_PANELS = 4
#: How wide a sign is, about, a bold one and a digit, and how many there are at most of a heading and a name.
_SIGN, _BOLD, _DIGIT, _HEADING, _NAME = 6.0, 7.2, 7.0, 30, 20
#: A curve of at most so many points shows each of them.
_FEW = 40


def curves_svg(view: RunView, panels: Sequence[Panel] | None = None, axis: Axis = Axis.STEP) -> str:
    """The first panels of a run side by side; nothing where nothing was measured."""
    chosen = (panels_of(view) if panels is None else list(panels))[:_MAX_PANELS]
    drawn = [_Drawing(Chart(panel, view, axis)).svg() for panel in chosen if panel.lines(view, axis)]
    return f"<div>{''.join(drawn)}</div>" if drawn else ""


def panel_svg(
    panel: Panel, view: RunView, axis: Axis = Axis.STEP, notes: Sequence[tuple[float, str]] = ()
) -> str:
    """One panel, with a dotted line at each place of the axis that `notes` name."""
    return _Drawing(Chart(panel, view, axis), notes).svg()


class _Drawing:
    """One panel."""

    def __init__(self, chart: Chart, notes: Sequence[tuple[float, str]] = ()) -> None:
        self._chart, self._notes = chart, notes
        self._low, self._high = chart.y_span()
        self._wide = (chart.high - chart.low) or 1.0
        few = ticks(self._low, self._high, 4)
        self._ticks = few if len(few) > 1 else ticks(self._low, self._high, 8)
        self._texts = tick_texts(self._ticks, size=chart.panel.is_of_sizes)
        self._left = max(_LEFT, 10 + _DIGIT * max(map(len, self._texts), default=0))

    def _x(self, place: float) -> float:
        return self._left + (place - self._chart.low) / self._wide * (_WIDE - self._left - _RIGHT)

    def _y(self, value: float) -> float:
        return _HIGH - _BOTTOM - (value - self._low) / (self._high - self._low) * (_HIGH - _TOP - _BOTTOM)

    def svg(self) -> str:
        """All of it."""
        parts = [self._titles(), *self._grid()]
        for name, value in self._chart.limits:
            if self._low <= value <= self._high:
                told = f"<title>{_text(f'{name} {number(value)}')}</title>"
                parts.append(self._across(value, f'stroke="{LIMIT}" stroke-dasharray="5 3"', told))
        parts += [self._note(place, text) for place, text in self._notes]
        parts += [self._curve(line, LINES[at]) for at, line in enumerate(self._chart.lines)]
        for place, finding in self._chart.marks():
            path = f"M{self._x(place):.1f} {_HIGH - _BOTTOM - 9}l5 9h-10z"
            colour = LEVEL_COLOURS.get(finding.level, "#b07a00")
            parts.append(f'<path d="{path}" fill="{colour}"><title>{_text(finding.summary)}</title></path>')
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDE}" height="{_HIGH}" '
            f'viewBox="0 0 {_WIDE} {_HIGH}" font-family="sans-serif" font-size="11" fill="currentColor">'
            f"{''.join(parts)}</svg>"
        )

    def _note(self, place: float, text: str) -> str:
        """A dotted line upwards, its text on the side where there is more room."""
        x = self._x(min(max(place, self._chart.low), self._chart.high))
        is_left = x < (self._left + _WIDE) / 2
        y = _TOP + 9 + 12 * [known for _, known in self._notes].index(text)
        side = "start" if is_left else "end"
        return (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HIGH - _BOTTOM}" stroke="currentColor" '
            f'stroke-dasharray="1 3" opacity="0.8"/>'
            + _label(
                x + (4 if is_left else -4), y, text, f'text-anchor="{side}" opacity="0.8" font-size="10"'
            )
        )

    def _across(self, value: float, style: str, inner: str = "") -> str:
        y = self._y(value)
        return (
            f'<line x1="{self._left}" x2="{_WIDE - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" {style}>{inner}</line>'
        )

    def _curve(self, line: Line, colour: str) -> str:
        """The points joined, with a gap where a value is not finite, and a cross there."""
        thin = line.thinned(_WIDE)
        path: list[str] = []
        crosses = []
        is_open = False
        for x, y in zip(thin.x.tolist(), thin.values.tolist(), strict=True):
            if np.isfinite(y) and np.isfinite(x):
                # a point alone is a line of no length, which round ends show
                path.append(f"L{self._x(x):.1f} {self._y(y):.1f}" if is_open else self._begin(x, y))
                is_open = True
            else:
                is_open = False
                if np.isfinite(x):
                    crosses.append(f"M{self._x(x) - 4:.1f} {_TOP}l8 8m0 -8l-8 8")
        style = 'stroke-width="1.4" stroke-linejoin="round" stroke-linecap="round"'
        drawn = f'<path d="{"".join(path)}" fill="none" stroke="{colour}" {style}/>'
        if len(thin.x) <= _FEW:
            for x, y in zip(thin.x.tolist(), thin.values.tolist(), strict=True):
                if np.isfinite(x) and np.isfinite(y):
                    place = f'cx="{self._x(x):.1f}" cy="{self._y(y):.1f}"'
                    drawn += f'<circle {place} r="2.2" fill="{colour}"/>'
        if crosses:
            told = "<title>NaN or Inf</title>"
            drawn += f'<path d="{"".join(crosses)}" stroke="#c62828" stroke-width="1.6">{told}</path>'
        return drawn

    def _begin(self, x: float, y: float) -> str:
        return f"M{self._x(x):.1f} {self._y(y):.1f}h0"

    def _titles(self) -> str:
        """What is drawn, and from the right the curves with their last values."""
        chart = self._chart
        unit = f" ({chart.panel.unit})" if chart.panel.unit else ""
        heading = cut(printable_line(chart.panel.heading), _HEADING) + unit
        parts = [_label(self._left, 15, heading, 'font-weight="bold"')]
        labels = [self._legend(line) for line in chart.lines]
        room = int((_WIDE - self._left - _RIGHT - _BOLD * len(heading)) / _SIGN) - 2
        while len(labels) > 1 and sum(len(label) + 2 for label in labels) > room:
            labels.pop()
        labels[0] = self._legend(chart.lines[0], max(6, room))
        x = float(_WIDE - _RIGHT)
        if left_out := len(chart.lines) + chart.left_out - len(labels):
            text = f"+{left_out} more"
            parts.append(_label(x, 15, text, 'text-anchor="end" opacity="0.7"'))
            x -= _SIGN * (len(text) + 2)
        for at in range(len(labels) - 1, -1, -1):
            parts.append(_label(x, 15, labels[at], f'text-anchor="end" fill="{LINES[at]}"'))
            x -= _SIGN * (len(labels[at]) + 2)
        return "".join(parts)

    def _legend(self, line: Line, room: int = 99) -> str:
        """A curve's name, where it has one beside its metric's, and its last value, which is never cut."""
        known = self._chart.view.statistics.get(line.series)
        value = value_text(line.series.metric, known.last) if known else ""
        name = printable_line(line.label) if is_named(line) else ""
        return f"{cut(name, max(1, min(_NAME, room - len(value) - 1)))} {value}".strip()

    def _grid(self) -> list[str]:
        """Round numbers on both axes."""
        chart, axis = self._chart, self._chart.axis
        parts = []
        for value, text in zip(self._ticks, self._texts, strict=True):
            parts.append(self._across(value, 'stroke="currentColor" opacity="0.15"'))
            if text:
                at = self._left - 6, self._y(value) + 4
                parts.append(_label(*at, text, 'text-anchor="end" opacity="0.7"'))
        places = ticks(chart.low, chart.high, 4, whole=axis is Axis.STEP, seconds=axis is Axis.TIME)
        texts = [clock_text(place) for place in places] if axis is Axis.TIME else tick_texts(places)
        middle = 'text-anchor="middle" opacity="0.7"'
        for place, text in zip(places, texts, strict=True):
            parts.append(_label(self._x(place), _HIGH - _BOTTOM + 14, text, middle))
        parts.append(_label((self._left + _WIDE) / 2, _HIGH - 4, str(axis), middle))
        return parts


def _label(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{_text(text)}</text>'


def _text(text: str) -> str:
    return html.escape(printable_line(text))
