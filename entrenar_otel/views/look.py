"""Look: colours and signs of all views, for dark and light grounds, colour-blind people, and none at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

#: The state of a run → its style.
STATES = {
    "running": "cyan",
    "paused": "magenta",
    "completed": "green",
    "stopped": "yellow",
    "crashed": "red",
    "unknown": "yellow",
}
#: Lines in their order: training, validation, and more; after Okabe and Ito (2008).
LINES = ("#2a8fd8", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#7b7fd1", "#8a8a8a", "#a722e5")
#: Severity of a finding → its style, in a terminal.
LEVELS = {"INFO": "cyan", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}
#: The same, in a picture.
LEVEL_COLOURS = {"INFO": "#56b4e9", "WARNING": "#b07a00", "ERROR": "#c62828", "CRITICAL": "#c62828"}
LIMIT = "#b03060"
NONFINITE = "#c62828"
#: Of pictures, which are white whatever they are put on: the state of a run, texts, lines, the ground.
STATE_COLOURS = {
    "running": "#1a7f8e",
    "paused": "#8e24aa",
    "completed": "#2e7d32",
    "stopped": "#8a6d00",
    "crashed": "#c62828",
    "unknown": "#8a6d00",
}
INK, DIM, RULE, GRID, PAPER = "#222222", "#666666", "#999999", "#e6e6e6", "#ffffff"


def run_colour(at: int) -> str:
    """The colour of a run among several, by its number: those for whom none is left share one."""
    return LINES[at] if at < len(LINES) else INK


#: Stands for what was cut off.
_CUT = "..."


@dataclass(frozen=True)
class Look:
    """What the terminal can show: other signs than ASCII, or none."""

    ascii_only: bool = False

    def pick(self, sign: str, plain: str) -> str:
        """The sign, or what stands for it."""
        return plain if self.ascii_only else sign

    @property
    def finding(self) -> str:
        """Marks a finding in a curve."""
        return self.pick("▲", "^")

    @property
    def nonfinite(self) -> str:
        """Marks a value that is NaN or infinite."""
        return self.pick("×", "!")

    def plain(self, text: str) -> str:
        """A text of our own in signs that are there."""
        return text.translate(_PLAIN) if self.ascii_only else text

    def cut(self, text: Text, width: int, *, pad: bool = False) -> Text:
        """The text itself, no wider than `width`; what was cut says so, or a number would be another one."""
        if self.ascii_only and cell_len(text.plain) > width > len(_CUT):
            text.truncate(width - len(_CUT), overflow="crop")
            return text.append(_CUT)
        text.truncate(width, overflow="crop" if self.ascii_only else "ellipsis", pad=pad)
        return text

    def shown(self, lines: Iterable[Text]) -> list[Text]:
        """Lines with texts from outside: `?` for each of their signs that is not there."""
        lines = list(lines)
        for line in lines if self.ascii_only else ():
            if not line.plain.isascii():
                line.plain = line.plain.encode("ascii", "replace").decode()
        return lines


_PLAIN = str.maketrans(
    {
        "←": "<",
        "·": "-",
        "–": "-",
        "…": "...",
        "✗": "x",
        "✓": "+",
        "µ": "u",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
        "×": "x",
        "°": "",
    }
)
