"""Frame: everything of one run on one screen, as lines of text; the terminal and `--once` show the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from entrenar_processors.budgets.verdicts import Outcome, shown
from entrenar_processors.durations import text_of
from entrenar_processors.metric_names import known_as
from entrenar_processors.samples import Series
from rich.cells import cell_len
from rich.text import Text

from entrenar_otel.redact import printable_line
from entrenar_otel.semconv import is_of_machine
from entrenar_otel.views.chart import Chart, Window
from entrenar_otel.views.data_wait import DataWait
from entrenar_otel.views.look import LEVELS, STATES, Look
from entrenar_otel.views.model import Axis, Panel, RunView, panels_of
from entrenar_otel.views.numbers import number, value_text

_GAP = 2
_TWO_COLUMNS = 76
#: A table of numbers is no narrower.
_TABLE = 24
#: Signs in height: of a chart where the page is as long as it likes, and the least of one on a screen.
_CHART, _LEAST_CHART = 11, 8
_MAX_PANELS = 6
#: Lines of a screen that has one for the data wait.
_DATA_WAIT = 14
_BAR = 20
#: Data of a run that goes on are old from here on.
_OLD_SECONDS = 30.0


_WHOLE = Window()


@dataclass(frozen=True)
class Choice:
    """What a person chose to see: the axis, the part of it, and the panel that has the screen for itself."""

    axis: Axis = Axis.STEP
    window: Window = _WHOLE
    #: Which panel is shown alone; None shows several.
    panel: int | None = None
    is_held: bool = False

    def next_axis(self, axes: Sequence[Axis] = tuple(Axis)) -> Choice:
        """The same over the next of these axes."""
        at = axes.index(self.axis) if self.axis in axes else -1
        return replace(self, axis=axes[(at + 1) % len(axes)], window=_WHOLE)


def frame(
    view: RunView, width: int, height: int | None = None, *, choice: Choice | None = None,
    look: Look | None = None, panels: Sequence[Panel] | None = None,
) -> list[Text]:  # fmt: skip
    """The lines of a frame, none wider than `width`; on a screen at most `height` of them."""
    choice, look = choice or Choice(), look or Look()
    panels = panels_of(view, machine=height is not None) if panels is None else panels
    width = max(8, width)
    head = [_first_line(view, width, look), _progress_line(view, width, look, choice)]
    if view.reason:
        head.append(look.cut(Text(look.plain(printable_line(view.reason)), style="yellow"), width))
    if view.data_wait is not None and (height is None or height >= _DATA_WAIT):
        head.append(look.cut(_data_wait_line(view.data_wait), width))
    if not panels:
        text = "no sample yet" if view.is_going else "no samples were recorded"
        return _fit([*head, Text(), Text(text, style="dim"), *_below(view, width, look, 8)], height, look)
    if height is None:
        shown_panels = panels[:_MAX_PANELS] if choice.panel is None else [panels[choice.panel % len(panels)]]
        drawn = [Chart(panel, view, choice.axis, choice.window, look) for panel in shown_panels]
        below = [*_below(view, width, look, 8), *_statistics(view, width, look, 20), *_of_machine(view, look)]
        return _fit([*head, Text(), *_grid(drawn, width, None), *below], None, look)
    below = _below(view, width, look, max(0, min(4, height // 8)))
    if len(head) + len(below) + 4 > height:
        below, head = [], head[: max(1, height - 3)]
    room = height - len(head) - len(below)
    statistics = _statistics(view, width, look, room - 24) if room > 30 else []
    room -= len(statistics)
    chosen = [panels[choice.panel % len(panels)]] if choice.panel is not None else list(panels)
    rows = max(1, min(3, room // _LEAST_CHART))
    per_row = 2 if width >= _TWO_COLUMNS and choice.panel is None else 1
    charts = [Chart(p, view, choice.axis, choice.window, look) for p in chosen[: rows * per_row]]
    return _fit([*head, *_grid(charts, width, room), *below, *statistics], height, look)


def _fit(lines: list[Text], height: int | None, look: Look) -> list[Text]:
    return look.shown(lines if height is None else lines[:height])


# -- the head ----------------------------------------------------------------------------------------


def _first_line(view: RunView, width: int, look: Look) -> Text:
    """Which run, its state, and how old what is shown is."""
    left = Text.assemble(
        (printable_line(view.run_id), "bold"), "  ", (view.state, f"bold {STATES.get(view.state, '')}")
    )
    facts = [printable_line(view.model)] if view.model else []
    if view.ranks > 1:
        facts.append(f"rank {view.rank} of {view.ranks}")
    if view.attempts > 1:
        facts.append(f"attempt {view.attempts}")
    if view.is_pruned:
        facts.append("pruned: means only")
    if view.dropped:
        facts.append(f"{view.dropped:,} samples dropped")
    for fact in facts:
        left.append(f"  {look.plain(fact)}", style="dim")
    right = _age(view, look)
    room = width - cell_len(right.plain) - 2
    if room < min(cell_len(left.plain), 12):
        return look.cut(left, width)
    look.cut(left, room)
    return left.append(" " * (width - cell_len(left.plain) - cell_len(right.plain))).append_text(right)


def _age(view: RunView, look: Look) -> Text:
    if view.age_seconds is None:
        took = f"took {text_of(view.seconds)}" if view.seconds is not None and not view.is_going else ""
        return Text(look.plain(took), style="dim")
    age = text_of(round(view.age_seconds)) if view.age_seconds >= 1 else "< 1 s"
    where = "" if view.is_live else f" from {printable_line(view.host)}" if view.host else " from the lake"
    is_old = view.age_seconds > _OLD_SECONDS
    return Text(f"data{where} {look.plain(age)} old", style="bold yellow" if is_old else "dim")


def _progress_line(view: RunView, width: int, look: Look, choice: Choice) -> Text:
    """How far it is: epoch, step, rate, time left."""
    progress = view.progress
    parts: list[str] = []
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch + 1}" + (f"/{progress.epochs}" if progress.epochs else ""))
    if progress.step is not None:
        parts.append(f"step {progress.step:,}" + (f"/{progress.steps:,}" if progress.steps else ""))
    if progress.steps_per_second is not None:
        parts.append(f"{progress.steps_per_second:,.3g} steps/s" if progress.steps_per_second < 1000
                     else f"{progress.steps_per_second:,.0f} steps/s")  # fmt: skip
    if progress.left_seconds is not None:
        parts.append(f"{text_of(round(progress.left_seconds))} left")
    if choice.is_held:
        parts.append("display paused")
    if not choice.window.is_whole:
        parts.append(f"zoom {1 / (choice.window.high - choice.window.low):,.0f}x")
    line = Text()
    if progress.done_ratio is not None and width >= 60:
        full = min(_BAR, round(progress.done_ratio * _BAR))
        line.append(look.pick("━", "#") * full, style="green")
        line.append(look.pick("─", "-") * (_BAR - full), style="dim").append(f" {progress.done_ratio:.0%}  ")
    if view.seconds is not None and view.is_going:
        parts.append(f"for {text_of(round(view.seconds))}")
    while len(parts) > 1 and cell_len(line.plain) + len(" · ".join(parts)) > width:
        parts.pop()
    return look.cut(line.append(look.plain(" · ".join(parts))), width)


def _data_wait_line(waited: DataWait) -> Text:
    """Which part of its steps' time the loop waits for data."""
    text = f"data wait {waited.ratio:.0%} of step time in the last {waited.steps} steps"
    if waited.epoch_ratio is not None:
        text += f", {waited.epoch_ratio:.0%} in the last whole epoch"
    return Text(text, style="bold yellow" if waited.is_much else "dim")


# -- the charts --------------------------------------------------------------------------------------


def _grid(charts: Sequence[Chart], width: int, room: int | None) -> list[Text]:
    """Charts side by side, two in a row where there is room."""
    per_row = 2 if width >= _TWO_COLUMNS and len(charts) > 1 else 1
    rows = [charts[at : at + per_row] for at in range(0, len(charts), per_row)]
    lines: list[Text] = []
    for at, row in enumerate(rows):
        height = _CHART if room is None else (room - len(lines)) // (len(rows) - at)
        each = (width - _GAP * (len(row) - 1)) // len(row) if len(row) > 1 or len(rows) == 1 else width
        blocks = [chart.draw(each, height) for chart in row]
        for pieces in zip(*blocks, strict=True):
            line = Text()
            for number_, piece in enumerate(pieces):
                if number_:
                    line.append(" " * (number_ * (each + _GAP) - cell_len(line.plain)))
                line.append_text(piece)
            lines.append(line)
        if room is None:
            lines.append(Text())
    return lines


# -- below them --------------------------------------------------------------------------------------


def _below(view: RunView, width: int, look: Look, limit: int) -> list[Text]:
    """What was found, newest first, and the budgets."""
    lines: list[Text] = []
    ordered = sorted(view.findings, key=lambda f: (f.state != "firing", -f.at.timestamp()))
    for finding in ordered[:limit]:
        line = Text(f"{look.finding} ", style=LEVELS.get(finding.level, "yellow"))
        line.append(finding.level.lower(), style=LEVELS.get(finding.level, "yellow"))
        line.append(f"  {finding.at:%H:%M:%S}  ", style="dim")
        line.append(look.plain(printable_line(finding.summary or finding.name)))
        if finding.step is not None:
            line.append(f"  step {finding.step:,}", style="dim")
        if finding.count > 1:
            line.append(f"  {finding.count:,} samples", style="dim")
        line.append(f"  {finding.state}", style="bold red" if finding.state == "firing" else "green")
        lines.append(look.cut(line, width))
    if len(ordered) > limit > 0:
        more = f"{len(ordered) - limit + 1} more findings" if limit > 1 else f"{len(ordered)} findings"
        lines[-1] = look.cut(Text(f"{more}: entrenar-otel alerts", style="dim"), width)
    if view.budgets and limit:
        lines.append(_budgets(view, width, look))
    return lines


def _budgets(view: RunView, width: int, look: Look) -> Text:
    counts = Counter(result.outcome for result in view.budgets)
    line = Text().append("budgets", style="dim")
    if passed := counts[Outcome.PASSED]:
        line.append(look.plain(f"  ✓ {passed} passed"), style="green")
    if unknown := counts[Outcome.NOT_MEASURED]:
        line.append(look.plain(f"  – {unknown} not measured"), style="dim")
    for result in view.budgets:
        if result.outcome is Outcome.VIOLATED:
            if result.value is None:  # a condition of the person's own has no one number
                told = f": {printable_line(result.message)}"
            else:
                told = f" {shown(result.type, result.value)} of {shown(result.type, result.limit)}"
            line.append(look.plain(f"  ✗ {printable_line(result.budget)}{told}"), style="bold red")
    return look.cut(line, width)


_COLUMNS = (
    ("last", 0),
    ("mean", 2),
    ("min", 1),
    ("max", 1),
    ("p50", 4),
    ("p99", 3),
    ("std", 5),
    ("count", 3),
)


def _of_machine(view: RunView, look: Look) -> list[Text]:
    """That there is more, where it is not drawn."""
    count = sum(is_of_machine(series.metric) for series in view.statistics)
    text = f"{count} of the machine: entrenar-otel show"
    return [Text(f"{look.pick('…', '...')} {text}", style="dim")] if count else []


def _statistics(view: RunView, width: int, look: Look, limit: int) -> list[Text]:
    """A table of numbers, with as many columns as fit."""
    if limit < 2 or width < _TABLE or not view.statistics:
        return []
    order = {panel.metric: at for at, panel in enumerate(panels_of(view))}
    chosen_series = [s for s in view.statistics if not is_of_machine(s.metric)]
    rows = sorted(chosen_series, key=lambda s: (order.get(known_as(s.metric)[0], len(order)), s))
    names = [look.plain(_name_of(series)) for series in rows[: limit - 1]]
    wide = min(max(6, *map(cell_len, names)), max(12, width // 3))
    texts = {
        column: [look.plain(_text_of(view, s, column)) for s in rows[: len(names)]] for column, _ in _COLUMNS
    }
    widths = {column: max(11, 2 + max(map(cell_len, texts[column]), default=0)) for column in texts}
    shown_columns: list[str] = []
    for column, _ in sorted(_COLUMNS, key=lambda c: c[1]):
        if wide + sum(widths[one] for one in (*shown_columns, column)) > width:
            break
        shown_columns.append(column)
    shown_columns.sort(key=list(texts).index)
    heads = (column.rjust(widths[column]) for column in shown_columns)
    lines = [Text("metric".ljust(wide) + "".join(heads), style="bold")]
    for at, name in enumerate(names):
        label = look.cut(Text(name), wide, pad=True)
        for column in shown_columns:
            label.append(texts[column][at].rjust(widths[column]))
        lines.append(label)
    left = len(rows) - len(names)
    if left > 0:
        lines[-1] = Text(look.pick("…", "...") + f" {left + 1} more: entrenar-otel show", style="dim")
    return lines


def _text_of(view: RunView, series: Series, column: str) -> str:
    value = getattr(view.statistics[series], column)
    return number(value) if column == "count" else value_text(series.metric, value)


def _name_of(series: Series) -> str:
    tags = " ".join(f"{key}={value}" for key, value in series.tags)
    return printable_line(f"{series.metric} {tags}".strip())
