"""Problems: everything that is wrong with a renacer.toml, one line each, for whoever wrote it."""

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

#: A larger file is no settings file.
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it is, what was expected, what was found, and a hint.

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
    """A renacer.toml is invalid, and nothing of it is used. `problems` are all its mistakes, by line."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Unfit(ValueError):
    """Raised by validators: what they expected, what they found, and at which key.

    Where `found` is empty, the message shows the value at the key.
    """

    def __init__(self, expected: str, found: str, *at: str, hint: str = "") -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected = expected
        self.found = found
        self.at = at
        self.hint = hint


def read_toml(data: bytes, source: str) -> tuple[str, dict[str, Any]]:
    """The text of a file and the document in it. Raises BadConfig: too large, not UTF-8, not TOML."""
    if len(data) > MAX_BYTES:
        raise BadConfig([Problem(source, None, "", f"at most {MAX_BYTES:,} bytes", "a larger file")])
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
    except (ValueError, OverflowError):  # from Python itself, for too large numbers and time zones
        found = "a number or time that is too large"
        raise BadConfig([Problem(source, None, "", "TOML", found)]) from None


def _syntax(text: str, error: str, source: str) -> Problem:
    """A problem from the text of tomllib's error, which has the place at its end."""
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", error)
    what = error[: place.start()] if place else error
    what = what.replace("Cannot overwrite a value", "this key is already defined")
    hint = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in what)
    if place is None or place[1] is None:
        last = max(1, text.count("\n") + (not text.endswith("\n")))
        return Problem(source, last, "", "TOML", "a syntax error at the end of the file", hint)
    line = int(place[1])
    return Problem(source, line, "", "TOML", f"a syntax error at column {place[2]}", hint)


def problems_of(
    error: ValidationError | None,
    document: Any,
    schema: Callable[[], Schema],
    source: str,
    text: str | None = None,
) -> list[Problem]:
    """All problems of a document, by line: what the models refused, and what they do not see.

    `schema` gives the models' JSON Schema; it and the lines of `text` are computed only where there is a
    problem.
    """
    report = _Report(document, schema, source, text)
    problems = [
        *report.misspelt_sections(),
        *report.names_of_python(),
        *report.duplicates("assertion"),
        *report.duplicates("monitor", "threshold"),
    ]
    if error is not None:
        refused = (report.problem(details) for details in error.errors(include_url=False))
        problems += (problem for problem in refused if problem is not None)
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line is None, problem.line or 0))


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
        """One of pydantic's errors in our words; None for what another method reports."""
        kind, path = error["type"], self.path(error["loc"])
        own = error.get("ctx", {}).get("error")
        if isinstance(own, Unfit):
            path = (*path, *own.at)
            return self.at(path, own.expected, own.found or shown(self.value(path), path), own.hint)
        if not path and kind == "value_error":
            return None  # duplicate names: see `duplicates`
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
        if node is None:  # every path of a model is in its schema, so hardly ever
            return self.at(path, "another value", shown(self.value(path), path))
        expected = described(self.schema, node)
        if kind == "missing":
            return self.at(path, expected, "nothing")
        value = self.value(path)
        hint = like(value, node["enum"]) if "enum" in node else _brackets(path, node, value)
        if kind == "value_error":
            refusal = " ".join(str(own).split())[:200]
            hint = "" if refusal == f"expected {expected}" else refusal
        return self.at(path, expected, shown(value, path), hint)

    def path(self, loc: tuple[str | int, ...]) -> Path:
        """Pydantic's path without the kind of assertion that it inserts."""
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
        """The tables of `[monitor]` that are not arrays, and their keys."""
        monitor = node_at(self.schema, ("monitor",), None) or {}
        yield "monitor", set(monitor["properties"])
        for name in monitor["properties"]:
            inner = node_at(self.schema, ("monitor", name), None) or {}
            if "properties" in inner:
                yield f"monitor.{name}", set(inner["properties"])

    def misspelt_sections(self) -> Iterator[Problem]:
        """Unknown sections are accepted, but not one that is probably ours, misspelt."""
        if not isinstance(self.document, Mapping):
            return
        for name in self.document:
            for ours, written in (("assertion", "[[assertion]]"), ("monitor", "[monitor]")):
                if not isinstance(name, str) or name == ours or len(name) > 3 * len(ours):
                    continue
                if SequenceMatcher(None, name.casefold(), ours).ratio() > 0.8:
                    found = "a section with a similar name"
                    yield self.at((name,), written, found, f'did you mean "{ours}"?')

    def names_of_python(self) -> Iterator[Problem]:
        """`for_` is the name of `for` in our own code only."""
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
                hint = f"{other} has the same name"
                yield self.at((*table, i, "name"), "a unique name", quoted(name), hint)


def _within(home: str, path: Path) -> bool:
    return home == ".".join(str(part) for part in path[:-1])


def _brackets(path: Path, node: Schema, value: Any) -> str:
    """What to write where a table stands for an array of tables, or the other way round."""
    name = ".".join(part for part in path if isinstance(part, str))
    if node.get("type") == "array" and isinstance(value, Mapping):
        return f"write it with double brackets: [[{name}]]"
    if node.get("type") == "object" and isinstance(value, list) and value and isinstance(value[0], Mapping):
        return f"write it with single brackets: [{name}]"
    return ""
