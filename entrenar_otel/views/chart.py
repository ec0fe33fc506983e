"""Chart: one panel in a terminal: a title, curves over axes, limits, and marks of what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from entrenar_processors.metric_names import VALIDATION, known_as
from numpy.typing import NDArray
from rich.text import Span, Text

from entrenar_otel.redact import printable_line
from entrenar_otel.views.canvas import ASCII_SIGNS, Canvas, sparkline
from entrenar_otel.views.look import LEVELS, LIMIT, LINES, Look
from entrenar_otel.views.model import Axis, Finding, Line, Panel, Places, RunView
from entrenar_otel.views.numbers import clock_text, number, tick_texts, ticks, value_text

#: Curves of one panel; of more, the first ones are drawn, and the rest is counted.
MAX_LINES = 8
#: The least height of a chart with axes.
_LEAST_HEIGHT = 6
#: Narrower than this for each of its curves, a title has shorter numbers.
_TIGHT = 26
#: Room above and below the curves, as a share of what they span.
_PAD = 0.02
_LEAST = 1e-290
#: Of NaN and Inf.
_ODD = "bold red"
#: What a sign may look like: the curves first, by their number.
_STYLES = tuple(dict.fromkeys((*LINES, LIMIT, _ODD, *LEVELS.values())))


@dataclass(frozen=True)
class Window:
    """Which part of the x-axis is shown: shares from 0 to 1."""

    low: float = 0.0
    high: float = 1.0

    def zoomed(self, factor: float) -> Window:
        """Narrower (a factor below 1) or wider; what was at the end stays in sight."""
        span = min(1.0, max(1e-4, (self.high - self.low) * factor))
        high = self.high if self.high >= 1.0 else min(1.0, (self.low + self.high + span) / 2)
        low = max(0.0, high - span)
        return Window(low, min(1.0, low + span))

    def moved(self, share: float) -> Window:
        """To the side, by a share of what is shown."""
        span = self.high - self.low
        low = min(max(0.0, self.low + share * span), 1.0 - span)
        return Window(low, low + span)

    @property
    def is_whole(self) -> bool:
        """Whether everything is shown."""
        return self.high - self.low >= 1.0


class Chart:
    """A panel of a view over an axis, or a part of that, to be drawn in signs."""

    def __init__(
        self,
        panel: Panel,
        view: RunView,
        axis: Axis = Axis.STEP,
        window: Window | None = None,
        look: Look | None = None,
    ) -> None:
        self.panel, self.view, self.axis = panel, view, axis
        self.look = look or Look()
        window = window or Window()
        whole = panel.lines(view, axis, coarse=window.is_whole)
        self.left_out = max(0, len(whole) - MAX_LINES)
        whole = whole[:MAX_LINES]
        low, high = span_of([line.x for line in whole])
        self.low, self.high = low + window.low * (high - low), low + window.high * (high - low)
        self.lines = whole if window.is_whole else [line.within(self.low, self.high) for line in whole]
        self.limits = panel.thresholds(view)

    # -- what is on it --------------------------------------------------------------------------

    def y_span(self) -> tuple[float, float]:
        """What the y-axis spans: all values, and the limits near them."""
        low, high = span_of([line.values for line in self.lines])
        room = high - low if high > low else max(abs(high), 1e-12)
        for _, value in self.limits:
            if low - room <= value <= high + room:
                low, high = min(low, value), max(high, value)
        is_flat = high - low < _LEAST
        pad = max(abs(high) * 0.05, _LEAST) if is_flat and high else 1.0 if is_flat else (high - low) * _PAD
        return low - pad, high + pad

    def marks(self) -> list[tuple[float, Finding]]:
        """Where on the x-axis something was found."""
        found = []
        for finding in self.panel.findings(self.view):
            place = place_of(finding, self.lines, self.view, self.axis)
            if place is not None and self.low <= place <= self.high:
                found.append((place, finding))
        return found

    # -- how it is drawn ------------------------------------------------------------------------

    def draw(self, width: int, height: int) -> list[Text]:
        """The lines of the chart, exactly `height` of them, none wider than `width`."""
        if not self.lines or height < _LEAST_HEIGHT or width < 24:
            return self._small(width, height)
        low, high = self.y_span()
        rows = height - 3
        values = ticks(low, high, max(1, (rows + 1) // 3))
        if len(values) < 2:
            values = ticks(low, high, 3)
        texts = tick_texts(values, size=self.panel.is_of_sizes)
        left = max((len(text) for text in texts), default=1) + 1
        inner = width - left - 1
        canvas = Canvas(inner, rows, ascii_only=self.look.ascii_only)
        wide = (self.high - self.low) or 1.0
        for line in self.lines:
            thin = line.thinned(canvas.columns)
            with np.errstate(over="ignore", invalid="ignore"):
                canvas.line((thin.x - self.low) / wide, (thin.values - low) / (high - low))
        signs, styles = canvas.cells()
        self._draw_limits(signs, styles, low, high)
        self._draw_marks(signs, styles)
        labels = {self._row(value, low, high, rows): text for value, text in zip(values, texts, strict=True)}
        drawn = [self._title(width)]
        for at, (text, spans) in enumerate(zip(_texts(signs), _spans(styles), strict=True)):
            label = labels.get(at, "").rjust(left)
            edge = self.look.pick("┤" if at in labels else "│", "+" if at in labels else "|")
            ground = len(label + edge)
            moved = [Span(ground + start, ground + end, style) for start, end, style in spans]
            drawn.append(Text(label + edge + text, spans=[Span(0, ground, "dim"), *moved]))
        return [*drawn, *self._x_axis(left, inner, width)]

    @staticmethod
    def _row(value: float, low: float, high: float, rows: int) -> int:
        dots = 4 * rows - 1  # as the canvas has it, also of fewer dots
        return min(rows - 1, max(0, (dots - round((value - low) / (high - low) * dots)) // 4))

    def _draw_limits(
        self, signs: NDArray[np.uint32], styles: NDArray[np.int64], low: float, high: float
    ) -> None:
        for _, value in self.limits:
            if low <= value <= high:
                row = self._row(value, low, high, len(signs))
                free = np.flatnonzero(signs[row, ::2] == ord(" ")) * 2
                signs[row, free] = ord(self.look.pick("╌", "-"))
                styles[row, free] = _STYLES.index(LIMIT)

    def _draw_marks(self, signs: NDArray[np.uint32], styles: NDArray[np.int64]) -> None:
        """NaN along the upper edge, findings along the lower one."""
        wide = (self.high - self.low) or 1.0
        width = int(signs.shape[1])

        def column(place: float) -> int:
            return min(width - 1, max(0, int((place - self.low) / wide * width)))

        for line in self.lines:
            odd = line.x[~np.isfinite(line.values)]
            for at in {column(x) for x in odd[np.isfinite(odd)].tolist()}:
                signs[0, at], styles[0, at] = ord(self.look.nonfinite), _STYLES.index(_ODD)
        for place, finding in self.marks():
            style = LEVELS.get(finding.level, LEVELS["WARNING"])
            at = column(place)
            signs[-1, at], styles[-1, at] = ord(self.look.finding), _STYLES.index(style)

    def _title(self, width: int) -> Text:
        unit = f" ({self.panel.unit})" if self.panel.unit else ""
        title = Text(self.look.plain(printable_line(self.panel.heading) + unit), style="bold")
        is_tight = width < _TIGHT * max(1, len(self.lines))
        for at, line in enumerate(self.lines):
            title.append(" " if is_tight else "  ").append_text(self._legend(at, line, is_tight=is_tight))
        if self.left_out:
            title.append(f"  +{self.left_out} more", style="dim")
        for name, value in self.limits:
            title.append(f"  {self.look.pick('╌', '-')} {printable_line(name)} {number(value)}", style=LIMIT)
        if any(not np.isfinite(line.values).all() for line in self.lines):
            title.append(f"  {self.look.nonfinite} NaN/Inf", style=_ODD)
        return self.look.cut(title, width)

    def _legend(self, at: int, line: Line, *, is_tight: bool) -> Text:
        known = self.view.statistics.get(line.series)
        last = self.look.plain(value_text(line.series.metric, known.last)) if known is not None else ""
        if known is not None and is_tight and len(last) > len(f"{known.last:.3g}"):
            last = f"{known.last:.3g}"
        sign = self.look.pick("━", ASCII_SIGNS[at])
        name = printable_line(line.label) if is_named(line) else ""
        if is_tight and name == VALIDATION:
            name = "val"
        return Text(" ".join(part for part in (sign, name, last) if part), style=LINES[at])

    def _x_axis(self, left: int, inner: int, width: int) -> list[Text]:
        name = {Axis.STEP: "step", Axis.EPOCH: "epoch", Axis.TIME: "time"}[self.axis]
        room = max(1, inner // 10)
        values = ticks(
            self.low, self.high, room, whole=self.axis is Axis.STEP, seconds=self.axis is Axis.TIME
        )
        texts = [clock_text(v) for v in values] if self.axis is Axis.TIME else tick_texts(values)
        wide = (self.high - self.low) or 1.0
        edge = [self.look.pick("─", "-")] * inner
        labels = [" "] * (left + 1 + inner)
        reserved = len(labels) - len(name) - 1
        end = -1
        for place, text in zip(values, texts, strict=True):
            column = min(inner - 1, int((place - self.low) / wide * inner))
            start = max(0, left + 1 + column - len(text) // 2)
            if start <= end or start + len(text) > reserved:
                continue
            edge[column] = self.look.pick("┬", "+")
            labels[start : start + len(text)] = text
            end = start + len(text)
        labels[reserved + 1 :] = name
        corner = " " * left + self.look.pick("└", "+")
        return [Text(corner + "".join(edge), style="dim"), Text("".join(labels)[:width], style="dim")]

    def _small(self, width: int, height: int) -> list[Text]:
        """Where there is no room for axes, or nothing to draw."""
        drawn = [self._title(width)]
        if self.lines and height > 1:
            line = self.lines[0]
            text = sparkline(line.values, width, ascii_only=self.look.ascii_only)
            drawn.append(Text(text, style=LINES[0]))
        return (drawn + [Text()] * height)[:height]


def _texts(signs: NDArray[np.uint32]) -> list[str]:
    """Each row of signs as a text."""
    whole, width = signs.tobytes().decode("utf-32-le"), signs.shape[1]
    return [whole[start : start + width] for start in range(0, len(whole), width)]


def _spans(styles: NDArray[np.int64]) -> list[list[tuple[int, int, str]]]:
    """Of each row the stretches of one style: each costs, here and on the screen."""
    height, width = styles.shape
    spans: list[list[tuple[int, int, str]]] = [[] for _ in range(height)]
    changed = np.ones((height, width), dtype=bool)
    changed[:, 1:] = styles[:, 1:] != styles[:, :-1]
    starts = np.flatnonzero(changed)
    ends = np.append(starts[1:], height * width)
    each = styles.ravel()[starts]
    kept = each >= 0
    for start, end, style in zip(*(part[kept].tolist() for part in (starts, ends, each)), strict=True):
        row = start // width
        spans[row].append((start - row * width, end - row * width, _STYLES[style]))
    return spans


def is_named(line: Line) -> bool:
    """Whether a curve has a name beside its metric's."""
    return line.label not in (line.series.metric, known_as(line.series.metric)[0])


def span_of(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """The least and the greatest finite number; 0 and 1 where there is none."""
    low, high = math.inf, -math.inf
    for part in parts:
        finite = part[np.isfinite(part)]
        if len(finite):
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    if low > high:
        return 0.0, 1.0
    if not math.isfinite(high - low):  # from -1e308 to 1e308
        return max(low, -8e307), min(high, 8e307)
    return low, high


def place_of(finding: Finding, lines: Sequence[Line], view: RunView, axis: Axis) -> float | None:
    """Where a finding is on the axis: at the sample it was found at."""
    for line in lines:
        rows = view.curves[line.series]
        if not len(line.x):
            continue
        if finding.step is not None and line.series in view.stepped:
            if axis is Axis.STEP:
                return float(finding.step)
            at = int(np.searchsorted(rows.step, finding.step))
        else:  # it is told of up to a heartbeat after its sample
            at = int(np.searchsorted(rows.time_ns, round(finding.at.timestamp() * 1e9)))
        at = min(at, len(rows.time_ns) - 1)  # in the whole curve: the line may be a part of it
        return float(Places(view, axis).of(line.series, rows.take(slice(at, at + 1)))[0])
    return None
