"""Problems: everything that is wrong with a renacer.toml, one line each, for the person who wrote it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from entrenar_processors.config.lines import Path, line_of, lines_of
from entrenar_processors.config.messages import (
    Schema,
    described,
    key_text,
    kinds_of,
    like,
    node_at,
    quoted,
    shown,
)

#: A file longer than this is no settings file.
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where, what was expected, what was found, and what may help.

    >>> print(Problem("renacer.toml", 12, "monitor.lake", "text", "3"))
    renacer.toml:12: monitor.lake: expected text, found 3
    """

    file: str
    line: int | None
    key: str
    expected: str
    found: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        key = f"{self.key}: " if self.key else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}: {key}expected {self.expected}, found {self.found}{hint}"


class BadConfig(ValueError):
    """A renacer.toml that cannot be used; nothing of it is. `problems` has all that is wrong, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Unfit(ValueError):
    """Raised by validators that compare settings: what they expect, what they found, and at which key.

    Where `found` is empty, the value at the key is shown.
    """

    def __init__(self, expected: str, found: str, *at: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found
        self.at = at
        self.hint = hint


def read_toml(data: bytes, source: str) -> tuple[str, dict[str, Any]]:
    """The text of a file and what TOML makes of it. Raises BadConfig: too long, no UTF-8, no TOML."""
    if len(data) > MAX_BYTES:
        raise BadConfig([Problem(source, None, "", f"at most {MAX_BYTES:,} bytes", "a longer file")])
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else f"the byte 0x{data[error.start]:02x}"
        raise BadConfig([Problem(source, line, "", "text in UTF-8", found, "save it as UTF-8")]) from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([_syntax(text, str(error), source)]) from None
    except RecursionError:
        raise BadConfig([Problem(source, None, "", "TOML", "lists or tables nested too deeply")]) from None
    except (ValueError, OverflowError):  # tomllib leaves numbers and time zones that are too large to Python
        found = "a number or time that is too large"
        raise BadConfig([Problem(source, None, "", "TOML", found)]) from None


def _syntax(text: str, told: str, source: str) -> Problem:
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", told)
    what = told[: place.start()] if place else told
    what = what.replace("Cannot overwrite a value", "this key is there already")
    hint = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in what)
    if place is None or place[1] is None:
        last = max(1, text.count("\n") + (not text.endswith("\n")))
        return Problem(source, last, "", "TOML", "a mistake at the end of the file", hint)
    line = int(place[1])
    return Problem(source, line, "", "TOML", f"a mistake at column {place[2]}", hint)


def problems_of(
    error: ValidationError | None,
    document: Any,
    schema: Callable[[], Schema],
    source: str,
    text: str | None = None,
) -> list[Problem]:
    """All problems of a document, by line: what the models refuse, and what they cannot see.

    `schema` gives the models' JSON Schema; it and the lines of `text` are only looked at where something
    is wrong.
    """
    report = _Report(document, schema, source, text)
    found = [
        *report.misspelt_sections(),
        *report.names_of_python(),
        *report.duplicates("assertion"),
        *report.duplicates("monitor", "threshold"),
    ]
    if error is not None:
        told = (report.problem(one) for one in error.errors(include_url=False))
        found += (one for one in told if one is not None)
    return sorted(dict.fromkeys(found), key=lambda one: (one.line is None, one.line or 0))


class _Report:
    def __init__(self, document: Any, schema: Callable[[], Schema], source: str, text: str | None) -> None:
        self.document = document
        self.source = source
        self._schema = schema
        self._text = text

    @cached_property
    def schema(self) -> Schema:
        return self._schema()

    @cached_property
    def lines(self) -> Mapping[Path, int]:
        return {} if self._text is None else lines_of(self._text, self.document)

    def at(self, path: Path, expected: str, found: str, hint: str = "") -> Problem:
        key = key_text(path, self.document)
        return Problem(self.source, line_of(self.lines, path), key, expected, found, hint)

    def value(self, path: Path) -> Any:
        value = self.document
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def problem(self, error: Any) -> Problem | None:
        """One of pydantic's errors in our words; None for what is told otherwise."""
        kind, path = error["type"], self.path(error["loc"])
        own = error.get("ctx", {}).get("error")
        if isinstance(own, Unfit):
            path = (*path, *own.at)
            return self.at(path, own.expected, own.found or shown(self.value(path), path), own.hint)
        if not path and kind == "value_error":
            return None  # names that are there twice: see `duplicates`
        if kind == "extra_forbidden":
            return self.unknown_key(path)
        if path and path[-1] == "[key]":
            return self.at(path[:-2], f"keys that are {self.key_words(path[:-2])}", quoted(str(path[-2])))
        node = node_at(self.schema, path, self.document)
        if kind.startswith("union_tag") and node is not None:
            key, kinds = kinds_of(self.schema, node)
            value = self.value((*path, key))
            expected = "one of " + ", ".join(map(quoted, kinds))
            return self.at((*path, key), expected, shown(value, (*path, key)), like(value, kinds))
        if node is None:  # as good as impossible: every path of a model is in its schema
            return self.at(path, "another value", shown(self.value(path), path))
        expected = described(self.schema, node)
        if kind == "missing":
            return self.at(path, expected, "nothing")
        value = self.value(path)
        hint = like(value, node["enum"]) if "enum" in node else _brackets(path, node, value)
        if kind == "value_error":
            told = " ".join(str(own).split())[:200]
            hint = "" if told == f"expected {expected}" else told
        return self.at(path, expected, shown(value, path), hint)

    def path(self, loc: tuple[str | int, ...]) -> Path:
        """Pydantic's place without the kind of assertion that it puts in."""
        if len(loc) > 2 and loc[0] == "assertion" and isinstance(loc[1], int):
            return (*loc[:2], *loc[3:])
        return loc

    def key_words(self, path: Path) -> str:
        node = node_at(self.schema, path, self.document) or {}
        return described(self.schema, {"type": "string", **node.get("propertyNames", {"minLength": 1})})

    def unknown_key(self, path: Path) -> Problem:
        table = node_at(self.schema, path[:-1], self.document) or {}
        known = sorted(table.get("properties", {}))
        homes = [home for home, keys in self.homes() if path[-1] in keys and not _within(home, path)]
        hint = like(path[-1], known)
        if len(homes) == 1 and not hint:
            hint = f"it is a key of [{homes[0]}]"
        return self.at(path, f"one of the keys {', '.join(known)}", "an unknown key", hint)

    def homes(self) -> Iterator[tuple[str, set[str]]]:
        """The tables of `[monitor]` that are there once, and their keys."""
        monitor = node_at(self.schema, ("monitor",), None) or {}
        yield "monitor", set(monitor["properties"])
        for name in monitor["properties"]:
            inner = node_at(self.schema, ("monitor", name), None) or {}
            if "properties" in inner:
                yield f"monitor.{name}", set(inner["properties"])

    def misspelt_sections(self) -> Iterator[Problem]:
        """Sections of others are accepted, but not one that was probably meant to be ours."""
        if not isinstance(self.document, Mapping):
            return
        for name in self.document:
            for ours, written in (("assertion", "[[assertion]]"), ("monitor", "[monitor]")):
                if not isinstance(name, str) or name == ours or len(name) > 3 * len(ours):
                    continue
                if SequenceMatcher(None, name.casefold(), ours).ratio() > 0.8:
                    found = "a section that is spelt otherwise"
                    yield self.at((name,), written, found, f'did you mean "{ours}"?')

    def names_of_python(self) -> Iterator[Problem]:
        """`for_` is what our own code calls `for`."""
        rows = self.value(("monitor", "threshold"))
        for i, row in enumerate(rows if isinstance(rows, list) else []):
            if isinstance(row, Mapping) and "for_" in row:
                yield self.unknown_key(("monitor", "threshold", i, "for_"))

    def duplicates(self, *table: str) -> Iterator[Problem]:
        rows = self.value(table)
        first: dict[str, int] = {}
        for i, row in enumerate(rows if isinstance(rows, list | tuple) else []):
            name = row.get("name") if isinstance(row, Mapping) else None
            if not isinstance(name, str):
                continue
            if first.setdefault(name, i) != i:
                line = self.lines.get((*table, first[name], "name"))
                other = f"{'.'.join(table)}[{first[name]}]" + (f" on line {line}" if line else "")
                hint = f"{other} has it as well"
                yield self.at((*table, i, "name"), "a name that is there once", quoted(name), hint)


def _within(home: str, path: Path) -> bool:
    return home == ".".join(str(part) for part in path[:-1])


def _brackets(path: Path, node: Schema, value: Any) -> str:
    """What to write where one table stands for a list of them, or the other way round."""
    name = ".".join(part for part in path if isinstance(part, str))
    if node.get("type") == "array" and isinstance(value, Mapping):
        return f"write it with double brackets: [[{name}]]"
    if node.get("type") == "object" and isinstance(value, list) and value and isinstance(value[0], Mapping):
        return f"write it with single brackets: [{name}]"
    return ""
