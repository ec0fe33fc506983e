"""Lines: on which line of a TOML text each key stands, for messages; tomllib does not say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Path = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")


def lines_of(text: str, document: Mapping[str, Any]) -> dict[Path, int]:
    """The line, from 1, of every key, table and list entry; `document` is what tomllib made of `text`.

    Empty unless the two agree on every key: no line is better than a wrong one.

    >>> text = "[monitor]\\nlake = 'l'\\n\\n[[assertion]]\\nname = 'a'"
    >>> lines_of(text, tomllib.loads(text))[("assertion", 0, "name")]
    5
    """
    try:
        lines = _Scanner(text.replace("\r\n", "\n")).scan()
        return lines if lines.keys() == set(_paths(document, ())) else {}
    except (IndexError, ValueError, RecursionError):
        return {}


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of this path, or of the innermost table around it whose line is known."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return None


def _paths(value: Any, at: Path) -> Iterator[Path]:
    if at:
        yield at
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _paths(inner, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _paths(inner, (*at, i))


class _Scanner:
    """Reads a text once from start to end; tomllib has accepted it, so nothing is checked again."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._counted = 0
        self._line = 1
        #: How many entries each array of tables has so far.
        self._entries: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_SPACE)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_SPACE)
        return self.lines

    def _header(self) -> Path:
        line = self._line_here()
        width = 2 if self.text.startswith("[[", self.at) else 1
        self.at += width
        path: Path = ()
        parts = self._key()
        for part in parts[:-1]:
            path = self._last_of((*path, part))
            self.lines.setdefault(path, line)
            if isinstance(path[-1], int):
                self.lines.setdefault(path[:-1], line)
        path = (*path, parts[-1])
        if width == 2:
            self.lines.setdefault(path, line)
            self._entries[path] = self._entries.get(path, 0) + 1
            path = self._last_of(path)
        self.lines[path] = line  # a header of its own is a better place than the header of a subtable
        self.at += width
        return path

    def _last_of(self, path: Path) -> Path:
        return (*path, self._entries[path] - 1) if path in self._entries else path

    def _pair(self, table: Path) -> None:
        line = self._line_here()
        path = table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _key(self) -> list[str]:
        parts = []
        while True:
            self._skip(_BLANK)
            if self.text[self.at] in "\"'":
                parts.append(str(tomllib.loads(f"k = {self._take(_STRING)}")["k"]))
            else:
                parts.append(self._take(_BARE_KEY))
            self._skip(_BLANK)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def _value(self, path: Path) -> None:
        opening = self.text[self.at]
        if opening in "\"'":
            self._take(_STRING)
        elif opening == "[":
            self._list(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            self._take(_BARE_VALUE)

    def _list(self, path: Path) -> None:
        self.at += 1
        entry = 0
        while True:
            self._skip(_SPACE)
            if self.text[self.at] == "]":
                break
            self.lines[(*path, entry)] = self._line_here()
            self._value((*path, entry))
            entry += 1
            self._skip(_SPACE)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        while True:
            self._skip(_SPACE)
            if self.text[self.at] == "}":
                break
            self._pair(path)
            self._skip(_SPACE)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"unexpected text at {self.at}")
        self.at = match.end()
        return match[0]

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line
