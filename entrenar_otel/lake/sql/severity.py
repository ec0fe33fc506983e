"""Severity: how bad something is, as a type of SQL whose order is that of its meaning."""

from __future__ import annotations

#: The name of the type.
TYPE = "severity"
#: Columns of it.
COLUMNS = frozenset({"level", "severity"})
#: From harmless to worst, with OpenTelemetry's number of each; ours are INFO, WARNING, ERROR and CRITICAL.
NUMBERS = {
    "TRACE": 1,
    "DEBUG": 5,
    "INFO": 9,
    "WARN": 13,
    "WARNING": 13,
    "ERROR": 17,
    "CRITICAL": 21,
    "FATAL": 21,
}
CREATE_TYPE = f"CREATE TYPE {TYPE} AS ENUM {tuple(NUMBERS)}"


def severity(column: str) -> str:
    """A column of text as that type, in SQL; other text is NULL."""
    return f"TRY_CAST(upper({column}) AS {TYPE})"


def severity_number(column: str) -> str:
    """The same as OpenTelemetry's number, in SQL."""
    cases = " ".join(f"WHEN '{name}' THEN {number}" for name, number in NUMBERS.items())
    return f"CASE upper({column}) {cases} END"
