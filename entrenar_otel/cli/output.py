"""Output: all that the command prints, to stdout and stderr, without what steers a terminal.

Names, tags, reasons and errors come from training scripts, and from lakes of other people. Whatever prints
them goes through here: `Console` for tables, `echo` for lines and exports, `print_json` for JSON. Only
what `--output` writes into a file is as it was recorded.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from entrenar_otel.console import write
from entrenar_otel.redact import printable_json, printable_text

#: Columns of what no terminal shows, and nobody gave another width for.
_PIPED_COLUMNS = 120


class Console(rich.console.Console):
    """Rich's console, whose styles are the only escape sequences that it prints."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if "width" not in settings and not self.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
            self.width = _PIPED_COLUMNS

    def on_broken_pipe(self) -> NoReturn:
        """Nobody reads on, as after `| head -1`: told as by every other write, not by a code of its own."""
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable; their texts are printable."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text.isprintable() else Segment(printable_text(text), style)


#: What stands for our own signs where the terminal's encoding has none of them.
_PLAIN = str.maketrans(
    {"✓": "+", "✗": "x", "–": "-", "—": "-", "…": "...", "·": ".", "━": "=", "─": "-", "│": "|", "→": "->"}
    | {"×": "x", "≥": ">=", "≤": "<=", "µ": "u", "’": "'", "▏": "|", "█": "#", "◆": "*", "▸": ">"}
    | {"├": "|", "└": "`", **dict(zip("▁▂▃▄▅▆▇", "_.-=+*%", strict=True))}
)


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler of encodings: another sign, or the escape of it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode(error.encoding, "backslashreplace"), error.end


codecs.register_error("entrenar.plain", _plain)


def make_printable() -> None:
    """Let stdout and stderr print every text in whatever encoding: with another sign where one is missing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # None, closed, or of another make
            stream.reconfigure(errors="entrenar.plain")  # type: ignore[union-attr]


def end_unread() -> NoReturn:
    """End as a program does that SIGPIPE ends: nobody reads on, which is no fault."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(141)


def echo(text: str, *, end: str = "\n", for_machines: bool = False) -> None:
    """Print lines on stdout, in UTF-8 whatever the locale where they are for machines. Raises OSError."""
    if for_machines:
        with contextlib.suppress(AttributeError, ValueError):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout.write(printable_text(text) + end)
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print lines on stderr, if that is possible."""
    write(sys.stderr, printable_text(text) + "\n")


def print_error(error: Exception) -> None:
    """Print an error on stderr, in red where there are colours, if that is possible."""
    try:
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"[red]error:[/red] {escape(str(error))}")
    except Exception:
        complain(f"error: {error}")


def print_json(value: Any) -> None:
    """Print a value as strict JSON, which has no NaN and no Infinity."""
    from entrenar_processors.plain import plain

    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    echo(printable_json(text), for_machines=True)
