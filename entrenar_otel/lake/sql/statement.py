"""Statement: what is asked in SQL. One SELECT, which reads; all else is refused before anything is opened.

DuckDB's own parser says what a statement is, and its tokens what is in it: comments and text are neither
words nor names here. Two ways to write or to run other SQL stand within a SELECT: `WITH x AS (COPY …)`, and
functions that take SQL as text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import duckdb

from entrenar_otel.errors import QueryError
from entrenar_otel.lake.sql.severity import COLUMNS, TYPE

#: Functions that run the SQL which they are given as text.
_FUNCTIONS = frozenset({"query", "json_execute_serialized_sql"})
_ORDERED = frozenset({"<", "<=", ">", ">="})
_SELECT_IN_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?=(?:SELECT|WITH|FROM|VALUES)\b)", flags=re.I)


@dataclass(frozen=True)
class Token:
    """A word, name, number, text or operator of a statement."""

    text: str
    end: int  # in bytes
    is_text: bool

    @property
    def name(self) -> str:
        """As a name, whether it is quoted or not."""
        return "" if self.is_text else self.text.strip('"').lower()


def tokens_of(sql: str) -> list[Token]:
    """The tokens of a statement, without comments."""
    data = sql.encode()
    found = []
    parts = duckdb.tokenize(sql)
    for number, (start, kind) in enumerate(parts):
        end = parts[number + 1][0] if number + 1 < len(parts) else len(data)
        text = data[start:end].decode(errors="replace").rstrip()
        if kind != duckdb.token_type.comment:
            is_text = kind == duckdb.token_type.string_const
            found.append(Token(text, start + len(text.encode()), is_text))
    return found


def check_sql(sql: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Accept exactly one SELECT (or its EXPLAIN, without ANALYZE); raises QueryError."""
    statements = _parsed(sql, connection)
    if len(statements) != 1:
        got = f"{len(statements)} statements" if statements else "nothing"
        raise QueryError(f"expected one SELECT, got {got}")
    kind, text = statements[0].type, statements[0].query
    if kind == duckdb.StatementType.EXPLAIN:
        # The query must follow at once: only DuckDB knows what it takes for a comment in between
        inner = _SELECT_IN_EXPLAIN.match(text)
        if inner is None:
            raise QueryError(
                "expected EXPLAIN SELECT …; EXPLAIN ANALYZE and options are not accepted: "
                "they run the statement"
            )
        check_sql(text[inner.end() :], connection)
        return
    # A PIVOT without IN is several statements, of which the last may be anything, a COPY too
    if kind != duckdb.StatementType.SELECT and not (
        kind == duckdb.StatementType.MULTI and _is_query(text, connection)
    ):
        what = "a statement around a PIVOT" if kind == duckdb.StatementType.MULTI else kind.name
        raise QueryError(f"only SELECT is accepted, got {what}: the lake is read-only here")
    _check_words(tokens_of(text))


def _parsed(sql: str, connection: duckdb.DuckDBPyConnection) -> list[duckdb.Statement]:
    try:
        return connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from None


def _is_query(text: str, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a statement that parses may stand in parentheses after FROM: then it only reads."""
    tokens = tokens_of(text)
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    inner = text.encode()[: tokens[-1].end].decode() if tokens else ""
    try:
        statements = connection.extract_statements(f"SELECT * FROM (\n{inner}\n)")
    except duckdb.Error:
        return False
    return len(statements) == 1 and statements[0].type == duckdb.StatementType.MULTI


def _check_words(tokens: list[Token]) -> None:
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if not token.is_text and token.text.lower() == "copy":
            raise QueryError(
                'COPY is not accepted: the lake is read-only here (a column of that name is "copy")'
            )
        if token.name in _FUNCTIONS and following is not None and following.text == "(":
            raise QueryError(f"the function {token.name} is not accepted: only the SELECT itself is")


def by_severity(sql: str) -> str:
    """The statement with every text that `level` or `severity` is compared with as a severity.

    DuckDB would compare the two as text, in which ERROR comes before WARNING.

    >>> by_severity("FROM alerts WHERE level >= 'WARNING' AND name > 'x' -- level > 'x'")
    "FROM alerts WHERE level >= 'WARNING'::severity AND name > 'x' -- level > 'x'"
    """
    tokens = tokens_of(sql)
    ends: set[int] = set()
    for at, token in enumerate(tokens):
        if token.name not in COLUMNS:
            continue
        following = at + 1
        if _text(tokens, following) in _ORDERED:
            ends |= _operand(tokens, following + 1)[1]
        elif _text(tokens, following + (_text(tokens, following) == "not")) == "between":
            low = following + (_text(tokens, following) == "not") + 1
            after, first = _operand(tokens, low)
            if first and _text(tokens, after) == "and":
                ends |= first | _operand(tokens, after + 1)[1]
        before = at - (2 if _text(tokens, at - 1) == "." else 0) - 1  # 'WARNING' <= a.level
        if _text(tokens, before) in _ORDERED and before > 0 and tokens[before - 1].is_text:
            ends.add(tokens[before - 1].end)
    data = sql.encode()
    for end in sorted(ends, reverse=True):
        data = data[:end] + f"::{TYPE}".encode() + data[end:]
    return data.decode()


def _text(tokens: list[Token], at: int) -> str:
    return tokens[at].text.lower() if 0 <= at < len(tokens) else ""


def _operand(tokens: list[Token], at: int) -> tuple[int, set[int]]:
    """Where a text or parameter that begins here is followed by the next token, and where it ends."""
    if at < len(tokens):
        if tokens[at].is_text or tokens[at].text == "?":
            return at + 1, {tokens[at].end}
        if tokens[at].text == "$" and at + 1 < len(tokens):
            return at + 2, {tokens[at + 1].end}
    return at, set()
