"""Hints: what to write instead, where a statement has names that are no columns and no views."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import duckdb

from entrenar_otel.lake.sql.severity import NUMBERS

_COLUMN = re.compile(r'(?:Referenced column|does not have a column named) "([^"]+)"')
_TABLE = re.compile(r"Table with name (.+?) does not exist!")
#: DuckDB's own suggestions, of columns that look alike and tables of its catalog.
_SUGGESTED = re.compile(r'\n(Did you mean|Candidate bindings:) "[^\n]*')
_SEVERITY = re.compile(r"Could not convert string '(.*?)' to ENUM\(.*\)")
_JSON = re.compile(r"Malformed JSON|JSON transform error|Failed to cast value to numerical")
_METRIC_IS = re.compile(r"""\bmetric\s*(?:=|==)\s*'((?:[^']|'')*)'""", flags=re.I)


def is_about_names(error: duckdb.Error) -> bool:
    """Whether a hint may need the names of the metrics."""
    return bool(_COLUMN.search(str(error)) or _TABLE.search(str(error)))


def explained(message: str, sql: str, views: Sequence[str], metrics: Sequence[str]) -> str:
    """What DuckDB says of a wrong statement, and in the last line what to write instead."""
    if (found := _COLUMN.search(message)) is not None:
        hint = _of_column(found[1], sql, metrics)
    elif (found := _TABLE.search(message)) is not None:
        hint = _of_table(found[1].strip('"'), views, metrics)
    elif (found := _SEVERITY.search(message)) is not None:
        return f"{found[1]!r} is no severity: expected one of {', '.join(NUMBERS)}"
    elif _JSON.search(message) and re.search(r"\bconfig\b", sql):
        hint = (
            "Settings are JSON: text is config->>'optimizer' = 'adam', numbers are config.lr::DOUBLE > 0.01"
        )
    else:
        hint = ""
    return f"{_SUGGESTED.sub('', message).rstrip()}\n\n{hint}" if hint else message


def _of_column(name: str, sql: str, metrics: Sequence[str]) -> str:
    is_compared = re.search(rf'(=|\(|,|\b(?:in|like))\s*"{re.escape(name)}"', sql, flags=re.I)
    close = _close(name, metrics)
    if is_compared:
        near = f"; metrics are named {_listed(close or metrics)}" if name not in metrics and metrics else ""
        return f"Text stands in single quotes, names in double ones: '{name}', not \"{name}\"{near}"
    if name in metrics or close:
        metric = name if name in metrics else close[0]
        return (
            f"{metric} is a metric, not a column: "
            f"SELECT step, value FROM metrics WHERE metric = {_text(metric)}"
        )
    return ""


def _of_table(name: str, views: Sequence[str], metrics: Sequence[str]) -> str:
    if name in metrics:
        return f"{name} is a metric: SELECT step, value FROM metrics WHERE metric = {_text(name)}"
    close = _close(name, views)
    if close:
        return f"Is it {close[0]}? The views are {', '.join(views)}"
    return f"The views are {', '.join(views)}"


def unknown_metrics(sql: str, metrics: Sequence[str]) -> str:
    """What to say of an empty answer to a statement that asks for a metric which nobody has logged.

    >>> unknown_metrics("FROM metrics WHERE metric = 'los'", ["accuracy", "loss"])
    "no metric is named 'los'; there are loss, accuracy"
    """
    asked = [text.replace("''", "'") for text in _METRIC_IS.findall(sql)]
    unknown = [name for name in asked if name not in metrics]
    if not unknown or not metrics:
        return ""
    close = _close(unknown[0], metrics)
    return f"no metric is named {unknown[0]!r}; there are {_listed([*close, *metrics])}"


def some_names(name: str, known: Sequence[str]) -> str:
    """Names that are there where this one is not: those that are like it, else the first.

    >>> some_names("los", ["accuracy", "loss"]), some_names("x", [])
    ('loss, accuracy', 'nothing')
    """
    return _listed([*_close(name, known), *known]) or "nothing"


def _close(name: str, known: Sequence[str]) -> list[str]:
    by_lower = {text.lower(): text for text in known}
    return [by_lower[lower] for lower in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.7)]


def _listed(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
