"""Terminal: the application that shows runs once a second; it reads beside that, so keys always answer."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Protocol

from entrenar_processors.extras import MissingExtra
from rich.style import Style
from rich.text import Text

from entrenar_otel.console import logger
from entrenar_otel.errors import ConfigError
from entrenar_otel.redact import printable_line
from entrenar_otel.views.chart import Window
from entrenar_otel.views.frame import Choice, frame
from entrenar_otel.views.look import Look
from entrenar_otel.views.model import RunView, panels_of

try:
    from textual.app import App, ComposeResult
    from textual.binding import Binding, BindingType
    from textual.events import Resize
    from textual.geometry import Region, Size
    from textual.strip import Strip
    from textual.widget import Widget
    from textual.widgets import Footer
except ImportError:
    raise MissingExtra("entrenar-otel watch", "textual", "view") from None

REFRESH_SECONDS = 1.0


class Watched(Protocol):
    """One run to be watched."""

    @property
    def run_id(self) -> str:
        """Its id."""

    def view(self) -> RunView:
        """The run as it is now."""

    def choose_rank(self, rank: int) -> None:
        """Show this rank from the next view on."""


class FrameWidget(Widget):
    """The frame of one run, at whatever size. Only the lines that changed are sent to the terminal."""

    DEFAULT_CSS = "FrameWidget { height: 1fr; width: 1fr; }"

    def __init__(self, look: Look) -> None:
        super().__init__()
        self._look = look
        self.shown: RunView | None = None
        self.choice = Choice()
        self.note = "reading"
        self._drawn: list[Text] = []
        self._strips: list[Strip] = []
        self._drawn_size: Size | None = None

    def redraw(self) -> None:
        """Show what has become of the view, the choice and the note."""
        before, size = self._drawn, self._drawn_size
        self._draw()
        if size != self.size or len(before) != len(self._drawn):
            self.refresh()
        else:
            pairs = enumerate(zip(self._drawn, before, strict=True))
            changed = [Region(0, at, self.size.width, 1) for at, pair in pairs if not _is_same(*pair)]
            if changed:
                self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """One line; Textual asks for it when it draws."""
        if self._drawn_size != self.size:
            self._draw()
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def _draw(self) -> None:
        width, height = self.size
        if self.shown is None:
            note = self._look.plain(printable_line(self.note))[: max(1, width)]
            lines = self._look.shown([Text(note, style="dim")])
        else:
            lines = frame(self.shown, width, max(1, height), choice=self.choice, look=self._look)
            if self.note and len(lines) > 1:
                lines[1:2] = self._look.shown([Text(printable_line(self.note)[:width], style="yellow")])
        known = self._drawn if self._drawn_size == self.size else []
        base = self.rich_style
        self._strips = [
            self._strips[at] if at < len(known) and _is_same(line, known[at]) else self._strip(line, base)
            for at, line in enumerate(lines)
        ]
        self._drawn, self._drawn_size = lines, self.size

    def _strip(self, line: Text, base: Style) -> Strip:
        if not line.spans:  # `render` knows no style of the whole then
            line = Text().append_text(line)
        strip = Strip(line.render(self.app.console), line.cell_len)
        return strip.adjust_cell_length(self.size.width).apply_style(base)


def _is_same(line: Text, before: Text) -> bool:
    """Whether two lines look alike."""
    return line.plain == before.plain and line.style == before.style and line.spans == before.spans


class WatchApp(App[None]):
    """Shows runs, one at a time. `refresh_seconds` is how often it looks; 0 is only when asked (tests)."""

    TITLE = "entrenar-otel watch"
    #: The colours of the terminal itself, light or dark.
    CSS = """
    Screen, Footer, FooterKey, FooterKey .footer-key--key, FooterKey .footer-key--description {
        background: transparent; color: ansi_default;
    }
    FooterKey .footer-key--key { color: ansi_cyan; text-style: bold; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
        Binding("p,space", "hold", "pause", key_display="p"),
        Binding("m,tab", "metric(1)", "metric", key_display="m"),
        Binding("M,shift+tab", "metric(-1)", "metric", show=False),
        Binding("a,escape", "all", "all", key_display="a"),
        Binding("x", "axis", "x-axis"),
        Binding("plus,equals_sign,up", "zoom(0.5)", "zoom", key_display="+ -"),
        Binding("minus,down", "zoom(2.0)", "out", show=False),
        Binding("0", "whole", "whole", show=False),
        Binding("left", "move(-0.25)", "move", key_display="\u2190 \u2192"),
        Binding("right", "move(0.25)", "move", show=False),
        Binding("k", "rank(1)", "next rank"),
        Binding("r,n", "run(1)", "next run", key_display="r"),
    ]

    def __init__(self, runs: Sequence[Watched], look: Look, refresh_seconds: float = REFRESH_SECONDS) -> None:
        super().__init__(ansi_color=True)
        self._runs = runs
        self._at = 0
        self._look = look
        self._refresh_seconds = refresh_seconds
        self._reading = threading.Lock()

    def compose(self) -> ComposeResult:
        """The frame, and the keys below it."""
        yield FrameWidget(self._look)
        yield Footer(compact=True, show_command_palette=False)

    @property
    def frame_widget(self) -> FrameWidget:
        """What shows the run."""
        return self.query_one(FrameWidget)

    def on_mount(self) -> None:
        """Look now, and then once a second."""
        self.look()
        if self._refresh_seconds:
            self.set_interval(self._refresh_seconds, self.look)

    def on_resize(self, event: Resize) -> None:
        """A footer takes no line of a terminal that has few."""
        self.query_one(Footer).display = event.size.height >= 10  # `self.size` is still the one before

    def look(self) -> None:
        """Read what is new, unless the display is held or is being read for."""
        if not self.frame_widget.choice.is_held and self._reading.acquire(blocking=False):
            # a daemon: a lake that hangs keeps nobody from leaving
            threading.Thread(target=self._read, args=(self._at,), name="entrenar-watch", daemon=True).start()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key has a meaning now."""
        if action == "rank":
            shown = self.frame_widget.shown
            return shown is not None and shown.ranks > 1
        return action != "run" or len(self._runs) > 1

    def get_key_display(self, binding: Binding) -> str:
        """How the line of keys shows one."""
        return self._look.plain(super().get_key_display(binding))

    def _read(self, at: int) -> None:
        try:
            shown, note = self._runs[at].view(), ""
        except Exception as error:  # a lake that is away: the last view stays, and the next look tries again
            shown, note = None, str(error) or type(error).__name__
        self._reading.release()
        with contextlib.suppress(RuntimeError):  # the application has ended meanwhile
            self.call_from_thread(self._show, at, shown, note)

    def _show(self, at: int, shown: RunView | None, note: str) -> None:
        if at != self._at:
            self.look()  # another run was chosen meanwhile
        else:
            widget = self.frame_widget
            is_same = note == widget.note and _is_over(widget.shown, shown)
            before = widget.shown
            widget.shown = shown or widget.shown
            if shown is not None and widget.choice.axis not in shown.axes:  # that of the run before
                widget.choice = widget.choice.next_axis(shown.axes)
            widget.note = note
            if not is_same:
                widget.redraw()
            if before is None or (shown is not None and before.ranks != shown.ranks):
                self.refresh_bindings()

    # -- keys -----------------------------------------------------------------------------------

    def _choose(self, change: Callable[[Choice], Choice]) -> None:
        widget = self.frame_widget
        widget.choice = change(widget.choice)
        widget.redraw()

    def action_hold(self) -> None:
        """Hold the display, or let it go on."""
        self._choose(lambda choice: replace(choice, is_held=not choice.is_held))
        self.look()

    def action_metric(self, by: int) -> None:
        """Show the next metric alone."""
        shown = self.frame_widget.shown
        count = len(panels_of(shown, machine=True)) if shown is not None else 0
        if count:
            now = self.frame_widget.choice.panel
            first = 0 if by > 0 else count - 1
            self._choose(lambda choice: replace(choice, panel=first if now is None else (now + by) % count))

    def action_all(self) -> None:
        """Show several metrics again."""
        self._choose(lambda choice: replace(choice, panel=None))

    def action_axis(self) -> None:
        """The next x-axis: step, epoch (where they were reported), time."""
        shown = self.frame_widget.shown
        if shown is not None:
            self._choose(lambda choice: choice.next_axis(shown.axes))

    def action_zoom(self, factor: float) -> None:
        """A shorter or longer part of the x-axis; what is newest stays in sight."""
        self._choose(lambda choice: replace(choice, window=choice.window.zoomed(factor)))

    def action_whole(self) -> None:
        """All of the x-axis."""
        self._choose(lambda choice: replace(choice, window=Window()))

    def action_move(self, share: float) -> None:
        """Another part of the x-axis."""
        self._choose(lambda choice: replace(choice, window=choice.window.moved(share)))

    def action_rank(self, by: int) -> None:
        """The next rank."""
        shown = self.frame_widget.shown
        if shown is not None and (known := shown.known_ranks):
            at = known.index(shown.rank) if shown.rank in known else -1
            self._runs[self._at].choose_rank(known[(at + by) % len(known)])
            self.frame_widget.note = "reading"
            self.frame_widget.redraw()
            self.look()

    def action_run(self, by: int) -> None:
        """The next run."""
        self._at = (self._at + by) % len(self._runs)
        self.frame_widget.shown, self.frame_widget.note = None, "reading"
        self._choose(lambda choice: Choice(axis=choice.axis))
        self.look()


#: What a view has of samples; of a run that has ended they are the same object as long as none came.
_OF_SAMPLES = {"curves", "coarse", "statistics"}
_FACTS = tuple(field.name for field in fields(RunView) if field.name not in _OF_SAMPLES)


def _is_over(before: RunView | None, now: RunView | None) -> bool:
    """Whether a run has ended, and nothing is new since the last look: then nothing is drawn again."""
    if before is None or now is None or now.is_going:
        return False
    if before.curves.keys() != now.curves.keys():
        return False
    same = all(getattr(before, name) == getattr(now, name) for name in _FACTS)
    return same and all(before.curves[series] is rows for series, rows in now.curves.items())


def show(runs: Sequence[Watched], look: Look, *, colours: bool = True) -> None:
    """Watch runs until the person has seen enough. Raises ConfigError where there is no terminal."""
    import sys

    # stderr too: Textual draws there
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise ConfigError("watch needs a terminal; for a pipe or a log: entrenar-otel watch --once")
    if (term := os.environ.get("TERM", "")) in ("dumb", "unknown"):
        raise ConfigError(
            f"a terminal that says TERM={term} cannot be drawn on; one frame: entrenar-otel watch --once"
        )
    if not colours:
        os.environ["NO_COLOR"] = "1"  # of this process, which does nothing else: Textual asks nobody but it
    with _kept_warnings() as warnings:
        WatchApp(runs, look).run(mouse=False)  # so that text can be selected and copied
    for line in warnings:
        logger.warning("%s", line)


@contextlib.contextmanager
def _kept_warnings() -> Iterator[list[str]]:
    """What is logged meanwhile: on the screen it would spoil the picture, so it is said afterwards."""
    kept: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and record.getMessage() not in kept[-100:]:
                kept.append(record.getMessage())

    root: Any = logging.root
    before, root.handlers = root.handlers, [Keep()]
    try:
        yield kept
    finally:
        root.handlers = before
