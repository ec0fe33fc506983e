"""PNG: a run as a picture, by matplotlib: the panels of the terminal, for a paper, a ticket, an incident."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from entrenar_processors.durations import text_of
from entrenar_processors.extras import MissingExtra

from entrenar_otel.errors import ConfigError
from entrenar_otel.redact import printable_line
from entrenar_otel.views.look import DIM, INK, LINES, PAPER, STATE_COLOURS, run_colour
from entrenar_otel.views.model import Axis, Panel, RunView, panels_of, placed
from entrenar_otel.views.numbers import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What `save` writes, by the end of the file's name.
FORMATS = ("png", "svg", "pdf")
#: More panels than this are counted in the heading, where nobody chose them.
MAX_PANELS = 12
_DPI = 110
#: Of one panel among others, one alone, the heading, and what stands left and right of the panels, in inches.
_WIDE, _ALONE, _HIGH, _HEAD, _LEFT, _RIGHT = 5.6, 7.5, 2.75, 0.75, 0.85, 0.2
#: The two lines of the heading, in points; between the names of runs, and what "+12 more" takes, in inches.
_TITLE, _FACTS, _SPACE, _MORE = 14.0, 10.0, 0.3, 1.0
#: The longest name of a run among several, in signs.
_RUN = 32


class Head(NamedTuple):
    """What stands above the panels: a line, a line of facts, and the colour of that."""

    title: str
    facts: Sequence[str]
    colour: str


def save(
    view: RunView,
    path: str | os.PathLike[str],
    *,
    panels: Sequence[Panel] | None = None,
    axis: Axis = Axis.STEP,
) -> None:
    """Write a picture of a run. Raises MissingExtra without matplotlib, ConfigError, OSError."""
    place = Path(path)
    form = place.suffix.lower().lstrip(".")
    if form not in FORMATS:
        raise ConfigError(
            f"expected a picture's name that ends with .png, .svg or .pdf, got {os.fspath(path)!r}"
        )
    place.write_bytes(_in_form(draw(view, panels=panels, axis=axis), form))


def png_bytes(figure: Figure) -> bytes:
    """The content of a PNG file."""
    return _in_form(figure, "png")


def _in_form(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a sign that no font has becomes a box
        # the time of drawing is left out: the same run gives the same file
        figure.savefig(
            file,
            format=form,
            dpi=_DPI,
            facecolor=PAPER,
            transparent=False,
            metadata={"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[form],
        )
    return file.getvalue()


def draw(
    view: RunView,
    *,
    panels: Sequence[Panel] | None = None,
    axis: Axis = Axis.STEP,
    head: Head | None = None,
) -> Figure:
    """The figure; it belongs to no window and to no `pyplot`, so it is drawn on any thread.

    Raises MissingExtra without matplotlib, ConfigError where two panels have the same place.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a picture of a run", "matplotlib", "view") from None
    from entrenar_otel.views.axes import draw_panel

    chosen = list(panels_of(view)[:MAX_PANELS] if panels is None else panels)
    left_out = 0 if panels is not None else max(0, len(panels_of(view)) - MAX_PANELS)
    places = placed(chosen)
    columns = 1 + max((column for _, column, _ in places), default=0)
    rows = 1 + max((row for row, _, _ in places), default=0)
    figure = Figure(
        figsize=(columns * _WIDE if columns > 1 else _ALONE, rows * _HIGH + _HEAD), facecolor=PAPER
    )
    figure.set_layout_engine("none")
    FigureCanvasAgg(figure)
    wide, high = figure.get_size_inches()
    figure.subplots_adjust(
        left=_LEFT / wide,
        right=1 - _RIGHT / wide,
        top=1 - (_HEAD + 0.3) / high,
        bottom=0.5 / high,
        wspace=0.22,
        hspace=0.5,
    )
    grid = figure.add_gridspec(rows, columns)
    for row, column, panel in places:
        draw_panel(figure, grid[row, column], panel, view, axis)
    _draw_head(figure, head or _head_of(view, left_out))
    _draw_runs(figure, view.runs)
    if not places:
        figure.text(0.5, 0.35, "no samples were recorded", ha="center", color=DIM, usetex=False)
    return figure


def _head_of(view: RunView, left_out: int) -> Head:
    if view.runs:
        return Head(f"{len(view.runs)} runs", (), DIM)
    return Head(
        view.run_id, list(_facts(view, left_out)), STATE_COLOURS.get(view.state, STATE_COLOURS["unknown"])
    )


def _facts(view: RunView, left_out: int) -> Iterator[str]:
    progress = view.progress
    yield view.state
    yield view.model
    if progress.epoch is not None:
        yield f"epoch {progress.epoch + 1}" + (f" of {progress.epochs}" if progress.epochs else "")
    if progress.step is not None:
        yield f"step {progress.step:,}"
    if view.seconds is not None:
        yield f"{'for' if view.is_going else 'took'} {text_of(view.seconds)}"
    if view.findings:
        yield f"{len(view.findings)} finding" + ("s" if len(view.findings) > 1 else "")
    if view.is_pruned:
        yield "pruned: means only"
    if left_out:
        yield f"{left_out} more metrics"


def _draw_head(figure: Figure, head: Head) -> None:
    from entrenar_otel.views.lettering import Lettering

    wide, top = figure.get_size_inches()
    left, room = 0.2 / wide, wide - 0.4
    title = Lettering(figure, _TITLE, "bold").fitted(printable_line(head.title), room)
    _text(figure, left, 1 - 0.2 / top, title, size=_TITLE, weight="bold", color=INK)
    facts = "  ·  ".join(printable_line(fact) for fact in head.facts if fact)
    facts = Lettering(figure, _FACTS).fitted(facts, room)
    _text(figure, left, 1 - 0.5 / top, facts, size=_FACTS, color=head.colour)


def _draw_runs(figure: Figure, names: Sequence[str]) -> None:
    """Which run has which colour, as far as there is room for it in the heading's second line."""
    from entrenar_otel.views.lettering import Lettering

    wide, top = figure.get_size_inches()
    lettering = Lettering(figure, _FACTS, "bold")
    x = 0.2
    for at, name in enumerate(names):
        text = f"━ {cut(printable_line(name), _RUN)}"
        room = lettering.inches(text)
        is_last = at == len(names) - 1
        colour = run_colour(at)
        if at and (at >= len(LINES) or x + room > wide - 0.2 - (0 if is_last else _MORE)):
            colour = colour if at >= len(LINES) else DIM
            _text(figure, x / wide, 1 - 0.5 / top, f"+{len(names) - at} more", size=_FACTS, color=colour)
            return
        _text(figure, x / wide, 1 - 0.5 / top, text, size=_FACTS, weight="bold", color=colour)
        x += room + _SPACE


def _text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    drawn = figure.text(x, y, text, va="top", usetex=False, **style)
    drawn.set_parse_math(False)  # a $ in a name is a $
